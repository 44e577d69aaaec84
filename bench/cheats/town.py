"""One run: honest nodes, liars among them, twelve validators, a week of watches by the real rules.

Per epoch every validator's looks are made, told or lied about, and put before ``rules.ballots``,
``rules.verdicts`` and ``rules.duties`` as verified inputs of a settlement; purses follow. Nodes of
which every look is fine change no verdict, so of those only ``SHOWN`` are put before the rules in
each epoch; they are what a careless validator is measured by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from bench.cheats.looks import Look, report
from bench.cheats.nodes import Cheat, Sight
from bench.cheats.noise import CHECKS, Honest
from bench.cheats.purse import Purse
from bench.cheats.validators import Liar

from isochrone.rules.ballots import Ballots
from isochrone.rules.duties import unpaid
from isochrone.rules.parties import Parties, parties_of
from isochrone.rules.verdicts import Ruling, ruling
from isochrone.schema.chain_snapshot import Bonded, ChainSnapshot, Watcher, WatchStart
from isochrone.schema.deployment import Terms
from isochrone.schema.node import Resources
from isochrone.schema.record_batch import LeaseRecord
from isochrone.schema.service import Objective
from isochrone.schema.settlement import Books, EpochInput, Usage, WatchReport
from isochrone.schema.tally import LeaseTerms

SEATS = 12
SHOWN = 12
HOUR_MS = 3_600_000
PAY = 1_000_000
HONEST = Ruling()


class Player(msgspec.Struct, kw_only=True):
    """A liar's node in a run: what it does, and what came of it. ``row``: its machine's noise."""

    cheat: Cheat
    x: float
    begin: int
    row: int
    node: str
    purse: Purse
    caught: int = -1
    honest_pay: int = 0

    @property
    def epochs_to_catch(self) -> int:
        """From the first lie to the verdict or credit; -1: never."""
        return self.caught - self.begin + 1 if self.caught >= 0 else -1

    @property
    def profit_ratio(self) -> float:
        """Over the same hardware told truthfully."""
        return self.purse.worth / self.honest_pay if self.honest_pay else 0.0


class Seat(msgspec.Struct, kw_only=True):
    """A validator in a run. ``liar`` None: honest. ``paid``: epochs."""

    watcher: Watcher
    liar: Liar | None = None
    x: float = 1.0
    paid: int = 0
    caught: int = -1


class Town:
    """Build it, ``play`` it, read ``players``, ``seats``, ``false_penalties``, ``suspicions``.

    ``wrongs``: what the verdicts against honest nodes say.
    """

    def __init__(
        self,
        chance: np.random.Generator,
        servers: list[Any],
        *,
        honest: int,
        epochs: int,
        cheats: Sequence[tuple[Cheat, float, int]] = (),
        liars: Sequence[tuple[Liar, float]] = (),
        special: bool = False,
    ) -> None:
        self._chance = chance
        self._epochs = epochs
        self._honest = honest
        self._noise = Honest(
            chance, servers, honest + len(cheats), SEATS, epochs, sound=len(cheats)
        )
        self._names = [f"honest-{n}" for n in range(honest)]
        if special:
            self._names[0] = "victim-0"
        kind = "friend" if special else "liar"
        self.players = [
            Player(cheat=c, x=x, begin=b, row=honest + n, node=f"{kind}-{n}-1", purse=Purse())
            for n, (c, x, b) in enumerate(cheats)
        ]
        self.seats = [
            Seat(watcher=Watcher(key=f"key-{n:02}", account=f"val-{n:02}", stake_microusd=100))
            for n in range(SEATS)
        ]
        for seat, (liar, x) in zip(self.seats, liars, strict=False):
            seat.liar, seat.x = liar, x
        self.false_penalties = self.suspicions = 0
        self.wrongs: list[str] = []
        self._chain = ChainSnapshot(
            block=0,
            block_hash="",
            bonds=tuple(
                Bonded(account=s.watcher.account, role="validator", stake_microusd=100)
                for s in self.seats
            ),
            funds=(),
            pot_received_microusd=0,
            signers=(),
            last_epoch=-1,
            last_root="",
            watch=WatchStart(watchers=tuple(seat.watcher for seat in self.seats)),
        )
        self._parties: Parties = parties_of(self._chain)
        self._books = Books(epoch=0, previous="", accounts={})
        noise = self._noise
        missed = (noise.asked - noise.answered)[:honest]
        odd = (missed >= 2).any(axis=2) | (missed.sum(axis=2) >= 4)
        odd |= (noise.wrong[:honest].sum(axis=2) >= 2) | ~noise.fast[:honest]
        odd &= noise.up[:honest] > 0
        self._odd = odd

    def play(self) -> None:
        """All epochs."""
        for epoch in range(self._epochs):
            self._play(epoch)

    def _play(self, epoch: int) -> None:
        number = epoch + 1
        suspects = {one.node for one in self._books.suspects}
        rows = self._rows(epoch, suspects)
        looks = [
            {node: self._look(node, row, epoch, seat, suspects) for node, row in rows.items()}
            for seat in range(SEATS)
        ]
        told = [self._told(seat, looks[n]) for n, seat in enumerate(self.seats)]
        inputs = self._inputs(number, rows, told)
        ballots = Ballots(inputs, self._parties)
        ruled = ruling(inputs, ballots)
        lazy = {one.account for one in unpaid(inputs, ballots)}
        self._books = Books(
            epoch=number,
            previous="",
            accounts={},
            suspects=ruled.suspects,
            accused=ruled.accused,
            barred=ruled.barred,
        )
        for seat in self.seats:
            if seat.watcher.account not in lazy:
                seat.paid += 1
            elif seat.caught < 0:
                seat.caught = epoch
        liars = {player.node for player in self.players}
        self.suspicions += sum(one.node not in liars for one in ruled.suspects)
        new = [bar for bar in ruled.barred if bar.since_epoch == number]
        honest = [bar for bar in new if bar.node.startswith(("honest", "victim"))]
        self.false_penalties += len(honest)
        self.wrongs += [f"{bar.node}: {bar.kind}: {bar.note}" for bar in honest]
        for player in self.players:
            self._pay(player, epoch, ruled, suspects)

    def _rows(self, epoch: int, suspects: set[str]) -> dict[str, int]:
        """Nodes that are put before the rules, with the row of their noise."""
        odd = self._odd[:, epoch]
        rows = {self._names[n]: int(n) for n in np.flatnonzero(odd)}
        rows |= {name: n for n, name in enumerate(self._names) if name in suspects}
        rows.setdefault(self._names[0], 0)
        first = int(self._chance.integers(0, self._honest))
        for step in range(SHOWN):
            n = (first + step) % self._honest
            rows.setdefault(self._names[n], n)
        rows |= {player.node: player.row for player in self.players}
        return rows

    def _look(self, node: str, row: int, epoch: int, seat: int, suspects: set[str]) -> Look:
        noise = self._noise
        works = bool(noise.worked[row, epoch])
        fast = bool(noise.fast[row, epoch])
        honest = Look(
            int(noise.asked[row, epoch, seat]),
            int(noise.answered[row, epoch, seat]),
            CHECKS if noise.up[row, epoch] > 0.5 else 0,
            int(noise.wrong[row, epoch, seat]),
            (1 if fast else 3) if works else 0,
            fast,
        )
        if row < self._honest:
            return honest
        player = self.players[row - self._honest]
        if epoch < player.begin or not player.cheat.is_lying(node in suspects):
            return honest
        slow = 1.0 if fast else 2.0
        sight = Sight(float(noise.spare[row]) / slow, self._chance)
        seen = player.cheat.look(player.x, honest, sight)
        if seen.works and not (seen.fast and seen.kept):
            seen = msgspec.structs.replace(seen, works=3)
        return seen

    def _told(self, seat: Seat, seen: dict[str, Look]) -> tuple[Any, ...] | None:
        if seat.liar is not None:
            return seat.liar.told(seat.x, seen, self._chance)
        return tuple(report(node, look) for node, look in seen.items())

    def _inputs(self, number: int, rows: dict[str, int], told: list[Any]) -> EpochInput:
        watches = tuple(
            WatchReport(
                validator=seat.watcher.key,
                account=seat.watcher.account,
                watch=number,
                opened=reports is not None,
                secret_ok=reports is not None,
                reports=reports or (),
            )
            for seat, reports in zip(self.seats, told, strict=True)
        )
        seed = f"{int(self._chance.integers(0, 2**62)):016x}"
        up = self._noise.up[:, number - 1]
        return EpochInput(
            epoch=number,
            start_unix_ms=0,
            end_unix_ms=HOUR_MS,
            terms=Terms(),
            chain=self._chain,
            usages=tuple(_usage(node, int(up[row] * HOUR_MS)) for node, row in rows.items()),
            leases=tuple(_lease(node) for node in rows),
            standby=(),
            previous=self._books,
            watches=watches,
            watch_seed=seed,
        )

    def _pay(self, player: Player, epoch: int, ruled: Ruling, suspects: set[str]) -> None:
        up = float(self._noise.up[player.row, epoch])
        player.honest_pay += int(PAY * up)
        lies = epoch >= player.begin and player.cheat.is_lying(player.node in suspects)
        gain = player.cheat.gain(player.x) if lies else 0.0
        kept = player.cheat.kept(player.x) if lies else 1.0
        player.purse.earn(epoch, player.node, int(PAY * up * (1 + gain) * kept), ruled)
        if player.caught < 0 and ((lies and kept < 1) or player.node in ruled.out):
            player.caught = epoch
        if player.node in ruled.out:  # it reads the books, and comes again under another name
            player.purse.begin(epoch + 1)
            stem = player.node.rsplit("-", 1)[0]
            player.node = f"{stem}-{player.purse.names}"


_LEASES: dict[str, LeaseRecord] = {}


def _lease(node: str) -> LeaseRecord:
    if node not in _LEASES:
        terms = LeaseTerms(
            lease=node,
            service="0xt.s",
            tenant="0xt",
            cell="fra",
            node=node,
            provider="",
            resources=Resources(),
            objective=Objective(latency_ms=50.0),
            price_microusd_per_hour=PAY,
            decision="",
        )
        _LEASES[node] = LeaseRecord(
            epoch=0,
            terms=terms,
            served_from_unix_ms=1,
            released_unix_ms=0,
            audience={},
            node_grant=b"",
            service_document=b"",
        )
    return _LEASES[node]


_COUNTS = dict.fromkeys(
    (
        "requests", "errors_caller", "errors_replica", "errors_cut", "refused", "tokens_in",
        "tokens_out", "bytes_in", "bytes_out",
    ),
    0,
)  # fmt: skip


def _usage(node: str, live_ms: int) -> Usage:
    return Usage(
        chain=node,
        lease=node,
        gateway="",
        audience="",
        session="",
        position=1,
        head="",
        live_ms=live_ms,
        **_COUNTS,  # type: ignore[arg-type]
    )
