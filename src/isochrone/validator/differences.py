"""The first field in which two values of one kind differ, by name.

Intuition: "the digests differ" tells nobody where to look. Two structs are walked together in the
order of their fields, lists by index, mappings by sorted key, until something is not equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

import msgspec

ABSENT = "nothing"

TEXT_MAX = 200
"""Of a value that is shown."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Where what was published differs from what was read or computed anew. Values as text."""

    epoch: int
    where: str
    published: str
    recomputed: str

    def sentence(self) -> str:
        """For a person."""
        return f"Epoch {self.epoch}: {self.where} is {self.published}, should be {self.recomputed}."


def first_difference(
    epoch: int, where: str, published: object, recomputed: object
) -> Difference | None:
    """The first difference of two structs or plain values; None when they are equal.

    >>> first_difference(7, "books", {"accounts": {"0xa": 5}}, {"accounts": {"0xa": 4}}).where
    'books.accounts.0xa'
    """
    for path, one, other in _walk(where, _plain(published), _plain(recomputed)):
        return Difference(epoch=epoch, where=path, published=_text(one), recomputed=_text(other))
    return None


def _plain(value: object) -> object:
    return msgspec.to_builtins(value, builtin_types=(bytes,), order="deterministic")


def _walk(path: str, one: object, other: object) -> Iterator[tuple[str, object, object]]:
    if one == other:
        return
    if isinstance(one, dict) and isinstance(other, dict):
        for name in {**one, **other}:
            yield from _walk(f"{path}.{name}", one.get(name, ABSENT), other.get(name, ABSENT))
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        for i, (a, b) in enumerate(zip_longest(one, other, fillvalue=ABSENT)):
            yield from _walk(f"{path}[{i}]", a, b)
    else:
        yield path, one, other


def _text(value: object) -> str:
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= TEXT_MAX else text[:TEXT_MAX] + "…"
