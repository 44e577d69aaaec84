"""This cell's work on the quotas it holds: fit nodes, write leases, replace what died.

The shell around ``fit`` and ``rules.reconcile``. Every pass compares what is wanted with what is;
a write names the revision it was planned from and is planned anew when somebody was faster. A
decision is put on record before its leases are written.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from isochrone.controller import fit
from isochrone.controller.deciding import decided, weighed
from isochrone.controller.declared import Declared
from isochrone.controller.defragmenting import LOOK_EVERY_S, Defragmenting
from isochrone.controller.disturbance import MOVES_PER_HOUR, Disturbance
from isochrone.controller.fairness import FairTurns
from isochrone.controller.fairness_ground import FairGround
from isochrone.controller.inputs import Stamp, gather, own_ground, shapes_of
from isochrone.controller.leading import Leading
from isochrone.controller.making_room import MAKING_ROOM, MakingRoom
from isochrone.controller.masks import written_out
from isochrone.controller.orphans import orphaned, swept
from isochrone.controller.quotas import replicas_of
from isochrone.controller.records import Records
from isochrone.controller.standbys import Standbys, with_standbys_first
from isochrone.controller.tables import Tables
from isochrone.controller.view import World
from isochrone.rules import defragmenting
from isochrone.rules.defragmenting import Opening
from isochrone.rules.fit_costs import with_fit_costs
from isochrone.rules.making_room import Move, clearing
from isochrone.rules.packing.mix import Mix, seen
from isochrone.rules.reconcile import Action, Held, plan_leases
from isochrone.schema.decision import Cleared, Decision, PlacementInputs
from isochrone.schema.errors import Conflict, IsochroneError
from isochrone.schema.lease import Quota

WRITES_AT_ONCE = 32
"""Leases written side by side: the store's fsyncs overlap, and a flood cannot fill its queue."""

NOTHING: Mapping[str, int] = {}

log = logging.getLogger(__name__)


