"""Whose word is believed about money: the validators that a configuration names.

Intuition: everybody on the fabric hears and says everything. Gateways and controllers do not read
the chain, so their configuration names the validators (own ones and those elsewhere). Where none is
named, whoever signs is believed: a cell of one's own.

Rules of this file: pure. What a wish asks for is safe to do twice, but not for ever: of each
signer, only a wish that is newer than its last one counts, so that nobody repeats what was heard.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from isochrone.schema.documents import RECORDS_WANTED, unpack, unseal
from isochrone.schema.errors import Forbidden
from isochrone.schema.settling import RecordsWanted

STRANGERS_MAX: Final = 64
"""Signers remembered where none is named."""


def believes(signer: str, validators: Collection[str], known: Collection[str] = ()) -> bool:
    """Whether a signer's word counts. ``known``: those remembered where none is named.

    >>> believes("0xa", ("0xa", "0xb")), believes("0xc", ("0xa", "0xb")), believes("0xc", ())
    (True, False, True)
    """
    if validators:
        return signer in validators
    return signer in known or len(known) < STRANGERS_MAX


class Wishes:
    """Wishes for records as they come; ``validators``: those that the configuration names."""

    def __init__(self, validators: Collection[str]) -> None:
        self._validators = frozenset(validators)
        self._newest: dict[str, int] = {}

    def epoch(self, data: bytes) -> int:
        """The epoch that a packed ``records-wanted`` document asks for.

        Raises InvalidInput and Unauthorized as ``unseal`` does, Forbidden when its signer is not
        believed or has said it, or something newer, before.
        """
        wanted, signer = unseal(unpack(data), RECORDS_WANTED, RecordsWanted)
        if not believes(signer, self._validators, self._newest):
            raise Forbidden(f"{signer} is no validator that is known here.")
        if wanted.at_unix_ms <= self._newest.get(signer, -1):
            raise Forbidden(f"{signer} has said that, or something newer, before.")
        self._newest[signer] = wanted.at_unix_ms
        return wanted.epoch
