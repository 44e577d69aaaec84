"""Small economies: builders of records, and hypothesis strategies of whole histories of epochs."""

import random
from typing import Any

from hypothesis import strategies as st

from isochrone.schema.chain_snapshot import Bonded, ChainSnapshot, Fund, Watcher, WatchStart
from isochrone.schema.deployment import Role, Terms
from isochrone.schema.node import Resources
from isochrone.schema.proof import KINDS, Appeal, Finding, Kind, NodeReport, Verdict
from isochrone.schema.record_batch import LeaseRecord, StandbyRecord
from isochrone.schema.service import Objective
from isochrone.schema.settlement import Books, EpochInput, Usage, WatchReport
from isochrone.schema.tally import BUCKETS, LeaseTerms
from isochrone.schema.typed_data import purpose_of

EPOCH_MS = 3_600_000
PLAIN = Terms(samples_min=100, hold_epochs=4, newcomer_epochs=0)


def account(number: int) -> str:
    return f"0x{number:040x}"


PROVIDER, OPERATOR, VALIDATOR, TENANT = (account(n) for n in (1, 2, 3, 4))
NODE, GATEWAY = account(11), account(21)


def start_ms(epoch: int) -> int:
    return 1_000_000_000 + epoch * EPOCH_MS


def terms(lease: str = "l1", **changes: Any) -> LeaseTerms:
    values: dict[str, Any] = {
        "lease": lease,
        "service": f"{TENANT}.search",
        "cell": "fra",
        "node": NODE,
        "provider": PROVIDER,
        "resources": Resources(cpu_milli=500),
        "objective": Objective(latency_ms=50.0),
        "price_microusd_per_hour": 20_000,
        "decision": "",
        **changes,
    }
    return LeaseTerms(tenant=values["service"].split(".")[0], **values)


def record(epoch: int = 7, lease: str = "l1", **changes: Any) -> LeaseRecord:
    mine = ("served_from_unix_ms", "released_unix_ms", "audience")
    values: dict[str, Any] = {
        "served_from_unix_ms": start_ms(epoch) - 5_000,
        "released_unix_ms": 0,
        "audience": {"frankfurt": 3, "lyon": 1},
        **{name: changes.pop(name) for name in mine if name in changes},
    }
    return LeaseRecord(
        epoch=epoch, terms=terms(lease, **changes), node_grant=b"", service_document=b"", **values
    )


def histogram(**counts: int) -> tuple[int, ...]:
    """``b5=90`` puts 90 into bucket 5."""
    latency = [0] * BUCKETS
    for name, count in counts.items():
        latency[int(name[1:])] = count
    return tuple(latency)


def usage(chain: str = "c1", lease: str = "l1", **changes: Any) -> Usage:
    values: dict[str, Any] = {
        "gateway": GATEWAY,
        "audience": "fra",
        "session": "s1",
        "position": 1,
        "head": "",
        "live_ms": EPOCH_MS,
        **dict.fromkeys(
            ("requests", "errors_caller", "errors_replica", "errors_cut", "refused"), 0
        ),
        **dict.fromkeys(("tokens_in", "tokens_out", "bytes_in", "bytes_out"), 0),
        **changes,
    }
    return Usage(chain=chain, lease=lease, **values)


def standby(**changes: Any) -> StandbyRecord:
    values: dict[str, Any] = {
        "epoch": 7,
        "node": NODE,
        "provider": PROVIDER,
        "cell": "fra",
        "metro": "frankfurt",
        "gateway": GATEWAY,
        "live_ms": EPOCH_MS,
        "free_cpu_milli": 1_000,
        **changes,
    }
    return StandbyRecord(**values)


def bond(owner: str, role: Role, *keys: str, stake: int = 1_000_000) -> Bonded:
    return Bonded(account=owner, role=role, stake_microusd=stake, keys=keys)


BONDS = (
    bond(PROVIDER, "provider", NODE),
    bond(OPERATOR, "operator", GATEWAY),
    bond(VALIDATOR, "validator"),
)


def fund(service: str, redeemed: int) -> Fund:
    return Fund(
        tenant=service.split(".")[0],
        purpose=purpose_of(service).hex(),
        deposit_microusd=0,
        redeemed_microusd=redeemed,
    )


