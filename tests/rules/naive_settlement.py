"""A second settlement, written from the rules' prose alone: dictionaries, fractions, no cleverness.

It shares no code with ``isochrone.rules`` and is slow on purpose. It returns one plain dictionary;
``plain`` puts real books into the same shape, so that the two can be compared.
"""

from fractions import Fraction
from hashlib import sha256
from math import ceil, comb, floor
from typing import Any

from isochrone.schema.digests import canonical
from isochrone.schema.record_batch import LeaseRecord
from isochrone.schema.settlement import Books, EpochInput, Usage
from isochrone.schema.tally import LATENCY_BOUNDS_MS
from isochrone.schema.typed_data import purpose_of

INFINITY = Fraction(10**18)
HOUR = Fraction(3_600_000)


def plain(books: Books) -> dict[str, Any]:
    """Real books as plain data."""
    return {
        "accounts": books.accounts,
        "held": {
            (row.lease, row.account): {
                until: amount
                for until, amount in enumerate(row.amounts_microusd, row.until_epoch)
                if amount
            }
            for row in books.held
        },
        "purposes": {
            (row.tenant, row.purpose): (row.redeemed_microusd, row.allocated_microusd)
            for row in books.purposes
        },
        "pools": books.pools,
        "validation": books.validation_microusd,
        "remainder": books.remainder_microusd,
        "windows": {
            (w.lease, w.audience): (
                w.since_epoch, w.requests, w.faults, list(w.latency), w.use_microusd,
            )
            for w in books.windows
        },
        "suspects": {(s.node, s.kind): s.appeal for s in books.suspects},
        "accused": {(a.node, a.kind, a.account, a.epoch) for a in books.accused},
        "barred": {(b.node, b.kind): (b.since_epoch, b.until_epoch) for b in books.barred},
        "known": books.known,
    }  # fmt: skip


def deal(total: int, weights: dict[str, int]) -> dict[str, int]:
    """Units one by one to the highest weight per unit; begun a little below everybody's share."""
    entitled = sorted(name for name in weights if weights[name] > 0)
    got = dict.fromkeys(weights, 0)
    if not entitled or total <= 0:
        return got
    everything = sum(weights[name] for name in entitled)
    for name in entitled:
        got[name] = max(0, floor(Fraction(total * weights[name], everything)) - 2)
    while sum(got.values()) < total:
        best = max(Fraction(weights[name], got[name] + 1) for name in entitled)
        first = next(n for n in entitled if Fraction(weights[n], got[n] + 1) == best)
        got[first] += 1
    return got


