"""Which recorded decisions looked at a node, for whoever may know what became of it.

A node's fate is its provider's business as much as the tenant's: the provider sees every decision
in which one of its nodes stood, with its own nodes and the winners, and the inputs that go with it:
what is needed to run the decision again (offers, places and declarations are told between cells
anyway). A stranger sees nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from isochrone.schema.decision import Decision
from isochrone.schema.errors import InvalidInput

DECISIONS_MAX = 200
"""Decisions in one answer, the newest: each is a few hundred bytes."""

PREFIX_MIN = 4
"""Characters of an address without its 0x: fewer name everybody."""

Sees = Callable[[str], bool]
"""Whether the signer may see what belongs to an account."""


def considered(records: Iterable[list[Decision]], start: str, sees: Sees) -> list[Decision]:
    """The newest decision of each service, kind and cell that considered a node whose address
    begins with ``start``, oldest first; each with the rows of such nodes and the winners' alone.

    ``sees`` is asked for each node, its provider and the service's tenant. Raises InvalidInput for
    a beginning of less than ``PREFIX_MIN`` hexadecimal digits.
    """
    digits = start.removeprefix("0x")
    if len(digits) < PREFIX_MIN or not set(digits) <= set("0123456789abcdef"):
        raise InvalidInput(
            f"{start[:42]!r} is no beginning of a node's address.",
            fix=f"Give 0x and at least {PREFIX_MIN} lower-case hexadecimal digits.",
        )
    newest: dict[tuple[str, str, str], Decision] = {}
    for decisions in records:
        for decision in decisions:
            everything = sees(decision.service.partition(".")[0])
            mine = {
                row.node
                for row in decision.candidates
                if row.node.startswith(start)
                and (everything or sees(row.provider) or sees(row.node))
            }
            if mine:
                rows = tuple(r for r in decision.candidates if r.chosen or r.node in mine)
                key = decision.service, decision.kind, decision.cell
                known = newest.get(key)
                if known is None or known.at_unix_ms <= decision.at_unix_ms:
                    newest[key] = msgspec.structs.replace(decision, candidates=rows)
    found = sorted(newest.values(), key=lambda decision: decision.at_unix_ms)
    return found[-DECISIONS_MAX:]


class _Part(msgspec.Struct):
    service: str


class _Machine(msgspec.Struct):
    address: str
    provider: str


class _Free(msgspec.Struct):
    node: _Machine


class _Record(msgspec.Struct):
    """What says whose a record is: one service's inputs, or those of all services of a home."""

    tenant: str = ""
    services: tuple[_Part, ...] = ()
    nodes: tuple[_Free, ...] = ()


def accounts_of(content: bytes) -> frozenset[str]:
    """Whose business a decision's inputs, or a joint record, are: tenants, nodes and providers."""
    record = msgspec.json.decode(content, type=_Record)
    together = (part.service.partition(".")[0] for part in record.services)
    machines = (free.node for free in record.nodes)
    owners = (name for machine in machines for name in (machine.address, machine.provider))
    return frozenset(filter(None, (record.tenant, *together, *owners)))