class Fitting:
    """Fits and leases of one cell."""

    def __init__(
        self,
        tables: Tables,
        leading: Leading,
        records: Records,
        turns: FairTurns,
        *,
        clock: Callable[[], float] = time.monotonic,
        unix_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        moves_per_hour: int = MOVES_PER_HOUR,
        defragment_every_s: float = LOOK_EVERY_S,
    ) -> None:
        disturbance = Disturbance(clock, moves_per_hour)
        self._turns = turns
        self._leases = tables.leases
        self._leading = leading
        self._records = records
        self._clock = clock
        self._unix_ms = unix_ms
        self._fits: dict[str, fit.Fit] = {}
        self._bad_since_s: dict[str, float] = {}
        self._mix = Mix()
        self._nonce = 0
        self._said: dict[str, str] = {}
        self._slots = asyncio.Semaphore(WRITES_AT_ONCE)
        self._room = MakingRoom(clock, disturbance)
        self._defragmenting = Defragmenting(clock, disturbance, defragment_every_s)
        self._standbys = Standbys(clock)

    async def work(
        self, world: World, missing: Sequence[Declared] = (), lacks: Mapping[str, int] = NOTHING
    ) -> Mapping[str, tuple[str, ...]]:
        """One pass over all quotas; returns what could not be placed, by service.

        ``missing``: services at home here that no cell could be granted whole, ``lacks`` by how
        many replicas.
        """
        self._mix = seen(self._mix, shapes_of(world))
        for id_ in self._turns.order(world.quotas):
            if not self._leading.may_act():
                break
            try:
                await self._serve(world, world.quotas[id_], world.granted[id_])
            except IsochroneError as error:
                self._say(id_, error.sentence())
        await self._sweep(world)
        self._forget(world)
        self._make_room(world, missing)
        await self._defragment(world, missing)
        await self._take_turns(world, missing, lacks)
        return {id_: self._why(id_, made) for id_, made in self._fits.items() if made.unmet}

    def _why(self, service: str, made: fit.Fit) -> tuple[str, ...]:
        """Why replicas are missing, as home is told; with a prospect it need not look elsewhere."""
        if self._room.is_made_for(service):
            return (f"{MAKING_ROOM}: another replica moves to make room for it",)
        if self._turns.is_made_for(service):
            return (f"{MAKING_ROOM}: replicas of tenants above their fair share have notice",)
        return made.unmet

    async def _take_turns(
        self, world: World, missing: Sequence[Declared], lacks: Mapping[str, int]
    ) -> None:
        """Fairness between tenants; a notice is a decision on record before it comes true."""
        short = {id_ for id_, made in self._fits.items() if made.unmet}
        wanting = {declared.id: declared for declared in missing}
        begun = self._turns.work(world, short, wanting, lacks, FairGround(world))
        for service in sorted({notice.victim.service for notice in begun}):
            quota, grant = world.quotas.get(service), world.granted.get(service)
            if quota is None or grant is None:
                continue
            held = self._observe(world, service, self._clock())
            told = self._turns.announced(service)
            inputs = await weighed(self._look(world, quota, grant, held, told))
            await self._records.keep(await decided(inputs), inputs)
            log.warning("%s: %s", service, "; ".join(f"{row.node}: {row.reason}" for row in told))

    def _cleared(self, world: World, service: str) -> tuple[Cleared, ...]:
        """The nodes that a service must leave, or must not come to, for others' sake."""
        fair = self._turns.cleared(world, service)
        moves = (*self._room.cleared(service), *self._defragmenting.cleared(service))
        left = {row.node for row in fair}
        return (*(row for row in moves if row.node not in left), *fair)

    def _make_room(self, world: World, missing: Sequence[Declared]) -> None:
        short = (world.granted[id_] for id_, made in self._fits.items() if made.unmet)
        waiting = {
            declared.id: declared
            for declared in (*missing, *short)
            if declared.id not in self._turns.held_back and not self._turns.is_made_for(declared.id)
        }

        def look(declared: Declared) -> PlacementInputs:
            made = self._fits.get(declared.id)
            if made is not None and made.unmet and made.inputs is not None:
                return made.inputs
            ground = own_ground(world, declared.id)
            return gather("sites", declared, ground, self._stamp(world))

        def after(move: Move) -> tuple[PlacementInputs, int] | None:
            inputs = self._with_cleared(world, move.service, clearing(move))
            if inputs is None:
                return None
            return with_fit_costs(inputs), len(self._seats(move.service))

        move = self._room.work(world, waiting, look, after)
        if move is not None:
            log.info("%s leaves %s: %s waits for room", move.service, move.node, move.waits)

    async def _defragment(self, world: World, missing: Sequence[Declared]) -> None:
        """Room for what usually comes, before it comes and while nobody waits."""
        waits = bool(missing) or any(made.unmet for made in self._fits.values())

        async def fit_without(
            opening: Opening,
        ) -> tuple[PlacementInputs, Decision, Collection[str]] | None:
            cleared = defragmenting.clearing(opening)
            inputs = self._with_cleared(world, opening.service, cleared)
            if inputs is None:
                return None
            inputs = await weighed(inputs)
            return inputs, await decided(inputs), self._seats(opening.service)

        opening = await self._defragmenting.work(world, self._mix.arrived, waits, fit_without)
        if opening is not None:
            reason = defragmenting.clearing(opening).reason
            log.info("%s leaves %s: %s", opening.service, opening.node, reason)

    def _with_cleared(self, world: World, service: str, cleared: Cleared) -> PlacementInputs | None:
        """What a service's fit would look at with a node cleared; None if it is not settled."""
        made, quota = self._fits.get(service), world.quotas.get(service)
        if made is None or made.unmet or quota is None:
            return None
        grant = world.granted[service]
        held = self._observe(world, service, self._clock())
        return self._look(world, quota, grant, held, (cleared,))

    def _seats(self, service: str) -> list[str]:
        return [seat.node for seat in self._fits[service].wanted.seats]

    def _look(
        self,
        world: World,
        quota: Quota,
        grant: Declared,
        held: Sequence[Held],
        cleared: tuple[Cleared, ...],
    ) -> PlacementInputs:
        stamp = self._stamp(world)
        return fit.look(world, quota, grant, held, stamp, cleared, self._mix.arrived)

    def _stamp(self, world: World) -> Stamp:
        return Stamp(cell=world.cell, epoch=self._leading.epoch, at_unix_ms=self._unix_ms())

    async def _serve(self, world: World, quota: Quota, grant: Declared) -> None:
        now_s = self._clock()
        held = self._observe(world, grant.id, now_s)
        standing = self._fits.get(grant.id)
        made = await self._fit(world, quota, grant, held, standing)
        planned = plan_leases(
            made.wanted,
            held,
            epoch=self._leading.epoch,
            nonce=self._next_nonce(),
            doubt=world.doubt,
        )
        leases = [row.lease for row in held]
        actions = written_out(planned, leases, self._leading.epoch)
        if made is not standing:
            await self._record(made, actions)
            self._fits[grant.id] = made
        if actions:
            await asyncio.gather(*(self._apply(action) for action in actions))
        await self._keep_standbys(world, quota, grant, held, made)

    async def _keep_standbys(
        self, world: World, quota: Quota, grant: Declared, held: list[Held], made: fit.Fit
    ) -> None:
        """Nodes beside the replicas that keep the model, after whatever the replicas need."""
        rows = self._observe(world, grant.id, self._clock(), standby=True)
        if not rows and not quota.standby:
            return
        planned = self._standbys.plan(
            world, quota, grant, rows, held, made, self._stamp(world), self._next_nonce
        )
        actions = written_out(planned, (), self._leading.epoch)
        await asyncio.gather(*(self._apply(action) for action in actions))

    async def _sweep(self, world: World) -> None:
        """Forget ended leases that no quota speaks of."""
        now_s = self._clock()
        for service in orphaned(world):
            self._observe(world, service, now_s)
            for action in swept(world, service, self._bad_since_s, now_s):
                try:
                    await self._apply(action)
                except IsochroneError as error:
                    self._say(service, error.sentence())

    def _observe(
        self, world: World, service: str, now_s: float, *, standby: bool = False
    ) -> list[Held]:
        """The service's replicas, or its standbys."""
        rows = fit.observe(world, service, self._bad_since_s, now_s)
        held = [row for row in rows if (row.lease.desired == "standby") == standby]
        for row in held:
            if not fit.is_bad(row):
                self._bad_since_s.pop(row.lease.id, None)
            else:
                self._bad_since_s.setdefault(row.lease.id, now_s)
        return held

    async def _fit(
        self,
        world: World,
        quota: Quota,
        grant: Declared,
        held: list[Held],
        standing: fit.Fit | None,
    ) -> fit.Fit:
        cleared = self._cleared(world, grant.id)
        if standing is not None and fit.stands(world, quota, grant, held, standing, cleared):
            return standing
        if not fit.is_wanted(quota, grant):
            return fit.of_nothing(world, quota, held, grant)
        inputs = await weighed(self._look(world, quota, grant, held, cleared))
        decision = await decided(inputs)
        too_few = len(decision.winners) < replicas_of(quota.sites)
        if too_few and (self._room.give_up(grant.id) or self._defragmenting.give_up(grant.id)):
            return await self._fit(world, quota, grant, held, standing)
        rows = self._observe(world, grant.id, self._clock(), standby=True)
        inputs, decision = await with_standbys_first(inputs, decision, rows)
        made = fit.fitted(world, quota, grant, held, inputs, decision, cleared)
        self._say(grant.id, "; ".join(made.unmet))
        return made

    async def _record(self, made: fit.Fit, actions: Sequence[Action]) -> None:
        """Only decisions that change something are records; the others confirm one."""
        changes = any(action.kind in ("create", "renew", "drain") for action in actions)
        if changes and made.decision is not None and made.inputs is not None:
            await self._records.keep(made.decision, made.inputs)

    async def _apply(self, action: Action) -> None:
        """Write one action, if the text it was planned from still stands."""
        key = action.lease.id
        async with self._slots:
            entry = self._leases.table.entries.get(key)
            if (entry.value.revision if entry else 0) != action.from_revision:
                return
            if not self._leading.may_act():
                return
            try:
                if action.kind == "forget":
                    if entry is not None:
                        await self._leases.table.delete(key, revision=entry.revision)
                else:
                    revision = entry.revision if entry else None
                    await self._leases.table.put(key, action.lease, revision=revision)
            except Conflict as error:
                log.info("%s %s: %s", action.kind, key, error.message)
                return
        log.info("%s %s on %s: %s", action.kind, key, action.lease.node, action.reason)

    def _next_nonce(self) -> int:
        """Our wall clock, and never the same number twice even if it is set back."""
        self._nonce = max(self._nonce + 1, self._unix_ms())
        return self._nonce

    def _forget(self, world: World) -> None:
        """Drop the memory of services and leases that are gone."""
        self._fits = {id_: made for id_, made in self._fits.items() if id_ in world.quotas}
        self._bad_since_s = {
            id_: since_s for id_, since_s in self._bad_since_s.items() if id_ in world.leases
        }
        self._standbys.forget(world.quotas)
        known = {*world.quotas, *(lease.service for lease in world.leases.values())}
        self._said = {id_: text for id_, text in self._said.items() if id_ in known}

    def _say(self, service: str, text: str) -> None:
        """Say what is wrong with a service, once."""
        if text != self._said.get(service, ""):
            self._said[service] = text
            log.warning("%s: %s", service, text or "all replicas can be placed again")