def snapshot(*funds: Fund, **changes: Any) -> ChainSnapshot:
    values: dict[str, Any] = {
        "block": 100,
        "block_hash": "",
        "bonds": BONDS,
        "pot_received_microusd": sum(f.redeemed_microusd for f in funds),
        "signers": (VALIDATOR,),
        "last_epoch": -1,
        "last_root": "",
        **changes,
    }
    return ChainSnapshot(funds=funds, **values)


def epoch_input(number: int = 7, previous: Books | None = None, **changes: Any) -> EpochInput:
    values: dict[str, Any] = {
        "terms": PLAIN,
        "chain": snapshot(fund(f"{TENANT}.search", 10_000_000)),
        "usages": (usage(),),
        "leases": (record(number),),
        "standby": (),
        **changes,
    }
    return EpochInput(
        epoch=number,
        start_unix_ms=start_ms(number),
        end_unix_ms=start_ms(number + 1),
        previous=previous,
        **values,
    )


# --- histories -----------------------------------------------------------------------------------

PEOPLE = tuple(account(n) for n in range(1, 6))
NODES = tuple(account(n) for n in range(11, 16))
GATEWAYS = tuple(account(n) for n in range(21, 25))
SERVICES = (f"{PEOPLE[0]}.alpha", f"{PEOPLE[3]}.beta", f"{PEOPLE[4]}.gamma")
AUDIENCES: tuple[dict[str, int], ...] = (
    {"frankfurt": 1},
    {"frankfurt": 3, "lyon": 2, "oslo": 0},
    {"lyon": 1, "oslo": 6},
    {},
)
TIMES_MS = (0, 9_999, 1_200_000, 3_595_500, 3_600_000, 3_600_000, 3_600_000, 5_000_000)
COUNTS = (0, 0, 1, 3, 40, 120, 120, 5_000)
RARE_COUNTS = (0, 0, 0, 0, 0, 1, 3, 40)


def watchers(*stakes: int) -> tuple[Watcher, ...]:
    """Validators of a watch: keys from 31 on, of accounts from 1 on."""
    return tuple(
        Watcher(key=account(31 + n), account=account(1 + n), stake_microusd=stake)
        for n, stake in enumerate(stakes)
    )


def node_report(
    node: str,
    *findings: Finding,
    asked: int = 0,
    answered: int = 0,
    evidence: tuple[bytes, ...] = (b"signed",),
) -> NodeReport:
    return NodeReport(
        node=node, asked=asked, answered=answered, findings=findings, evidence=evidence
    )


def watch_report(watcher: Watcher, epoch: int, *reports: NodeReport, **changes: Any) -> WatchReport:
    values: dict[str, Any] = {"opened": True, "secret_ok": True, **changes}
    return WatchReport(
        validator=watcher.key, account=watcher.account, watch=epoch, reports=reports, **values
    )


