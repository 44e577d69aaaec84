"""Which rules made the records that there are, so that each is replayed by its own.

Intuition: a record names its rule (``placement/2``). The rule that decides today is one entry;
every rule that once decided is another, frozen whole (``rules.frozen``), so that a decision of
years ago still comes out of its inputs byte for byte and the provider that lost can check it.

Rules of this file: a name here is never given to other code. What is not here is refused by name,
with the names that are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from isochrone.rules import placement, where
from isochrone.rules.frozen import placement_2
from isochrone.schema.decision import Decision
from isochrone.schema.digests import canonical, decode
from isochrone.schema.errors import InvalidInput
from isochrone.schema.where import WhereDecision


class Version(msgspec.Struct, frozen=True):
    """One rule. ``replay``: inputs' bytes → canonical bytes of the decision. ``as_recorded``: a
    record's bytes as some later version wrote them again → as this rule wrote them."""

    replay: Callable[[bytes, bytes], bytes]
    as_recorded: Callable[[bytes], bytes]


class _Named(msgspec.Struct, frozen=True):
    """All that is read of a record before it is known whose it is."""

    rule: str


def rules() -> tuple[str, ...]:
    """The names of all rules whose records can be replayed here."""
    return tuple(sorted(_VERSIONS))


def replay(decision: bytes, inputs: bytes) -> bytes:
    """Canonical bytes of the decision that the record's own rule makes of the inputs' bytes.

    Equal to ``as_recorded(decision)`` for a true record. Raises InvalidInput when either cannot
    be read, or when the record's rule is not among ``rules()``.
    """
    return _version(decision).replay(decision, inputs)


def as_recorded(decision: bytes) -> bytes:
    """The bytes of a record as its rule wrote them, whatever version has copied it since.

    A copy may have gained fields with their defaults; what the rule did not write is left out.
    Raises InvalidInput as ``replay``.
    """
    return _version(decision).as_recorded(decision)


def _version(decision: bytes) -> Version:
    name = decode(decision, _Named, "decision record").rule
    version = _VERSIONS.get(name)
    if version is None:
        raise InvalidInput(
            f"The record was made by {name[:40]!r}; this version has {', '.join(rules())}.",
            fix="Replay it with a version of isochrone that has this rule.",
        )
    return version


def _placement(decision: bytes) -> bytes:
    return canonical(decode(decision, Decision, "decision record"))


def _where(decision: bytes) -> bytes:
    return canonical(decode(decision, WhereDecision, "decision record"))


_VERSIONS: Mapping[str, Version] = {
    placement.RULE: Version(placement.replay, _placement),
    where.RULE: Version(where.replay, _where),
    placement_2.RULE: Version(
        lambda _, inputs: placement_2.replay(inputs), placement_2.as_recorded
    ),
}
