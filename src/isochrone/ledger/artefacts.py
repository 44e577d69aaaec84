"""The compiled contracts: what was built from ``contracts/`` and is committed beside this module.

One JSON file a contract: ``abi``, ``bytecode`` (deployment code), ``deployed_bytecode``
(what then lies at its address, before the immutables; both 0x hex), the digests of its sources
and the compiler's version. ``python -m contracts.build`` writes them.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from isochrone.schema.errors import NotFound

FOLDER = Path(__file__).parent / "artefacts"


class Artefact(msgspec.Struct, frozen=True):
    """One compiled contract; the other keys of its file are for those who build."""

    abi: list[dict[str, Any]]
    bytecode: str
    deployed_bytecode: str


@lru_cache(maxsize=16)
def artefact(name: str) -> Artefact:
    """The contract ``name`` (``bonds``, ``vault``, ``council``, ``test_dollar``)."""
    try:
        data = (FOLDER / f"{name}.json").read_bytes()
    except FileNotFoundError:
        raise NotFound(
            f"There is no compiled contract {name}.", fix="Run `python -m contracts.build`."
        ) from None
    return msgspec.json.decode(data, type=Artefact)
