"""A model of one cell for reconciling: a table of leases, nodes that carry orders out, an observer.

Nodes do what the lease machine of a node promises (accept, fetch, warm, serve, drain, end, fail,
die, come back), one step at a time and in any order that a test asks for.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec
from tests.rules.scenery import MODEL, TENANT, address, service

from isochrone.rules.reconcile import Action, Held, Seat, Wanted, plan_leases
from isochrone.schema.lease import Lease, LeaseState
from isochrone.schema.service import Model, Service, service_id

SERVICE_ID = service_id(TENANT, "asr")
NEW_MODEL = Model(engine="onnx", task="tensor", options={"version": "2"})
FORWARD: dict[LeaseState | None, LeaseState] = {
    None: "accepted",
    "accepted": "fetching",
    "fetching": "warming",
    "warming": "serving",
}

Verdict = Literal["alive", "unsure", "dead"]


def wanted(
    *numbers: int,
    declared: Service | None = None,
    barred: Iterable[int] = (),
    tight: Iterable[int] = (),
    replicas: int = 0,
) -> Wanted:
    """A fit that wants one replica on each of these nodes."""
    seats = tuple(
        Seat(node=address(n), provider=f"provider-{n}", price_microusd_per_hour=1000 + n)
        for n in numbers
    )
    return Wanted(
        service_id=SERVICE_ID,
        service=declared or service(),
        cell="fra",
        seats=seats,
        barred=frozenset(map(address, barred)),
        tight=frozenset(map(address, tight)),
        replicas=max(replicas, len(seats)),
        decision="d" * 64,
    )


def lease(
    number: int,
    name: str = "",
    *,
    desired: Literal["serving", "draining", "ended"] = "serving",
    model: Model = MODEL,
    revision: int = 1,
) -> Lease:
    """A lease of the service on a node, as this cell would have written it."""
    declared = service()
    return Lease(
        id=name or f"lease-{number}",
        service=SERVICE_ID,
        service_revision=declared.revision,
        cell="fra",
        node=address(number),
        provider=f"provider-{number}",
        model=model,
        resources=declared.resources,
        residency=declared.residency,
        objective=declared.objective,
        price_microusd_per_hour=1000 + number,
        epoch=1,
        revision=revision,
        desired=desired,
        decision="d" * 64,
        home_cell="fra",
    )


def held(
    made: Lease,
    state: LeaseState | None = "serving",
    verdict: Verdict = "alive",
    for_s: float = 0,
    said_of: int | None = None,
) -> Held:
    return Held(lease=made, state=state, verdict=verdict, for_s=for_s, said_of=said_of)


class Cell:
    """The table, what each node says, who is alive, and a clock. Asserts compare-and-set."""

    def __init__(self) -> None:
        self.table: dict[str, Lease] = {}
        self.said: dict[str, LeaseState] = {}
        self.said_of: dict[str, int] = {}
        self.dead: set[str] = set()
        self.unsure: set[str] = set()
        self.now_s = 0.0
        self.bad_since_s: dict[str, float] = {}
        self._nonce = 0

    def observe(self) -> list[Held]:
        rows = []
        for key, made in sorted(self.table.items()):
            state = self.said.get(key)
            bad = made.node in self.dead or state == "failed"
            bad = bad or (state == "ended" and made.desired == "serving")
            if bad:
                self.bad_since_s.setdefault(key, self.now_s)
            else:
                self.bad_since_s.pop(key, None)
            for_s = self.now_s - self.bad_since_s[key] if bad else 0.0
            rows.append(held(made, state, self.verdict(made.node), for_s, self.said_of.get(key)))
        return rows

    def verdict(self, node: str) -> Verdict:
        if node in self.dead:
            return "dead"
        return "unsure" if node in self.unsure else "alive"

    def plan(self, asked: Wanted, doubt: str = "") -> tuple[Action, ...]:
        self._nonce += 1
        return plan_leases(asked, self.observe(), epoch=2, nonce=self._nonce, doubt=doubt)

    def apply(self, actions: Iterable[Action]) -> None:
        for action in actions:
            key = action.lease.id
            before = self.table.get(key)
            assert action.from_revision == (before.revision if before else 0)
            if action.kind == "forget":
                del self.table[key]
                self.said.pop(key, None)
            else:
                assert action.lease.revision == action.from_revision + 1
                self.table[key] = action.lease

    def advance(self, key: str) -> None:
        """The lease's node takes its next step, having heard the present text."""
        made, state = self.table.get(key), self.said.get(key)
        if made is None or made.node in self.dead:
            return
        self.said_of[key] = made.revision
        if made.desired == "serving":
            if state in FORWARD:
                self.said[key] = FORWARD[state]
            elif state == "draining":
                self.said[key] = "serving"
        elif made.desired == "draining" and state == "serving":
            self.said[key] = "draining"
        else:
            self.said[key] = "ended"

    def fail(self, key: str) -> None:
        if key in self.table and self.table[key].node not in self.dead:
            self.said[key] = "failed"

    def serving(self) -> set[str]:
        """Nodes that really answer: their lease may serve and they have not been killed."""
        return {
            made.node
            for key, made in self.table.items()
            if self.said.get(key) in ("serving", "draining")
            and made.desired != "ended"
            and made.node not in self.dead
        }

    def settle(self, asked: Wanted, rounds: int = 40) -> None:
        """Plan, apply and let every node step, until nothing changes."""
        for _ in range(rounds):
            before = (dict(self.table), dict(self.said), dict(self.said_of))
            self.apply(self.plan(asked))
            for key in sorted(self.table):
                self.advance(key)
            if before == (self.table, self.said, self.said_of):
                return
        raise AssertionError("it never settles")


def upgraded(declared: Service | None = None) -> Service:
    return msgspec.structs.replace(declared or service(), revision=2, model=NEW_MODEL)
