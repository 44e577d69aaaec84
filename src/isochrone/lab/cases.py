"""Cases: a real input and the answer of the model run alone, kept in files between processes.

The demo computes them once (ONNX Runtime in its own process, no network); callers load them and
compare every answer of the fabric with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

Array = np.ndarray[Any, Any]

ABSOLUTE_TOLERANCE = 2e-4
"""Float answers may differ by this: another machine's kernels order sums differently."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One input of a service and its expected output tensors.

    ``task`` is the model's task; ``text`` is set for embeddings (a sentence) and completions (a
    prompt), ``inputs`` (name -> tensor) otherwise.
    """

    service: str
    task: str
    inputs: dict[str, Array] = {}
    expected: dict[str, Array] = {}
    text: str = ""

    def agrees(self, answer: Mapping[str, Array | None]) -> bool:
        """Whether every expected tensor came, with equal shape and values within tolerance."""
        for name, expected in self.expected.items():
            got = answer.get(name)
            if got is None or got.shape != expected.shape:
                return False
            if expected.dtype.kind == "f":
                if not np.allclose(got, expected, rtol=1e-3, atol=ABSOLUTE_TOLERANCE):
                    return False
            elif not np.array_equal(got, expected):
                return False
        return True


def save_cases(folder: Path, service: str, cases: Sequence[Case]) -> None:
    """Write a service's cases: one ``.npz`` of tensors and one ``.json`` of the rest."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Array] = {}
    for index, case in enumerate(cases):
        tensors.update({f"{index}/in/{name}": array for name, array in case.inputs.items()})
        tensors.update({f"{index}/out/{name}": array for name, array in case.expected.items()})
    np.savez(folder / f"{service}.npz", **tensors)  # type: ignore[arg-type]
    heads = [{"task": case.task, "text": case.text} for case in cases]
    (folder / f"{service}.json").write_bytes(msgspec.json.encode(heads))


def load_cases(folder: Path, service: str) -> list[Case]:
    """Read a service's cases back."""
    heads = msgspec.json.decode((folder / f"{service}.json").read_bytes())
    cases = []
    with np.load(folder / f"{service}.npz") as tensors:
        for index, head in enumerate(heads):
            sides: dict[str, dict[str, Array]] = {"in": {}, "out": {}}
            for key in tensors.files:
                number, side, name = key.split("/", 2)
                if int(number) == index:
                    sides[side][name] = tensors[key]
            cases.append(Case(service=service, inputs=sides["in"], expected=sides["out"], **head))
    return cases
