"""The acts of the demonstration, in order: models, network, services, traffic, faults, evidence."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import msgspec
import yaml

from isochrone.atlas.cities import city
from isochrone.client.declaration import read_declaration
from isochrone.lab import evidence, sleeping
from isochrone.lab.callers import Target
from isochrone.lab.cases import save_cases
from isochrone.lab.crowd import Crowd
from isochrone.lab.inputs import cases
from isochrone.lab.models import DEFAULT, prepare
from isochrone.lab.network import CENTRAL, Network, operator_key
from isochrone.lab.proving import Proving
from isochrone.lab.records import city_rows, percentile
from isochrone.lab.script import (
    APPLY_WAIT_S,
    CALLED,
    CALM_S,
    CENTRAL_METRO,
    CENTRAL_S,
    EXAMPLES,
    HOME_CELL,
    HOME_METRO,
    INPUTS,
    LIMITS_MS,
    RATES,
    WARM_S,
    central_declaration,
    service_flags,
)
from isochrone.lab.settling import EPOCH_S, Settling
from isochrone.lab.story import Story
from isochrone.lab.tenant import Tenant
from isochrone.lab.trespass import Trespass, trespass
from isochrone.lab.trials import Trials
from isochrone.lab.world import Endpoint, World, default_world
from isochrone.schema.plans import Plan
from isochrone.schema.service import Service


class Act:
    """One run of the demonstration. ``play`` once, ``stop`` always."""

    def __init__(
        self, story: Story, folder: Path, models_dir: Path, *, seed: int, llm: bool
    ) -> None:
        self._story = story
        self._folder = folder
        self._models_dir = models_dir
        self._llm = llm
        self._names = (*DEFAULT, "completions") if llm else DEFAULT
        self._services: dict[str, Service] = {}
        self._plans: dict[str, Plan] = {}
        self._keys: dict[str, str] = {}
        self._central_key = ""
        self._sleeper_key = ""
        self.world: World = default_world(seed)
        self.network = Network(self.world, folder, central_metro=CENTRAL_METRO, epoch_s=EPOCH_S)
        self.crowd = Crowd(folder / "callers", folder / "cases", seed)

    async def play(self) -> dict[str, Any]:
        """All acts; returns the last line's figures (without ``seconds``)."""
        self._story.say(
            "Isochrone on one machine. Distances between cities are EMULATED by user-space links\n"
            "from measured round trips, each changed by a hidden ±30 %; the machine is ONE, its\n"
            "cores are shared by all nodes, places are proven by the emulated distances, and the\n"
            f"providers' prices are invented. Load before the start: {os.getloadavg()[0]:.2f} on "
            f"{os.cpu_count()} cores."
        )
        await self._prepare_models()
        await self._start_network()
        proven = await self._prove()
        await self._deploy()
        trials = Trials(self.network, self.crowd, self.operator)
        self._story.chapter(f"Traffic from {len(CALLED)} cities, and four faults")
        await self.crowd.start(self._targets(), self._called())
        with self._story.progress() as progress:
            task = progress.add_task("phases", total=6)
            for target, phase, seconds in (
                ("isochrone", "warm", WARM_S),
                ("isochrone", "calm", CALM_S),
                (CENTRAL, "central-warm", WARM_S),
                (CENTRAL, "central", CENTRAL_S),
            ):
                await self.crowd.phase(target, phase, seconds, RATES)
                progress.advance(task)
            slowed = await trials.slow()
            progress.advance(task)
            broken = await trials.break_things()
            progress.advance(task)
        records = [r for r in self.crowd.records() if r.target == "isochrone"]
        self._tell_calm()
        seen = evidence.Seen(
            records=records,
            tries=evidence.failed_tries(self.network),
            slowed=slowed,
            killed=broken[0],
            frozen=broken[1],
            cut=broken[2],
        )
        self._tell_faults(seen)
        trespassed = await self._trespass()
        violations = evidence.residency_violations(seen, self._services, self.network, trespassed)
        for sentence in violations:
            self._story.say(f"VIOLATION {sentence}")
        figures = evidence.figures(
            seen,
            nodes=len(self.world.node_sites),
            services=len(self._names),
            violations=len(violations),
            identical=await self._decisions(),
        )
        self._tell_limits(figures)
        await self.crowd.stop()
        woken = await self._wake()
        settled = await self._settling.settle(broken[0])
        asleep, books = msgspec.structs.asdict(woken), msgspec.structs.asdict(settled)
        return figures | {"nodes_proven": proven} | asleep | books

    async def stop(self) -> None:
        """End every process of the demonstration."""
        await self.crowd.stop()
        await self.network.stop()

    def things_to_try(self) -> list[str]:
        """Commands for a person, with this run's addresses and key."""
        url = self.network.client_url(HOME_METRO, HOME_CELL)
        key, fraud_key = self._keys["embeddings"], self._keys["fraud-scorer"]
        home = self.tenant.home.resolve()
        return [
            f"export ISOCHRONE_HOME={home} ISOCHRONE_GATEWAY={self.tenant.gateway_url} "
            f"ISOCHRONE_RESOLVE={home / 'resolve.json'}",
            ".venv/bin/isochrone status",
            ".venv/bin/isochrone explain embeddings",
            f"curl -s {url}/v1/models -H 'Authorization: Bearer {key}'",
            f"curl -s {url}/v1/embeddings -H 'Authorization: Bearer {key}' "
            '-d \'{"model": "embeddings", "input": "a short sentence"}\'',
            f".venv/bin/python -c \"import openai; c = openai.OpenAI(base_url='{url}/v1', "
            f"api_key='{key}'); print(len(c.embeddings.create(model='embeddings', "
            "input=['hello']).data[0].embedding))\"",
            '.venv/bin/python -c "import numpy, tritonclient.http as t; '
            f"c = t.InferenceServerClient('{url.removeprefix('http://')}'); "
            "x = t.InferInput('features', [1, 8], 'FP32'); "
            "x.set_data_from_numpy(numpy.zeros((1, 8), numpy.float32)); "
            "print(c.infer('fraud-scorer', [x], "
            f"headers={{'Authorization': 'Bearer {fraud_key}'}}).as_numpy('probability'))\"",
        ]

    async def _prepare_models(self) -> None:
        self._story.chapter("Models, from the packages that ship them")
        with self._story.progress() as progress:
            task = progress.add_task("models", total=len(self._names))
            for name in self._names:
                source = (await asyncio.to_thread(prepare, self._models_dir, (name,)))[name]
                some = await asyncio.to_thread(cases, source)
                save_cases(self._folder / "cases", name, some)
                progress.advance(task)
                kind = INPUTS.get(name, "real")
                self._story.say(
                    f"{name}: {source.size_bytes / 2**20:.1f} MiB from {source.origin} "
                    f"({source.licence}), {len(some)} {kind} inputs"
                )

    async def _start_network(self) -> None:
        providers = {site.provider for site in self.world.node_sites}
        self._story.chapter(
            f"{len(self.world.cells)} cells, {len(self.world.node_sites)} nodes of "
            f"{len(providers)} providers"
        )
        with self._story.progress() as progress:
            tasks: dict[str, Any] = {}

            def said(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = progress.add_task(what, total=total)
                progress.update(tasks[what], completed=done)

            await self.network.start(said)
        url = self.network.gateway_url(HOME_CELL)
        resolve = self.network.resolve_for(f"client:{HOME_METRO}")
        self.tenant = Tenant(self._folder / "tenant", url, resolve)
        self.operator = Tenant(self._folder / "operator", url, resolve)
        operator_key(self._folder)
        self._settling = Settling(self._story, self.network, self.tenant, self._folder)
        self._story.say(await self.operator.run("nodes"))

    async def _prove(self) -> int:
        self._story.chapter("Which nodes are proven to be inside the European Union")
        proving = Proving(self._story, self.network, self.operator, HOME_METRO)
        seconds = await proving.wait()
        self._story.say(
            f"Three validators and the gateway in {HOME_METRO} had measured every node there "
            f"after {seconds:.1f} s more; what is near no three vantages stays declared."
        )
        return await proving.tell(self._folder)

    async def _deploy(self) -> None:
        self._story.chapter("Services, declared as any tenant would")
        await self.tenant.run("keys", "init", "tenant")
        for name in self._names:
            path = EXAMPLES / f"{name}.yaml"
            self._services[name] = (await asyncio.to_thread(read_declaration, path)).service
            self._story.say(f"$ isochrone apply -y --wait {APPLY_WAIT_S} -f {path}")
            apply = ("apply", "-y", "--wait", APPLY_WAIT_S, "-f", str(path))
            self._story.say(await self.tenant.run(*apply))
            again = await self.tenant.run("apply", "--dry-run", "-o", "json", "-f", str(path))
            self._plans[name] = msgspec.json.decode(again, type=_Applied).plan
            key = await self.tenant.run("keys", "create", "--service", name)
            self._keys[name] = key.strip()
        self._sleeper_key = await sleeping.declare(self.tenant, self._folder)
        await self._settling.deposit((*self._names, sleeping.NAME))
        await self._deploy_central()

    async def _deploy_central(self) -> None:
        """The same models in one region, by the same command, without residency."""
        central = Tenant(self._folder / "central-tenant", self.network.gateway_url(CENTRAL), {})
        await central.run("keys", "init", "tenant")
        folder = self._folder / "central"
        folder.mkdir()
        for name in DEFAULT:  # a language model beside the others would not fit its one node
            path = folder / f"{name}.yaml"
            path.write_text(yaml.safe_dump(central_declaration(EXAMPLES / f"{name}.yaml")))
            await central.run("apply", "-y", "--wait", APPLY_WAIT_S, "-f", str(path))
        created = await central.run("keys", "create", *service_flags(DEFAULT))
        self._central_key = created.strip()
        self._story.say(
            f"Beside it, for comparison: one region in {CENTRAL_METRO} with one node and the same "
            "models (no residency), reached through links of the same lengths."
        )

    def _tell_calm(self) -> None:
        objectives = {name: service.objective for name, service in self._services.items()}
        records = self.crowd.records()
        self._story.chapter("What the callers saw (calm phase), beside one centralised region")
        self._story.cities(city_rows(records, frozenset({"calm"}), objectives))
        self._story.say(
            "Times include the clients' own; PLATFORM is the gateways' and nodes' time without "
            "distance, queue and engine (median)."
        )
        ours = [r for r in records if r.target == "isochrone"]
        for phase, p50_ms, p99_ms in evidence.overhead_by_phase(ours):
            self._story.say(f"  platform, {phase} phase: p50 {p50_ms:.2f}, p99 {p99_ms:.2f} ms")
        self._story.chapter("Links, asked and achieved")
        assert self.network.links is not None
        self._story.links(self.network.links.control.list())

    def _tell_faults(self, seen: evidence.Seen) -> None:
        metros = {node.address: node.site.metro for node in self.network.nodes.values()}
        slowed, cut = seen.slowed, seen.cut
        self._story.chapter("Faults during traffic")
        self._story.say(
            f"The link to {slowed.site} went from {slowed.before_ms:.1f} to {slowed.now_ms:.1f} "
            f"ms: its share of {slowed.service} fell from {slowed.share_before:.0%} to "
            f"{slowed.share_after:.0%}."
        )
        self._story.kill(seen.killed, metros)
        self._story.say(
            f"  {len(seen.rerouted_ms)} requests met an error in the whole run; the next try left "
            f"{percentile(seen.rerouted_ms, 50):.3f} ms after it (median)"
        )
        self._story.freeze(seen.frozen, seen.last_sent_ms, seen.moved, seen.overtaken)
        during = seen.answered_during_cut
        self._story.say(
            f"Cut the fabric of {cut.cell} off for {cut.until_unix_s - cut.from_unix_s:.1f} s: its "
            f"gateway {'knew' if cut.gateway_knew else 'did NOT notice'}, and {during} requests "
            "were answered there meanwhile."
        )
        for record in [r for r in seen.records if r.failed][:10]:
            self._story.say(f"FAILED {record}")

    async def _trespass(self) -> list[Trespass]:
        """Calls that must be refused: services with a residency, asked where they may not run."""
        self._story.chapter("Calls from outside the residency")
        found = []
        for name in self._names:
            for cell in self.world.cells:
                url = self.network.client_url("new-york", cell.name)
                found.append(await asyncio.to_thread(trespass, url, cell, name, self._keys[name]))
        for one in found:
            if one.status == 421:
                self._story.say(f"{one.service} at {one.cell} ({one.country}): 421 {one.said}")
        return found

    async def _decisions(self) -> bool:
        self._story.chapter("One decision in full, and all of them replayed in fresh processes")
        self._story.say(await self.tenant.run("explain", "speech-detection"))
        identical = True
        for name in self._names:
            rows = msgspec.json.decode(await self.tenant.run("replay", name, "-o", "json"))
            same = bool(rows) and all(row["identical"] for row in rows)
            self._story.say(f"{name}: {len(rows)} decisions replayed, identical: {same}")
            identical = identical and same
        return identical

    async def _wake(self) -> sleeping.Woken:
        self._story.chapter("A service at zero, and its first callers")
        url = self.network.client_url(HOME_METRO, HOME_CELL)
        woken = await sleeping.wake(self.tenant, url, self._sleeper_key)
        self._story.say(
            f"{sleeping.NAME} had gone to zero replicas. {woken.woken_callers} callers at once "
            f"were held; {woken.woken_answered} were answered, all after {woken.woken_ms:.0f} ms. "
            f"Then it went {'back to zero' if woken.slept_again else 'NOT back to zero'}."
        )
        return woken

    def _tell_limits(self, figures: dict[str, Any]) -> None:
        self._story.chapter("Promised and measured")
        for name, limit_ms in LIMITS_MS.items():
            value = figures[name]
            word = "NOT MEASURED" if value is None else "met" if value <= limit_ms else "MISSED"
            self._story.say(f"{name}: {value} ms, promised {limit_ms:g} ms: {word}")

    def _called(self) -> dict[str, tuple[str, ...]]:
        called = dict(CALLED)
        if self._llm:
            called["paris"] = (*called["paris"], "completions")
        return called

    def _targets(self) -> dict[str, dict[str, Target]]:
        """For each city: the plan's base URL of each service, and the centralised region."""
        targets = {}
        for metro, services in self._called().items():
            cells = {name: self._cell_for(metro, name) for name in services}
            beside = [name for name in services if name in DEFAULT]
            targets[metro] = {
                "isochrone": Target(
                    base_urls={n: self.network.client_url(metro, c) for n, c in cells.items()},
                    api_keys={name: self._keys[name] for name in services},
                ),
                CENTRAL: Target(
                    base_urls=dict.fromkeys(beside, self.network.client_url(metro, CENTRAL)),
                    api_keys=dict.fromkeys(beside, self._central_key),
                ),
            }
        return targets

    def _cell_for(self, metro: str, service: str) -> str:
        """The cell to call from a city: the plan's for its country; where the plan has no row for
        it (its audience's largest cities lie elsewhere), the nearest legal one of the table."""
        plan, country = self._plans[service], city(metro).place.country
        for row in plan.coverage:
            if row.country == country:
                return row.cell
        return min(
            plan.base_urls,
            key=lambda cell: (
                self.world.link(f"client:{metro}", Endpoint("http", cell)).table_rtt_ms
            ),
        )


class _Applied(msgspec.Struct, frozen=True):
    """What ``apply -o json`` prints, as far as the demonstration reads it."""

    plan: Plan