class World:
    """Draws a history; everything comes from one seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.some = self.chance.choice
        self.bonds = self._bonds()
        self.leases = [self._lease(f"l{n}") for n in range(self.chance.randint(1, 4))]
        self.watchers = watchers(*(self.some((0, 1, 1, 1, 5)) for _ in range(self.some((0, 5, 7)))))
        self.liar = self.some(NODES[:3])
        self.eager = self.some((0.5, 0.97))
        self.careless = self.some((*self.watchers, None))

    def rarely(self) -> bool:
        return self.chance.random() < 0.15

    def _bonds(self) -> tuple[Bonded, ...]:
        """Nodes and gateways of the same few people; the last key of each kind is unknown."""
        self.owner = {node: self.some(PEOPLE[:3]) for node in NODES[:-1]}
        self.owner |= {gateway: self.some(PEOPLE[1:4]) for gateway in GATEWAYS[:-1]}
        rows = []
        for person in PEOPLE:
            for role, keys in (("provider", NODES), ("operator", GATEWAYS), ("validator", ())):
                mine = tuple(key for key in keys if self.owner.get(key) == person)
                stake = 0 if self.rarely() else self.some((1, 500_000, 1_000_000))
                rows.append(bond(person, role, *mine, stake=stake))  # type: ignore[arg-type]
        return tuple(rows)

    def _lease(self, lease: str) -> LeaseRecord:
        node = self.some(NODES[:3]) if not self.rarely() else self.some(NODES)
        provider = self.some(PEOPLE) if self.rarely() else self.owner.get(node, PEOPLE[0])
        return record(
            0,
            lease,
            service=self.some(SERVICES),
            node=node,
            provider=provider,
            resources=Resources(cpu_milli=self.some((0, 500, 64_000))),
            objective=self.some(
                (
                    Objective(latency_ms=60.0),
                    Objective(latency_ms=5.0, percentile=99.9),
                    Objective(latency_ms=30_000.0, percentile=50.0),
                )
            ),
            price_microusd_per_hour=self.some((0, 1, 977, 20_000, 20_000, 3_000_000)),
            audience=self.some(AUDIENCES),
        )

    def usages(self, epoch: int, lease: str, before: list[Usage]) -> list[Usage]:
        """Chains of one lease: new ones, and late ones that may go on from those ``before``."""
        found = []
        for number in range(self.chance.randint(0, 3)):
            late = epoch > 0 and self.chance.random() < 0.3
            names = {
                "gateway": self.some((*GATEWAYS[:2], *GATEWAYS)),
                "audience": self.some(("fra", "sin")),
                "session": self.some(("s1", "s2")),
            }
            chain, position = f"{epoch - late}-{lease}-{number}{'-late' * late}", 3
            if late and before and self.some((True, False)):
                former = self.some(before)
                names = {name: getattr(former, name) for name in names}
                chain, position = former.chain, former.position + self.chance.randint(0, 2)
            if any((made.chain, made.position) == (chain, position) for made in found):
                continue  # one head fixes one set of counts
            answered, refused = self.some(COUNTS), self.some(RARE_COUNTS)
            faults, cut, caller = (self.some(RARE_COUNTS) for _ in range(3))
            found.append(
                usage(
                    chain,
                    lease,
                    **names,
                    position=position,
                    requests=answered + refused + faults + cut,
                    refused=refused,
                    errors_replica=faults,
                    errors_cut=cut,
                    errors_caller=caller,
                    live_ms=self.some(TIMES_MS),
                    latency=histogram(
                        b3=answered,
                        b9=self.some(RARE_COUNTS),
                        b16=self.some(RARE_COUNTS),
                        b23=self.some(RARE_COUNTS),
                    ),
                    tenant_requests=self.some(COUNTS),
                    late=late,
                )
            )
        return found

    def standby(self, epoch: int) -> tuple[StandbyRecord, ...]:
        """What gateways say of free nodes."""
        found = []
        for _ in range(self.chance.randint(0, 5)):
            node = self.some(NODES)
            found.append(
                standby(
                    epoch=epoch - self.rarely(),
                    node=node,
                    provider=self.owner.get(node, PEOPLE[0]),
                    metro=self.some(("frankfurt", "lyon")),
                    gateway=self.some(GATEWAYS),
                    live_ms=self.some(TIMES_MS),
                    free_cpu_milli=self.some((0, 3, 1_000, 1_000, 6_000)),
                )
            )
        return tuple(found)

    def records(self, epoch: int, lease: LeaseRecord) -> list[LeaseRecord]:
        """A lease's records in an epoch: of it; of the epoch before (for what is late); and
        sometimes one more that contradicts."""
        start = start_ms(epoch)
        found = []
        for number in (epoch, epoch - 1, epoch):
            if self.rarely() or (found and number == epoch and not self.rarely()):
                continue
            found.append(
                record(
                    number,
                    lease.terms.lease,
                    served_from_unix_ms=self.some(
                        (start - 9 * EPOCH_MS, start - 9 * EPOCH_MS, start - 7, start + 600_000, 0)
                    ),
                    released_unix_ms=self.some((0, 0, 0, start + 1_800_000, start - 1)),
                    audience=lease.audience,
                    **{
                        name: getattr(lease.terms, name)
                        for name in (
                            "service",
                            "node",
                            "provider",
                            "resources",
                            "objective",
                            "price_microusd_per_hour",
                        )
                    },
                )
            )
        return found

    def watches(self, epoch: int) -> tuple[WatchReport, ...]:
        """Mostly everybody opens, and finds the liar failed as often as not."""
        found = []
        for watcher in self.watchers:
            if self.rarely() and self.rarely():
                continue
            found.append(
                watch_report(
                    watcher,
                    epoch,
                    *(
                        node_report(
                            node,
                            *(self._finding(node, kind) for kind in KINDS[2:]),
                            asked=4,
                            answered=self.some((0, 2, 3) if node == self.liar else (3, 4, 4)),
                            evidence=() if watcher == self.careless or self.rarely() else (b"s",),
                        )
                        for node in NODES[:4]
                        if self.chance.random() < self.eager
                    ),
                    opened=not self.rarely(),
                    secret_ok=not self.rarely(),
                    next_secret=self.some(("", "aa")),
                    faults=self.some(((), (), (), (), ("false", "another"))),
                )
            )
        return tuple(found)

    def _finding(self, node: str, kind: Kind) -> Finding:
        verdict: Verdict = self.some(("ok", "ok", "ok", "unknown"))
        if node == self.liar and self.chance.random() < self.eager:
            verdict = "failed"
        looked_at = self.some((0, 24)) if kind == "answers" else 0
        wrong = self.some((0, 1, 2)) if looked_at and node == self.liar else 0
        note = self.some(("", "late"))
        return Finding(kind=kind, verdict=verdict, note=note, wrong=wrong, looked_at=looked_at)

    def appeals(self, epoch: int) -> tuple[Appeal, ...]:
        """Of the liar, often; sometimes of others, and of the wrong epoch."""
        return tuple(
            Appeal(node=self.some((self.liar, *NODES)), kind=kind, epoch=epoch - self.rarely())
            for kind in KINDS
            if self.some((True, False))
        )

    def terms(self) -> Terms:
        return Terms(
            fee_bps=self.some((0, 137, 200)),
            validator_share_bps=self.some((0, 4_000, 10_000)),
            hold_bps=self.some((0, 2_000, 3_333)),
            hold_epochs=self.some((0, 1, 3)),
            newcomer_hold_bps=self.some((0, 5_000, 10_000)),
            newcomer_epochs=self.some((0, 2)),
            samples_min=self.some((1, 100, 400)),
            standby_microusd_per_core_hour=self.some((0, 2_000, 100_000)),
            relay_nanousd_per_request=self.some((0, 200, 9_999)),
            consistency_max_x100=self.some((2_000, 200)),
        )

    def history(self) -> list[EpochInput]:
        """Inputs of consecutive epochs; ``previous`` is to be filled in while settling."""
        moved = dict.fromkeys(SERVICES, 0)
        penalties = 0
        before: dict[str, list[Usage]] = {}
        found = []
        for epoch in range(self.chance.randint(1, 5)):
            chains = {
                lease.terms.lease: self.usages(
                    epoch, lease.terms.lease, before.get(lease.terms.lease, [])
                )
                for lease in self.leases
            }
            for service in SERVICES:
                moved[service] += self.some((0, 313, 20_000, 9_000_000, 9_000_000))
            penalties += self.some((0, 0, 77))
            found.append(
                epoch_input(
                    epoch,
                    terms=self.terms(),
                    chain=snapshot(
                        *(fund(service, amount) for service, amount in moved.items()),
                        bonds=self.bonds,
                        pot_received_microusd=sum(moved.values()) + penalties,
                        signers=tuple(self.chance.sample(PEOPLE, self.chance.randint(0, 3))),
                        watch=WatchStart(watchers=self.watchers),
                    ),
                    watches=self.watches(epoch),
                    watch_seed=self.some(("", *("ab", "cd", "ef") * 3)),
                    appeals=self.appeals(epoch),
                    usages=tuple(u for made in chains.values() for u in made),
                    leases=tuple(r for lease in self.leases for r in self.records(epoch, lease)),
                    standby=self.standby(epoch),
                )
            )
            before = {lease: [u for u in made if not u.late] for lease, made in chains.items()}
        return found


class History(list[EpochInput]):
    """Shown by its seed: a whole history fills pages."""

    def __init__(self, seed: int) -> None:
        super().__init__(World(seed).history())
        self.seed = seed

    def __repr__(self) -> str:
        return f"History({self.seed})"


histories = st.integers(0, 2**48).map(History)
"""Whole histories. Every number is drawn evenly: shrinking finds no smaller world, only another."""
