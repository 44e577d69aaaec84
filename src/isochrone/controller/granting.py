"""The home cell's work on its own services: decide sites, put them on record, grant quotas.

The shell around ``home``. A quota is repeated every ``REPEAT_S`` to every cell that has a site or
still holds the service, and at once when it changes; who does not answer is simply asked again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from isochrone.controller import home
from isochrone.controller.deciding import decided
from isochrone.controller.declared import Declared
from isochrone.controller.following import Following
from isochrone.controller.inputs import Stamp
from isochrone.controller.inviting import Inviting
from isochrone.controller.joint import decided_together
from isochrone.controller.joint_inputs import Subject
from isochrone.controller.leading import Leading
from isochrone.controller.quotas import withdrawn
from isochrone.controller.quoting import quotas_for
from isochrone.controller.records import Records
from isochrone.controller.taking import Taking
from isochrone.controller.view import World, held
from isochrone.fabric.connection import Fabric
from isochrone.schema.decision import Decision, PlacementInputs
from isochrone.schema.digests import decode, digest
from isochrone.schema.errors import IsochroneError
from isochrone.schema.lease import Quota
from isochrone.schema.plans import CellOffers, QuotaAnswer
from isochrone.schema.routing import Starting

REPEAT_S = 2.0
"""How often an unchanged quota is sent again: a cell that lost it has it back within that."""

RETRY_S = 0.5
"""... and how often one that was not answered or not accepted."""

REQUEST_TIMEOUT_S = 1.5

log = logging.getLogger(__name__)

Others = Mapping[str, CellOffers]


class Sent(msgspec.Struct):
    """The last try to hand a cell its quota."""

    quota: Quota
    at_s: float
    answered: bool = False


class Granting:
    """Decisions and quotas of the services at home here. ``controller``: our own address.

    ``missing``: those of them for which too few replicas could be granted,
    ``lacks`` by how many.
    """

    def __init__(
        self,
        fabric: Fabric,
        leading: Leading,
        records: Records,
        taking: Taking,
        warm_s: float,
        controller: str,
        inviting: Inviting,
        following: Following,
        *,
        clock: Callable[[], float] = time.monotonic,
        unix_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._fabric = fabric
        self._leading = leading
        self._records = records
        self._taking = taking
        self._warm_s = warm_s
        self._controller = controller
        self._inviting = inviting
        self._following = following
        self._clock = clock
        self._unix_ms = unix_ms
        self._standings: dict[str, home.Standing] = {}
        self._seen: dict[str, home.Situation] = {}
        self._moving_s: dict[str, float] = {}
        self._answers: dict[str, dict[str, QuotaAnswer]] = {}
        self._sent: dict[tuple[str, str], Sent] = {}
        self._refused: dict[str, int] = {}
        self._unmet: dict[str, tuple[str, ...]] = {}
        self.missing: tuple[Declared, ...] = ()
        self.lacks: dict[str, int] = {}
        self._epoch = 0
        self._began_s = float("-inf")

    async def work(self, world: World, others: Others) -> None:
        """One pass over our services: decide what is due, send what is due."""
        if self._epoch != self._leading.epoch:
            self._begin_epoch()
        self._following.work(world, others, self._granted(world))
        due = self._due(world, others)
        if due:
            await self._decide_due(world, others, due)
        self.missing = tuple(
            declared
            for id_, declared in sorted(world.services.items())
            if home.is_missing(self._standings.get(id_), declared)
        )
        self.lacks = {
            declared.id: home.lacking(self._standings.get(declared.id), declared)
            for declared in self.missing
        }
        await self._send_due(world, others)

    def _granted(self, world: World) -> dict[str, int]:
        """How many replicas the decisions in force have, of services that follow demand."""
        found = {}
        for id_, declared in world.services.items():
            if declared.service.follows_demand:
                standing = self._standings.get(id_) or self._restored(declared, self._clock())
                found[id_] = home.granted(standing) if standing is not None else 0
        return found

    def starting(self, world: World) -> dict[str, Starting]:
        """What gateways are to know of the services that follow demand."""
        found = {}
        for id_, declared in world.services.items():
            told = self._following.starting(declared, self._why_not(declared))
            if told is not None:
                found[id_] = told
        return found

    def _why_not(self, declared: Declared) -> str:
        """Why no replica of a service can start though it is asked for; empty: one can."""
        standing = self._standings.get(declared.id)
        if not self._following.targets.get(declared.id) or standing is None or not standing.wanted:
            return ""
        if not standing.sites:
            return "; ".join(self._unmet.get(declared.id, ())) or "no_capacity: no node can take it"
        answers = self._answers.get(declared.id, {})
        said = [answers[cell] for cell, _ in standing.sites if cell in answers]
        rows = [row for answer in said for row in answer.replicas if row.desired != "standby"]
        if len(said) < len(standing.sites) or rows:
            return ""
        unmet = [home.hopeless(answer) for answer in said]
        return "; ".join(dict.fromkeys(unmet)) if all(unmet) else ""

    def _begin_epoch(self) -> None:
        """A new epoch numbers its quotas anew and trusts no memory of an earlier one."""
        self._epoch = self._leading.epoch
        self._began_s = self._clock()
        self._standings, self._answers, self._sent = {}, {}, {}
        self._refused = {}
        self._following.begin()

    def _due(self, world: World, others: Others) -> dict[str, str]:
        """The services that are due for a decision, and why; looks at all of them."""
        now_s, due = self._clock(), {}
        in_motion = self._in_motion(world, others, now_s)
        for id_, declared in sorted(world.services.items()):
            standing = self._standings.get(id_) or self._restored(declared, now_s)
            short = home.is_missing(standing, declared)
            answers = self._answers.get(id_, {})
            self._seen[id_] = home.situation(world, others, declared, answers, short, in_motion)
            if standing is not None:
                standing = self._standings[id_] = home.observe(standing, self._seen[id_], now_s)
            reason = home.reason_to_decide(
                standing, declared, world.doubt, now_s, self._following.targets.get(id_)
            )
            if reason and self._refused.get(id_) != declared.service.revision:
                due[id_] = reason
        warm = now_s - self._began_s >= self._warm_s
        return due if world.sight.known and warm else {}

    def _in_motion(self, world: World, others: Others, now_s: float) -> frozenset[str]:
        """Cells that replicas of ours are leaving, and have not been for too long."""
        rows = [(world.cell, row) for row in held(world)]
        rows += [(cell, row) for cell, offers in others.items() for row in offers.replicas]
        cells = home.in_motion(rows, self._standings)
        self._moving_s = {cell: self._moving_s.get(cell, now_s) for cell in cells}
        return frozenset(
            cell for cell, at_s in self._moving_s.items() if now_s - at_s < home.MOTION_MOST_S
        )

    async def _decide_due(self, world: World, others: Others, due: Mapping[str, str]) -> None:
        """Decide what is due, and with it whatever should give way or may gain."""
        joint = await self._together(world, others, self._subjects(world))
        for id_, declared in sorted(world.services.items()):
            if not self._leading.may_act():
                return
            reason = due.get(id_) or self._why_too(id_, joint)
            if not reason:
                continue
            try:
                await self._decide(world, others, declared, reason, joint)
            except IsochroneError as error:
                # A declaration that no rule can read was accepted by mistake; said once.
                self._refused[id_] = declared.service.revision
                log.error("%s cannot be placed: %s", id_, error.sentence())

    async def planned(
        self, world: World, others: Others, asked: Declared
    ) -> tuple[PlacementInputs, Decision]:
        """What would be decided if ``asked`` were declared now, and what that looks at.

        Raises InvalidInput for a declaration that nothing understands.
        """
        subjects = [one for one in self._subjects(world) if one.declared.id != asked.id]
        standing = self._standings.get(asked.id)
        subjects.append(Subject(declared=asked, standing=standing, troubled=frozenset()))
        joint = await self._together(world, others, subjects)
        seen = home.situation(world, others, asked, {})
        inputs = home.inputs_for(world, others, asked, self._stamp(world), seen, joint)
        return inputs, await decided(inputs)

    def _subjects(self, world: World) -> list[Subject]:
        """The services that compete for room now."""
        return [
            Subject(
                declared=declared,
                standing=self._standings.get(id_),
                troubled=self._seen[id_].troubled if id_ in self._seen else frozenset(),
                wanted=self._following.targets.get(id_),
            )
            for id_, declared in sorted(world.services.items())
            if not declared.service.deleted
            and self._refused.get(id_) != declared.service.revision
            and self._following.targets.get(id_) != 0
        ]

    async def _together(
        self, world: World, others: Others, subjects: Sequence[Subject]
    ) -> home.Joint | None:
        """The decision on all services together; None when there is nothing to weigh."""
        if len(subjects) < 2 or world.doubt:
            return None
        try:
            return await decided_together(world, others, subjects, self._stamp(world))
        except IsochroneError as error:
            log.warning("services are decided one by one: %s", error.sentence())
            return None

    def _why_too(self, service: str, joint: home.Joint | None) -> str:
        """Why a service that is not due is decided all the same.

        To go elsewhere, not to have less: what runs is taken from a tenant by its cell alone,
        after a notice (``fairness``).
        """
        standing = self._standings.get(service)
        if joint is None or standing is None or service not in joint.grants:
            return ""
        if sum(site.replicas for _, site in joint.grants[service]) < home.granted(standing):
            return ""
        same = home.sorted_sites(joint.grants[service]) == home.sorted_sites(standing.sites)
        return "" if same else "all services are better off together"

    def _stamp(self, world: World) -> Stamp:
        return Stamp(cell=world.cell, epoch=self._epoch, at_unix_ms=self._unix_ms())

    def _restored(self, declared: Declared, now_s: float) -> home.Standing | None:
        decision = self._records.latest(declared.id, "sites")
        if decision is None or decision.service_revision != declared.service.revision:
            return None
        return home.restored(decision, digest(decision), now_s)

    async def _decide(
        self,
        world: World,
        others: Others,
        declared: Declared,
        reason: str,
        joint: home.Joint | None,
    ) -> None:
        standing, seen = self._standings.get(declared.id), self._seen[declared.id]
        wanted = self._following.targets.get(declared.id)
        stamp = self._stamp(world)
        inputs = home.inputs_for(world, others, declared, stamp, seen, joint, wanted)
        decision = await decided(inputs)
        resting = await self._resting(inputs, decision)
        made, is_new = home.stand(
            standing, decision, digest(decision), seen, self._clock(), wanted, resting
        )
        if is_new:
            if joint is not None and inputs.joint:
                await self._records.keep_joint(joint.decision, joint.inputs)
            await self._records.keep(decision, inputs)
            log.info(
                "%s: %s; %d replicas at %s%s",
                declared.id,
                reason,
                len(decision.winners),
                ", ".join(f"{cell}/{site.metro}" for cell, site in decision.sites) or "no site",
                "".join(f"; {text}" for text in decision.unmet),
            )
        self._standings[declared.id] = made
        self._unmet[declared.id] = decision.unmet

    async def _resting(self, inputs: PlacementInputs, decision: Decision) -> home.Resting:
        """Where a service without replicas keeps its standbys: where its first ones would go."""
        warm = inputs.service.scaling.warm
        if not warm or decision.sites:
            return None
        first = msgspec.structs.replace(inputs, wanted=warm, grants=(), joint="")
        return (await decided(first)).sites

    async def _send_due(self, world: World, others: Others) -> None:
        due: list[Awaitable[None]] = []
        for id_ in sorted(world.services):
            declared = world.services[id_]
            quotas = quotas_for(
                declared,
                self._standings.get(id_),
                self._holders(world, others, declared),
                world.cell,
                self._epoch,
            )
            invited = [self._with_invitation(q, declared, world, others) for q in quotas.values()]
            due += [self._send(quota, world) for quota in invited if self._is_due(quota)]
        await asyncio.gather(*due)

    def _with_invitation(
        self, quota: Quota, declared: Declared, world: World, others: Others
    ) -> Quota:
        """The quota, and who leads the cell may charge for what it serves."""
        told = others.get(quota.cell)
        controller = told.controller if told is not None else ""
        if quota.cell == world.cell:
            controller = self._controller
        return self._inviting.into(quota, declared, controller)

    def _holders(self, world: World, others: Others, declared: Declared) -> frozenset[str]:
        """Cells that hold the service now, with or without a site in the standing decision."""
        ours = (
            {world.cell} if declared.id in world.quotas and _held_here(world, declared) else set()
        )
        theirs = {
            cell
            for cell, offers in others.items()
            if declared.id in offers.granted
            or any(row.service == declared.id for row in offers.replicas)
        }
        return frozenset(ours | theirs)

    def _is_due(self, quota: Quota) -> bool:
        sent = self._sent.get((quota.service, quota.cell))
        if sent is None or sent.quota != quota:
            return True
        wait_s = REPEAT_S if sent.answered else RETRY_S
        return self._clock() - sent.at_s >= wait_s

    async def _send(self, quota: Quota, world: World) -> None:
        if not self._leading.may_act():
            return
        sent = Sent(quota, self._clock())
        self._sent[quota.service, quota.cell] = sent
        try:
            answer = await self._ask(quota, world)
        except IsochroneError as error:
            log.debug("quota of %s for %s: %s", quota.service, quota.cell, error.sentence())
            return
        sent.answered = answer.accepted
        self._answers.setdefault(quota.service, {})[quota.cell] = answer
        if answer.code == "stale" and answer.epoch > self._epoch:
            # Somebody led this cell in a later epoch than our disk remembers.
            self._leading.learn(answer.epoch)
        if not answer.accepted:
            log.warning("%s refused %s: %s", quota.cell, quota.service, answer.message)

    async def _ask(self, quota: Quota, world: World) -> QuotaAnswer:
        if quota.cell == world.cell:
            return await self._taking.take(quota, world)
        reply = await self._fabric.request(
            f"iso.{quota.cell}.quota", msgspec.json.encode(quota), REQUEST_TIMEOUT_S
        )
        return decode(reply, QuotaAnswer, "answer to a quota")


def _held_here(world: World, declared: Declared) -> bool:
    quota = world.quotas.get(declared.id)
    return quota is not None and (not withdrawn(quota) or bool(world.leases_of(declared.id)))
