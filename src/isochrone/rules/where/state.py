"""A standing placement on machines, changed one service at a time: place, release, lose, replan.

Intuition: a joint decision is made now and then; between two of them services come and go and
machines fail, each of which needs an answer in a fraction of a millisecond and must not move
anybody who is not concerned. The best site is found as in a joint decision, with all others
standing; the machine inside it is the fullest one that still has room.

Rules of this file: one replica of a service a machine; ``room`` of a site is the sum over its
machines. How many of a site's machines have room for a claim is an upper bound between two looks:
it is checked when a site is chosen, and raised again when something there is freed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from isochrone.rules.where.case import Case
from isochrone.rules.where.ground import Claim, Ground, Integers
from isochrone.rules.where.search import best_set, one_more
from isochrone.schema.where import WhereClaim, WhereService

Search = Callable[[Case, Integers, Sequence[int]], list[int]]
"""Sites for a case, given how many replicas each can hold, from what stands."""


class Machines(msgspec.Struct, frozen=True):
    """All machines as arrays, one row each: the ground's site, free thousandths of cores, free MiB,
    free thousandths of each GPU (columns beyond a machine's GPUs are 0)."""

    site: Integers
    cpu_milli: Integers
    memory_mib: Integers
    gpu_milli: Integers

    def room(self, sites: int) -> Integers:
        """The sum for each site, as ``Ground.room``."""
        room = np.zeros((sites, 3), dtype=np.int64)
        columns = (self.cpu_milli, self.memory_mib, self.gpu_milli.sum(axis=1))
        for resource, free in enumerate(columns):
            np.add.at(room[:, resource], self.site, free)
        return room

    def fits(
        self, asked: Sequence[int], rows: npt.NDArray[np.intp] | slice
    ) -> npt.NDArray[np.bool_]:
        """Which of some machines have room for a replica: cores, MiB, GPUs, thousandths of each."""
        cpu_milli, memory_mib, gpus, gpu_milli = asked
        fits: npt.NDArray[np.bool_] = self.cpu_milli[rows] >= cpu_milli
        fits &= self.memory_mib[rows] >= memory_mib
        if gpus:
            fits &= (self.gpu_milli[rows] >= gpu_milli).sum(axis=1) >= gpus
        return fits


class Seat(msgspec.Struct, frozen=True):
    """One replica: its machine (row), and the GPUs it has there."""

    machine: int
    gpus: tuple[int, ...] = ()


class State:
    """Machines with what stands on them. ``seats[service]``: where its replicas are."""

    def __init__(self, ground: Ground, machines: Machines) -> None:
        self.ground = ground
        self.machines = machines
        self.room = machines.room(len(ground.sites))
        self.seats: dict[str, list[Seat]] = {}
        self._order = np.argsort(machines.site, kind="stable")
        self._until = np.searchsorted(machines.site[self._order], np.arange(len(ground.sites) + 1))
        self._cases: dict[str, Case] = {}
        self._claims: list[Claim] = []
        self._users: dict[int, set[str]] = {}

    def claim(self, claim: WhereClaim) -> Claim:
        """A claim on this state's machines: its slots are those that have room now."""
        made = Claim(self.ground, claim)
        fitting = self.machines.fits(_asked(made), slice(None))
        counts = np.bincount(self.machines.site[fitting], minlength=len(self.room))
        made.slots = np.minimum(made.slots, counts[made.at])
        self._claims.append(made)
        return made

    def place(self, claim: Claim, service: WhereService) -> list[Seat]:
        """Give a new service its replicas; fewer than its least where there is no room."""
        case = Case(claim, service, self.ground.order)
        self._cases[service.service] = case
        self.seats[service.service] = []
        self._seat(service.service, best_set)
        return self.seats[service.service]

    def place_one_more(self, service: str) -> Seat | None:
        """One more replica of a service that stands, wherever it helps most, or None."""
        before = len(self.seats[service])
        self._seat(service, one_more)
        return self.seats[service][-1] if len(self.seats[service]) > before else None

    def release(self, service: str) -> None:
        """Free everything a service has, and forget it."""
        for seat in self.seats.pop(service):
            self._free(self._cases[service].claim, service, seat)
        del self._cases[service]

    def lose(self, machines: Iterable[int]) -> list[str]:
        """Machines are gone: they have no room any more; returns the services that were on them."""
        hit: set[str] = set()
        for row in machines:
            hit |= self._users.pop(row, set())
            site = int(self.machines.site[row])
            gpus = self.machines.gpu_milli[row]
            self.room[site] -= (
                self.machines.cpu_milli[row], self.machines.memory_mib[row], gpus.sum()
            )  # fmt: skip
            self.machines.cpu_milli[row] = self.machines.memory_mib[row] = -1
            gpus[:] = 0
        for service in hit:
            self.seats[service] = [
                seat for seat in self.seats[service] if self.machines.cpu_milli[seat.machine] >= 0
            ]
        return sorted(hit)

    def replan(self, services: Iterable[str]) -> int:
        """Bring services to what they ask for again, dearest first; what stands stays unless moving
        gains more than it costs. Returns how many replicas were put on other machines."""
        moved = 0
        lost = sorted(services, key=lambda name: (-self._loss(name), name))
        for name in lost:
            case, before = self._cases[name], set(self.seats[name])
            case.hold(self._standing(name))
            self._seat(name, best_set)
            moved += len(set(self.seats[name]) - before)
        return moved

    def cost(self, service: str) -> int:
        """What a service's sites cost it, millionths of a point."""
        return self._cases[service].of(self._standing(service))

    # -- inside ------------------------------------------------------------------------------------

    def _loss(self, service: str) -> int:
        return self.cost(service) * self._cases[service].claim.unit

    def _standing(self, service: str) -> list[int]:
        position = self._cases[service].claim.position
        return [position[int(self.machines.site[seat.machine])] for seat in self.seats[service]]

    def _seat(self, service: str, search: Search) -> None:
        """Choose sites, and machines in them; a site that turns out full is left out next time."""
        case, old = self._cases[service], self.seats[service]
        claim = case.claim
        standing = self._standing(service)
        room_limit = claim.limit(self.room)
        for site in standing:  # what it has counts as room of its own
            room_limit[site] += 1
        while True:
            chosen = search(case, room_limit, standing)
            seats, full = self._machines_for(case, old, standing, chosen)
            if full is None:
                break
            room_limit[full] = 0
            claim.slots[full] = 0
        for seat in old:
            if seat not in seats:
                self._free(claim, service, seat)
        for n, seat in enumerate(seats):
            if seat not in old:
                seats[n] = self._take(claim, service, seat)
        self.seats[service] = seats

    def _machines_for(
        self, case: Case, old: list[Seat], standing: list[int], chosen: list[int]
    ) -> tuple[list[Seat], int | None]:
        """A seat for each chosen site, old ones first; or the site that has no machine left."""
        free = list(zip(standing, old, strict=True))
        seats: list[Seat] = []
        used = {seat.machine for seat in old}
        for site in chosen:
            kept = next((pair for pair in free if pair[0] == site), None)
            if kept:
                free.remove(kept)
                seats.append(kept[1])
                continue
            machine = self._fullest(case.claim, site, used)
            if machine is None:
                return [], site
            used.add(machine)
            seats.append(Seat(machine))
        return seats, None

    def _fullest(self, claim: Claim, site: int, but: set[int]) -> int | None:
        """The machine of a site that has room and least to spare."""
        number = int(claim.at[site])
        rows = self._order[self._until[number] : self._until[number + 1]]
        rows = rows[self.machines.fits(_asked(claim), rows)]
        rows = rows[[row not in but for row in rows.tolist()]] if but else rows
        if not len(rows):
            return None
        spare = (rows, self.machines.cpu_milli[rows], self.machines.gpu_milli[rows].sum(axis=1))
        return int(rows[np.lexsort(spare)[0]])

    def _take(self, claim: Claim, service: str, seat: Seat) -> Seat:
        row = seat.machine
        _, _, gpus, gpu_milli = _asked(claim)
        has = self.machines.gpu_milli[row]
        fullest = sorted((int(m), n) for n, m in enumerate(has) if gpus and m >= gpu_milli)[:gpus]
        taken = tuple(n for _, n in fullest)
        self._change(claim, row, taken, -1)
        self._users.setdefault(row, set()).add(service)
        return Seat(row, taken)

    def _free(self, claim: Claim, service: str, seat: Seat) -> None:
        self._change(claim, seat.machine, seat.gpus, 1)
        self._users[seat.machine].discard(service)
        site = int(self.machines.site[seat.machine])
        for other in self._claims:
            here = other.position.get(site)
            if here is not None:
                other.slots[here] += 1

    def _change(self, claim: Claim, row: int, gpus: Sequence[int], sign: int) -> None:
        cpu_milli, memory_mib, _, gpu_milli = _asked(claim)
        self.machines.cpu_milli[row] += sign * cpu_milli
        self.machines.memory_mib[row] += sign * memory_mib
        for gpu in gpus:
            self.machines.gpu_milli[row, gpu] += sign * gpu_milli
        self.room[self.machines.site[row]] += sign * claim.need


def _asked(claim: Claim) -> tuple[int, int, int, int]:
    asked = claim.resources
    return asked.cpu_milli, asked.memory_mib, asked.gpu_count, asked.gpu_milli