class Naive:
    """One epoch."""

    def __init__(self, inputs: EpochInput, before: dict[str, Any] | None) -> None:
        self.i = inputs
        self.before = before or {
            "accounts": {}, "held": {}, "purposes": {}, "pools": {}, "validation": 0,
            "remainder": 0, "windows": {}, "chains": {}, "epoch": None,
            "suspects": {}, "accused": set(), "barred": {}, "known": {}, "node": {},
        }  # fmt: skip
        self.node: dict[Any, str] = dict(self.before["node"])
        self.service: dict[str, str] = dict(self.before.get("service", {}))
        self.owner = {key: bond.account for bond in inputs.chain.bonds for key in bond.keys}
        self.stake = {(bond.role, bond.account): bond.stake_microusd for bond in inputs.chain.bonds}
        self.watch: Any = NaiveWatch(inputs, self.before, self.owner)
        self.accounts = dict(self.before["accounts"])
        self.held = {key: dict(slots) for key, slots in self.before["held"].items()}
        self.windows: dict[Any, Any] = {}
        self.length = inputs.end_unix_ms - inputs.start_unix_ms

    # --- who ---

    def bonded(self, role: str, account: str | None) -> bool:
        return self.stake.get((role, account), 0) > 0  # type: ignore[arg-type]

    def counts(self, record: LeaseRecord, usage: Usage) -> bool:
        operator = self.owner.get(usage.gateway)
        own_node = self.owner.get(record.terms.node) == record.terms.provider
        bonded = self.bonded("provider", record.terms.provider)
        return own_node and bonded and self.bonded("operator", operator)

    def one_sided(self, record: LeaseRecord, usage: Usage) -> bool:
        tenant = record.terms.service.split(".")[0]
        return record.terms.provider in {self.owner.get(usage.gateway), tenant}

    # --- what ---

    def the_record(self, lease: str, epoch: int) -> LeaseRecord | None:
        mine = [r for r in self.i.leases if r.terms.lease == lease and r.epoch == epoch]
        for keep in (
            lambda r: -int(r.served_from_unix_ms > 0),
            lambda r: -(INFINITY if r.released_unix_ms == 0 else r.released_unix_ms),
            lambda r: r.served_from_unix_ms,
        ):
            best = min((keep(r) for r in mine), default=None)
            mine = [r for r in mine if keep(r) == best]
        return max(mine, key=canonical, default=None)

    def promise(self, record: LeaseRecord, start: int, end: int) -> int:
        if record.served_from_unix_ms == 0:
            return 0
        if record.released_unix_ms:
            end = min(end, record.released_unix_ms)
        return max(0, end - max(start, record.served_from_unix_ms))

    def answers(self, record: LeaseRecord, usage: Usage) -> int:
        if not self.counts(record, usage):
            return 0
        got = usage.requests - usage.refused - usage.errors_replica - usage.errors_cut
        got = max(0, got)
        return min(got, usage.tenant_requests) if self.one_sided(record, usage) else got

    def live(self, record: LeaseRecord, chains: list[Usage], limit: int, all_seen: bool) -> int:
        views = []
        for gateway in {c.gateway for c in chains}:
            view = 0
            for session in {c.session for c in chains if c.gateway == gateway}:
                mine = [c for c in chains if (c.gateway, c.session) == (gateway, session)]
                longest = max(c.live_ms for c in mine)
                if all_seen:
                    view += longest
                elif self.counts(record, mine[0]):
                    if self.one_sided(record, mine[0]):
                        longest = min(longest, 10_000 * sum(self.answers(record, c) for c in mine))
                    view += longest
            views.append(view)
        return min(limit, max(views, default=0))

    def chains(self, lease: str, late: bool) -> dict[str, Usage]:
        found: dict[str, Usage] = {}
        for usage in self.i.usages:
            if (usage.lease, usage.late) != (lease, late):
                continue
            best = found.setdefault(usage.chain, usage)
            if (best.position, best.tenant_requests) < (usage.position, usage.tenant_requests):
                found[usage.chain] = usage
        return found

    def late_chains(self, lease: str) -> tuple[list[Usage], list[Usage]]:
        """The epoch before, as counted, and with what came late; nothing if nothing is late."""
        late = self.chains(lease, True)
        if not late:
            return [], []
        old: dict[str, Usage] = {}
        if self.before["epoch"] == self.i.epoch - 1:
            old = {c: u for c, u in self.before["chains"].items() if u.lease == lease}
        new = dict(old)
        for name, usage in late.items():
            if name not in old:
                new[name] = usage
            elif usage.position > old[name].position:
                new[name] = self.added(old[name], usage)
        return list(old.values()), list(new.values())

    def added(self, old: Usage, late: Usage) -> Usage:
        fields = {}
        for name in Usage.__struct_fields__:
            a, b = getattr(old, name), getattr(late, name)
            if name == "latency":
                fields[name] = tuple(map(sum, zip(a, b, strict=True)))
            elif name == "tenant_requests":
                fields[name] = max(a, b)
            elif isinstance(a, int) and name not in ("position", "late"):
                fields[name] = a + b
            else:
                fields[name] = b
        return Usage(**fields)

    # --- the epoch ---

    def settle(self) -> dict[str, Any]:
        i, t = self.i, self.i.terms
        rows = {}
        for lease in sorted({r.terms.lease for r in i.leases}):
            now, then = self.the_record(lease, i.epoch), self.the_record(lease, i.epoch - 1)
            old, new = self.late_chains(lease)
            if now is None and (then is None or not self.chains(lease, True)):
                continue
            record = now or then
            assert record is not None
            rows[lease] = self.row(record, now, then or record, old, new)
        purposes = {
            key: [redeemed, allocated]
            for key, (redeemed, allocated) in self.before["purposes"].items()
        }
        for fund in i.chain.funds:
            key = (fund.tenant, fund.purpose)
            purposes.setdefault(key, [0, 0])[0] = fund.redeemed_microusd
        fee_part: dict[str, int] = {}
        charges: dict[str, int] = {}
        for service in sorted({row["record"].terms.service for row in rows.values()}):
            mine = [row for row in rows.values() if row["record"].terms.service == service]
            owed: dict[str, int] = {}
            for row in mine:
                name = row["record"].terms.lease
                owed["use " + name] = row["due"]
                owed["fee " + name] = ceil(Fraction(row["due"] * t.fee_bps, 10_000))
            for operator in {o for row in mine for o in row["answers"]}:
                total = sum(row["answers"].get(operator, 0) for row in mine)
                owed["relay " + operator] = total * t.relay_nanousd_per_request // 1000
            charge = charges[service] = sum(owed.values())
            purse = purposes.get((service.split(".")[0], purpose_of(service).hex()), [0, 0])
            there = purse[0] - purse[1]
            paid = owed if there >= charge else deal(there, owed)
            purse[1] += sum(paid.values())
            scale = Fraction(1) if there >= charge else Fraction(there, charge)
            for row in mine:
                lease = row["record"].terms.lease
                fee_part[lease] = paid["fee " + lease]
                self.pay(row, paid["use " + lease], scale)
            for name, amount in paid.items():
                if name.startswith("relay "):
                    self.give(name[6:], amount)
        for (lease, provider), slots in self.held.items():
            state = self.watch.state(self.node[lease, provider])
            for until in list(slots):
                if state == "taken":
                    tenant = rows[lease]["record"].terms.service if lease in rows else ""
                    self.service[lease] = tenant or self.service[lease]
                    self.give(self.service[lease].split(".")[0], slots.pop(until))
                elif state == "free" and until <= i.epoch:
                    self.give(provider, slots.pop(until))
        pools, validation = self.fees(rows, fee_part)
        moved = sum(redeemed for redeemed, _ in purposes.values())
        return {
            "accounts": {a: amount for a, amount in self.accounts.items() if amount},
            "held": {k: s for k, s in ((k, {u: a for u, a in v.items() if a})
                     for k, v in self.held.items()) if s},
            "purposes": {key: tuple(value) for key, value in purposes.items()},
            "pools": {metro: amount for metro, amount in pools.items() if amount},
            "validation": validation,
            "remainder": i.chain.pot_received_microusd - moved,
            "windows": self.windows,
            "charges": charges,
            "chains": {u.chain: u for lease in {x.lease for x in i.usages}
                       for u in self.chains(lease, False).values()},
            "epoch": i.epoch,
            "node": self.node,
            "service": self.service,
            "known": {node: self.first(node) for node in
                      {row["record"].terms.node for row in rows.values()}
                      | {self.node[k] for k, v in self.held.items() if any(v.values())}},
            **self.watch.after(),
        }  # fmt: skip

    def first(self, node: str) -> int:
        return int(self.before["known"].get(node, self.i.epoch))

    def row(
        self, record: LeaseRecord, now: LeaseRecord | None, then: LeaseRecord,
        old: list[Usage], new: list[Usage],
    ) -> dict[str, Any]:  # fmt: skip
        lease, start, end = record.terms.lease, self.i.start_unix_ms, self.i.end_unix_ms
        chains = list(self.chains(lease, False).values()) if now else []
        promised = self.promise(now, start, end) if now else 0
        paid = self.live(record, chains, promised, False)
        window = self.promise(then, start - self.length, start)
        was, shall = (self.live(then, rows, window, False) for rows in (old, new))
        late = max(0, shall - was)
        price = record.terms.price_microusd_per_hour
        due = floor(price * paid / HOUR)
        due += floor(price * (was + late) / HOUR) - floor(price * was / HOUR)
        answers: dict[str, int] = {}
        sides = {self.owner.get(c.gateway) for c in chains + new if self.counts(record, c)}
        for operator in sides:
            mine = [[c for c in rows if self.owner.get(c.gateway) == operator]
                    for rows in (chains, old, new)]  # fmt: skip
            this, past, full = (sum(self.answers(record, c) for c in rows) for rows in mine)
            answers[str(operator)] = this + max(0, full - past)
        own = any(self.one_sided(record, c) and self.counts(record, c) for c in chains + new)
        return {
            "record": record,
            "promised": promised,
            "seen": self.live(record, chains, promised, True),
            "ms": paid + late,
            "due": due,
            "answers": answers,
            "own": own,
            "samples": self.samples(record, chains, old, new),
        }

    def samples(
        self, record: LeaseRecord, chains: list[Usage], old: list[Usage], new: list[Usage]
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        tenant = record.terms.service.split(".")[0]
        for sign, usages in ((1, chains), (1, new), (-1, old)):
            for u in usages:
                if not self.counts(record, u) or self.owner.get(u.gateway) == tenant:
                    continue
                faults = u.errors_replica + u.errors_cut
                sample = found.setdefault(u.audience, [0, 0, [0] * len(u.latency)])
                sample[0] += sign * max(faults, u.requests - u.refused)
                sample[1] += sign * faults
                sample[2] = [a + sign * b for a, b in zip(sample[2], u.latency, strict=True)]
        return {audience: sample for audience, sample in found.items() if sample[0]}

    def give(self, account: str, amount: int) -> None:
        self.accounts[account] = self.accounts.get(account, 0) + amount

    def pay(self, row: dict[str, Any], earned: int, scale: Fraction) -> None:
        record, t = row["record"], self.i.terms
        lease, provider = record.terms.lease, record.terms.provider
        misses: list[tuple[int, int]] = []  # base, credit
        if row["promised"]:
            base = floor(record.terms.price_microusd_per_hour * row["promised"] / HOUR)
            base = floor(base * scale)
            kept = floor(min(Fraction(1), Fraction(row["seen"] + 2000, row["promised"])) * 10_000)
            misses.append((base, floor(Fraction(base * self.step(t.live, kept), 10_000))))
        shares = deal(earned, {a: s[0] for a, s in row["samples"].items()})
        waiting = {a: w for (of, a), w in self.before["windows"].items() if of == lease}
        for audience in sorted(set(row["samples"]) | set(waiting)):
            since, requests, faults, latency, use = waiting.get(
                audience, (self.i.epoch, 0, 0, [0] * (len(LATENCY_BOUNDS_MS) + 1), 0)
            )
            if audience in row["samples"]:
                more = row["samples"][audience]
                requests, faults = requests + more[0], faults + more[1]
                latency = [a + b for a, b in zip(latency, more[2], strict=True)]
                use += shares[audience]
            if requests >= t.samples_min:
                worst = self.worst(requests, faults, latency, record)
                misses.append((use, floor(Fraction(use * worst, 10_000))))
            elif self.i.epoch < since + 23:
                self.windows[lease, audience] = (since, requests, faults, latency, use)
        misses = [(base, credit) for base, credit in misses if credit > 0]
        due = min(sum(c for _, c in misses), max((b for b, _ in misses), default=0))
        now = min(due, earned)
        slots = self.held.setdefault((lease, provider), {})
        reserve = 0
        for until in sorted(slots):
            part = min(slots[until], due - now - reserve)
            slots[until] -= part
            reserve += part
        self.node.setdefault((lease, provider), record.terms.node)
        self.service[lease] = record.terms.service
        state = self.watch.state(record.terms.node)
        share = t.hold_bps
        if self.i.epoch < self.first(record.terms.node) + t.newcomer_epochs:
            share = max(share, t.newcomer_hold_bps)
        if state == "taken":
            self.give(record.terms.service.split(".")[0], earned + reserve)
            return
        share = 10_000 if state == "waits" else share
        hold = floor(Fraction((earned - now) * share, 10_000))
        until = self.i.epoch + t.hold_epochs
        slots[until] = slots.get(until, 0) + hold
        self.give(provider, earned - now - hold)
        self.give(record.terms.service.split(".")[0], now + reserve)

    def step(self, schedule: Any, attained: int) -> int:
        return int(max((s.credit_bps for s in schedule if attained <= s.attained_bps), default=0))

    def worst(self, requests: int, faults: int, latency: list[int], record: LeaseRecord) -> int:
        t, objective = self.i.terms, record.terms.objective
        whole = max(0, requests - faults)
        found = [self.step(t.availability, floor(Fraction(10_000 * whole, requests)))]
        total = sum(latency)
        if total >= t.samples_min:
            bounds = [*map(Fraction, LATENCY_BOUNDS_MS), INFINITY]
            limit = min(b for b in bounds if b >= objective.latency_ms)
            within = sum(n for n, b in zip(latency, bounds, strict=True) if b <= limit)
            share = Fraction(within, total) / Fraction(round(objective.percentile * 10), 1000)
            found.append(self.step(t.latency, floor(min(Fraction(1), share) * 10_000)))
            ranked = [k for k, n in enumerate(latency) for _ in range(n)]
            p50 = ranked[ceil(Fraction(total, 2)) - 1]
            p99 = ranked[ceil(Fraction(99 * total, 100)) - 1]
            if p99 > 0 and p50 < len(LATENCY_BOUNDS_MS):
                ratio = Fraction(bounds[p99 - 1], bounds[p50])
                if floor(ratio * 100) > t.consistency_max_x100:
                    found.append(t.consistency_credit_bps)
        return max(found)

    def fees(self, rows: dict[str, Any], fee_part: dict[str, int]) -> tuple[dict[str, int], int]:
        i, t = self.i, self.i.terms
        pools, validation = dict(self.before["pools"]), self.before["validation"]
        given: dict[Any, int] = {}
        for lease, row in rows.items():
            fee, terms = fee_part[lease], row["record"].terms
            signers_part = floor(Fraction(fee * t.validator_share_bps, 10_000))
            core_hours = Fraction(terms.resources.cpu_milli, 1000) * row["ms"] / HOUR
            need = floor(core_hours * t.standby_microusd_per_core_hour)
            audience = {m: w for m, w in row["record"].audience.items() if w}
            if row["own"] or not audience:
                need = 0
            into = min(fee - signers_part, need)
            validation += signers_part
            key = tuple(sorted(audience.items()))
            given[key] = given.get(key, 0) + into
            self.give(terms.service.split(".")[0], fee - signers_part - into)
        for key, amount in given.items():
            for metro, part in deal(amount, dict(key)).items():
                pools[metro] = pools.get(metro, 0) + part
        nodes: dict[str, Any] = {}
        for s in i.standby:
            operator = self.owner.get(s.gateway)
            fine = s.epoch == i.epoch and operator != s.provider
            fine = fine and self.watch.state(s.node) == "free"
            fine = fine and self.bonded("operator", operator)
            fine = fine and self.owner.get(s.node) == s.provider
            if fine and self.bonded("provider", s.provider):
                seen = (s.free_cpu_milli * min(s.live_ms, self.length), s.metro, s.provider)
                nodes.setdefault(s.node, []).append(seen)
        for metro in sorted({m for seen in nodes.values() for _, m, _ in seen}):
            mine: dict[str, int] = {}
            for seen in nodes.values():
                amount, where, provider = max(seen)
                if where == metro and amount:
                    mine[provider] = mine.get(provider, 0) + amount
            stood = Fraction(sum(mine.values()))
            covered = floor(min(Fraction(1), stood / (4000 * self.length)) * 10_000)
            top = floor(stood / 1000 / HOUR * t.standby_microusd_per_core_hour)
            payout = min(floor(Fraction(pools.get(metro, 0) * covered, 10_000)), top)
            for provider, amount in deal(payout, mine).items():
                self.give(provider, amount)
                pools[metro] = pools.get(metro, 0) - amount
        bonds = {
            s: self.stake.get(("validator", s), 0)
            for s in i.chain.signers
            if s not in self.watch.unpaid()
        }
        for signer, amount in deal(validation, bonds).items():
            self.give(signer, amount)
            validation -= amount
        return pools, validation


class NaiveWatch:
    """The watch of one epoch, from the prose of ``verdicts`` and ``duties``."""

    def __init__(self, inputs: EpochInput, before: dict[str, Any], owner: dict[str, str]) -> None:
        self.i, self.before, self.owner = inputs, before, owner
        self.who = {w.key: w for w in inputs.chain.watch.watchers}
        self.word = {
            w.validator: {r.node: r for r in w.reports}
            for w in inputs.watches
            if inputs.watch_seed and w.opened and w.secret_ok and w.validator in self.who
        }
        self.heard: dict[Any, str] = {}
        self.seats: dict[str, list[str]] = {}
        self.decide()

    def members(self, node: str) -> list[str]:
        if node not in self.seats:
            self.seats[node] = self.drawn(node)
        return self.seats[node]

    def drawn(self, node: str) -> list[str]:
        mine = [k for k, w in self.who.items() if w.stake_microusd]
        mine = [k for k in mine if self.who[k].account != self.owner.get(node, "")]
        mine.sort(key=lambda k: sha256(f"{self.i.watch_seed}\n{node}\n{k}".encode()).digest())
        everybody = node in {node for node, _ in self.before["suspects"]}
        return mine if everybody else mine[:5]

    def says(self, key: str, node: str, kind: str) -> str:
        if (key, node, kind) not in self.heard:
            self.heard[key, node, kind] = self.reads(key, node, kind)
        return self.heard[key, node, kind]

    def reads(self, key: str, node: str, kind: str) -> str:
        report = self.word.get(key, {}).get(node)
        if report is None:
            return "unknown"
        if kind == "life":
            return self.life(report.asked, report.answered, node)
        return {str(f.kind): str(f.verdict) for f in report.findings}.get(kind, "unknown")

    def life(self, asked: int, answered: int, node: str) -> str:
        if asked and asked == answered:
            return "ok"
        if asked - answered < 2:
            return "unknown"
        sure = self.tail(asked, asked - answered, node) <= Fraction(1, 100)
        return "failed" if sure else "unknown"

    def tail(self, asked: int, missed: int, node: str) -> Fraction:
        i = self.i
        mine = {r.terms.lease for r in i.leases if r.terms.node == node}
        claims = [u.live_ms for u in i.usages if u.lease in mine and not u.late]
        operators = {b.account for b in i.chain.bonds if b.role == "operator" and b.stake_microusd}
        beats: dict[str, int] = {}
        for row in i.standby:
            who = self.owner.get(row.gateway, "")
            if row.node == node and row.epoch == i.epoch and who in operators:
                beats[who] = max(beats.get(who, 0), row.live_ms)
        claims += sorted(beats.values())[:-1]
        bps = floor(Fraction(max(0, *claims, 0), i.end_unix_ms - i.start_unix_ms) * 10_000)
        gone = min(Fraction(1), Fraction(10_000 - min(bps, 10_000), 10_000) * Fraction(3, 2))
        lost = 1 - (1 - gone) * Fraction(98, 100)
        terms = (
            comb(asked, n) * lost**n * (1 - lost) ** (asked - n) for n in range(missed, asked + 1)
        )
        return sum(terms, Fraction(0))

    def most(self, keys: Any, node: str) -> bool:
        whole = sum(self.who[k].stake_microusd for k in self.members(node))
        return bool(whole) and Fraction(
            sum(self.who[k].stake_microusd for k in keys), whole
        ) >= Fraction(2, 3)

    def truth(self, node: str, kind: str) -> str:
        for side in ("failed", "ok"):
            if self.most([k for k in self.members(node) if self.says(k, node, kind) == side], node):
                return "" if side == "ok" and self.shown(node, kind) else side
        return ""

    def counts(self, node: str, kind: str) -> list[tuple[int, int, str]]:
        found = []
        for key in self.members(node):
            report = self.word.get(key, {}).get(node)
            for f in report.findings if report else ():
                if f.kind == kind != "life" and f.looked_at:
                    found.append((f.wrong, f.looked_at, key))
        return found

    def shown(self, node: str, kind: str) -> bool:
        rows = sorted(self.counts(node, kind), key=lambda row: (-row[0], *row[1:]))
        whole = sum(self.who[k].stake_microusd for k in self.members(node))
        while (
            rows
            and 3 * sum(self.who[k].stake_microusd for k in self.gone(node, kind, rows)) < whole
        ):
            rows = rows[1:]
        return self.odd(node, kind, rows)

    def gone(self, node: str, kind: str, rows: Any) -> set[str]:
        return {row[2] for row in self.counts(node, kind)} - {row[2] for row in rows}

    def odd(self, node: str, kind: str, rows: Any) -> bool:
        bad, all_ = sum(row[0] for row in rows), sum(row[1] for row in rows)
        if kind == "answers":
            rate = Fraction(1, 1000)
            tail = sum(
                comb(all_, n) * rate**n * (1 - rate) ** (all_ - n) for n in range(bad, all_ + 1)
            )
            return bad >= 3 and tail <= Fraction(1, 100_000)
        return False

    def decide(self) -> None:
        i, before = self.i, self.before
        self.barred = {c: span for c, span in before["barred"].items() if i.epoch <= span[1]}
        self.suspects, self.accused = {}, set(before["accused"])
        if not self.word:
            self.suspects = dict(before["suspects"])
        new = {}
        for (node, kind), appeal in before["suspects"].items() if self.word else ():
            told = {(a, e) for n, k, a, e in before["accused"] if (n, k) == (node, kind)}
            hours = {e for _, e in told}
            old = {a for a, _ in told}
            for pair in [{x, y} for x in hours for y in hours] or [set()]:
                rest = {a for a, e in told if e not in pair}
                mine = {k: self.who[k].stake_microusd for k in self.members(node)}
                against = sum(bond for k, bond in mine.items() if self.who[k].account in rest)
                if 3 * against <= sum(mine.values()):
                    old = set()
            guilty_by = [
                key for key in self.members(node)
                if self.says(key, node, kind) == "failed" or self.who[key].account in old
            ]  # fmt: skip
            guilty = self.most(guilty_by, node) or self.shown(node, kind)
            looked = [k for k in self.members(node) if node in self.word.get(k, {})]
            if not guilty and node in before["known"] and not self.most(looked, node):
                self.suspects[node, kind] = appeal
                continue
            if guilty and not appeal:
                new[node, kind] = (i.epoch, i.epoch + 23)
            if appeal and not guilty:
                self.barred.pop((node, kind), None)
                self.accused = {a for a in self.accused if a[:2] != (node, kind)}
        for claim, (since, _) in self.barred.items():
            if since == before["epoch"] and any(
                (a.node, a.kind, a.epoch) == (*claim, i.epoch) for a in i.appeals
            ):
                self.suspects[claim] = True
        self.barred |= new
        out = {node for node, _ in self.barred}
        for node in {n for reports in self.word.values() for n in reports} - out:
            for kind in ("life", "place", "hardware", "answers"):
                sides = {k: self.says(k, node, kind) for k in self.members(node)}
                failed = [k for k, side in sides.items() if side == "failed"]
                if (node, kind) in before["suspects"]:
                    continue
                wrongs = self.counts(node, kind)
                pooled = sum(w > 0 for w, _, _ in wrongs) >= 2 and self.odd(node, kind, wrongs)
                if pooled or len(failed) > sum(side == "ok" for side in sides.values()):
                    self.suspects[node, kind] = False
                    self.accused |= {(node, kind, self.who[k].account, i.epoch) for k in failed}
        self.final = {
            c for c, (since, _) in self.barred.items()
            if since != i.epoch and not self.suspects.get(c, False)
        }  # fmt: skip
        self.accused = {a for a in self.accused if a[3] > i.epoch - 168 and a[:2] not in self.final}

    def state(self, node: str) -> str:
        if any(n == node for n, _ in self.final):
            return "taken"
        return "waits" if any(n == node for n, _ in self.barred) else "free"

    def unpaid(self) -> set[str]:
        return {w.account for w in self.who.values() if self.word and not self.served(w.key)}

    def served(self, key: str) -> bool:
        mine = [w for w in self.i.watches if w.validator == key]
        if not mine or not mine[0].opened or not mine[0].secret_ok or mine[0].faults:
            return False
        opposite = {"ok": "failed", "failed": "ok"}
        for node, kind in self.before["suspects"]:
            strict = kind in ("place", "answers")
            if strict and opposite.get(self.truth(node, kind)) == self.says(key, node, kind):
                return False
        score: list[tuple[str, bool]] = []
        for node, kind, account, epoch in self.before["accused"]:
            if account == self.who[key].account and epoch == self.before["epoch"]:
                score.append((self.owner.get(node, ""), self.truth(node, kind) == "ok"))
        for node in {n for reports in self.word.values() for n in reports}:
            if key not in self.members(node):
                continue
            shown = [k for k in self.members(node)
                     if node in self.word.get(k, {}) and self.word[k][node].evidence]  # fmt: skip
            whose = self.owner.get(node, "")
            if self.most(shown, node):
                score.append((whose, key not in shown))
            for kind in ("life", "place", "hardware", "answers"):
                truth, said = self.truth(node, kind), self.says(key, node, kind)
                if truth and said != "unknown":
                    score.append((whose, said != truth))
        owners = {whose for whose, _ in score}
        if len(owners) >= 4:
            most = max(
                owners,
                key=lambda one: (
                    sum(bad for whose, bad in score if whose == one),
                    -sum(whose == one for whose, _ in score),
                ),
            )
            score = [row for row in score if row[0] != most]
        return sum(bad for _, bad in score) <= max(1, len(score) // 10)

    def after(self) -> dict[str, Any]:
        return {"suspects": self.suspects, "accused": self.accused, "barred": self.barred}
