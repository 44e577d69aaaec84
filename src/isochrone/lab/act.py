"""The acts of the demonstration, in order: models, network, services, traffic, faults, evidence."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import msgspec
import yaml

from isochrone.client.declaration import read_declaration
from isochrone.lab import evidence
from isochrone.lab.callers import Target
from isochrone.lab.cases import save_cases
from isochrone.lab.crowd import Crowd
from isochrone.lab.faults import Freeze, Kill, cut_fabric, freeze, kill, slow_link
from isochrone.lab.inputs import cases
from isochrone.lab.models import DEFAULT, prepare
from isochrone.lab.network import CENTRAL, Network, NodeProcess, operator_key
from isochrone.lab.records import Record, city_rows, share_by_node
from isochrone.lab.story import Story
from isochrone.lab.tenant import Tenant
from isochrone.lab.world import World, default_world
from isochrone.schema.errors import Unavailable
from isochrone.schema.service import Service

EXAMPLES = Path("examples")
HOME_METRO, HOME_CELL = "frankfurt", "fra"
CENTRAL_METRO = "washington"

CALLED: dict[str, tuple[str, ...]] = {
    "frankfurt": ("speech-detection", "text-recognition", "embeddings", "fraud-scorer"),
    "paris": ("speech-detection", "text-recognition", "embeddings"),
    "madrid": ("speech-detection", "text-recognition"),
    "new-york": ("embeddings", "file-typing"),
    "sao-paulo": ("embeddings", "file-typing"),
    "singapore": ("embeddings", "file-typing"),
    "tokyo": ("embeddings", "file-typing"),
}
"""Which services each city calls: those whose audience it belongs to."""

GATEWAY_OF = {
    "frankfurt": "fra",
    "paris": "fra",
    "madrid": "fra",
    "new-york": "iad",
    "sao-paulo": "iad",
    "singapore": "sin",
    "tokyo": "sin",
}
"""The plan's base URL for each city's country."""

RATES = {
    "speech-detection": 6.0,
    "text-recognition": 2.0,
    "embeddings": 2.5,
    "file-typing": 2.5,
    "fraud-scorer": 8.0,
    "completions": 0.3,
}
"""Requests per second and city: together about half of what two cores compute."""

FAULT_RATE_PER_S = 4.0
"""Of text recognition while nodes die: its answers take longest, so that requests are under way."""

WARM_S, CALM_S, SLOW_S, FAULTS_S, CENTRAL_S = 4.0, 15.0, 10.0, 30.0, 8.0
SLOWER_MS = 80.0
FREEZE_S = 6.0
FABRIC_CUT_S = 10.0
SETTLE_S = 3.0
APPLY_WAIT_S = "60"


class Act:
    """One run of the demonstration. ``play`` once, ``stop`` always."""

    def __init__(
        self, story: Story, folder: Path, models_dir: Path, *, seed: int, llm: bool
    ) -> None:
        self._story = story
        self._folder = folder
        self._models_dir = models_dir
        self._seed = seed
        self._llm = llm
        self._names = (*DEFAULT, "completions") if llm else DEFAULT
        self._random = random.Random(seed)
        self._services: dict[str, Service] = {}
        self._keys: dict[str, str] = {}
        self._events: dict[str, Any] = {}
        self.world: World = default_world(seed)
        self.network = Network(self.world, folder, central_metro=CENTRAL_METRO)
        self.crowd = Crowd(folder / "callers", folder / "cases", seed)

    async def play(self) -> dict[str, Any]:
        """All acts; returns the last line's figures (without ``seconds``)."""
        self._story.say(
            "Isochrone on one machine. Distances between cities are EMULATED by user-space links "
            "from measured round trips, each changed by a hidden ±30 %; the machine is ONE, its "
            "cores are shared by all nodes, and places are declared, not proven."
        )
        await self._prepare_models()
        await self._start_network()
        await self._deploy()
        await self._traffic()
        return await self._report()

    async def stop(self) -> None:
        """End every process of the demonstration."""
        await self.crowd.stop()
        await self.network.stop()

    def things_to_try(self) -> list[str]:
        """Commands for a person, with this run's addresses and key."""
        url = self.network.client_url(HOME_METRO, HOME_CELL)
        key, fraud_key = self._keys["embeddings"], self._keys["fraud-scorer"]
        home = self.tenant.home
        environment = (
            f"ISOCHRONE_HOME={home} ISOCHRONE_GATEWAY={self.tenant.gateway_url} "
            f"ISOCHRONE_RESOLVE={home / 'resolve.json'}"
        )
        return [
            f"export {environment}",
            ".venv/bin/isochrone status",
            ".venv/bin/isochrone explain embeddings",
            f"curl -s {url}/v1/models -H 'Authorization: Bearer {key}'",
            f"curl -s {url}/v1/embeddings -H 'Authorization: Bearer {key}' "
            '-d \'{"model": "embeddings", "input": "a short sentence"}\'',
            f".venv/bin/python -c \"import openai; c = openai.OpenAI(base_url='{url}/v1', "
            f"api_key='{key}'); print(len(c.embeddings.create(model='embeddings', "
            "input=['hello']).data[0].embedding))\"",
            f'.venv/bin/python -c "import tritonclient.http as t; c = t.InferenceServerClient('
            f"'{url.removeprefix('http://')}'); print(c.get_model_metadata('fraud-scorer', "
            f"headers={{'Authorization': 'Bearer {fraud_key}'}}))\"",
        ]

    async def _prepare_models(self) -> None:
        self._story.chapter("Models, from the packages that ship them")
        with self._story.progress() as progress:
            task = progress.add_task("models", total=len(self._names))
            for name in self._names:
                sources = await asyncio.to_thread(prepare, self._models_dir, (name,))
                source = sources[name]
                some = await asyncio.to_thread(cases, source)
                save_cases(self._folder / "cases", name, some)
                progress.advance(task)
                self._story.say(
                    f"{name}: {source.size_bytes / 2**20:.1f} MiB from {source.origin} "
                    f"({source.licence}), {len(some)} real inputs with the model's own answers"
                )

    async def _start_network(self) -> None:
        self._story.chapter("Three cells, fourteen nodes of five providers")
        with self._story.progress() as progress:
            tasks: dict[str, Any] = {}

            def said(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = progress.add_task(what, total=total)
                progress.update(tasks[what], completed=done)

            await self.network.start(said)
        self.tenant = Tenant(
            self._folder / "tenant",
            self.network.gateway_url(HOME_CELL),
            self.network.resolve_for(f"client:{HOME_METRO}"),
        )
        self.operator = Tenant(
            self._folder / "operator", self.network.gateway_url(HOME_CELL), self.tenant.resolve
        )
        operator_key(self._folder)
        self._story.say(await self.operator.run("nodes"))

    async def _deploy(self) -> None:
        self._story.chapter("Services, declared as any tenant would")
        await self.tenant.run("keys", "init", "tenant")
        for name in self._names:
            path = EXAMPLES / f"{name}.yaml"
            self._services[name] = (await asyncio.to_thread(read_declaration, path)).service
            self._story.say(f"$ isochrone apply -y --wait {APPLY_WAIT_S} -f {path}")
            self._story.say(
                await self.tenant.run("apply", "-y", "--wait", APPLY_WAIT_S, "-f", str(path))
            )
            key = await self.tenant.run("keys", "create", "--service", name)
            self._keys[name] = key.strip()
        await self._deploy_central()

    async def _deploy_central(self) -> None:
        """The same models in one region, by the same command, without residency."""
        self.central = Tenant(
            self._folder / "central-tenant", self.network.gateway_url(CENTRAL), {}
        )
        await self.central.run("keys", "init", "tenant")
        folder = self._folder / "central"
        folder.mkdir()
        for name in self._names:
            path = folder / f"{name}.yaml"
            path.write_text(yaml.safe_dump(central_declaration(EXAMPLES / f"{name}.yaml")))
            await self.central.run("apply", "-y", "--wait", APPLY_WAIT_S, "-f", str(path))
        self._central_key = (
            await self.central.run("keys", "create", *_flags(list(self._names)))
        ).strip()
        self._story.say(
            f"Beside it, for comparison: one region in {CENTRAL_METRO} with one node and the same "
            "models (no residency), reached through links of the same lengths."
        )

    async def _traffic(self) -> None:
        self._story.chapter("Traffic from seven cities, and four faults")
        await self.crowd.start(self._targets(), self._called())
        with self._story.progress() as progress:
            total = 5
            task = progress.add_task("phases", total=total)
            await self.crowd.phase("isochrone", "warm", WARM_S, RATES)
            progress.advance(task)
            await self.crowd.phase("isochrone", "calm", CALM_S, RATES)
            progress.advance(task)
            await self.crowd.phase("central", "central-warm", WARM_S, RATES)
            await self.crowd.phase("central", "central", CENTRAL_S, RATES)
            progress.advance(task)
            await self._slow_phase()
            progress.advance(task)
            await self._fault_phase()
            progress.advance(task)

    async def _slow_phase(self) -> None:
        """One link slows down by ``SLOWER_MS``; traffic must leave it."""
        service = "speech-detection"
        calm = [r for r in self._records("calm") if r.service == service]
        address, share = next(iter(share_by_node(calm).items()))
        node = self.network.node_by_address(address)
        before_ms, now_ms = slow_link(self.network, node, HOME_CELL, SLOWER_MS)
        await self.crowd.phase("isochrone", "slow", SLOW_S, RATES)
        slow = [r for r in self._records("slow") if r.service == service]
        begun_s = min(r.sent_unix_s for r in slow)
        late = [r for r in slow if r.sent_unix_s > begun_s + SLOW_S / 2]
        after = share_by_node(late).get(address, 0.0)
        self._events["slow"] = (
            f"The link to {node.site.name} went from {before_ms:.1f} to {now_ms:.1f} ms: its share "
            f"of {service} fell from {share:.0%} to {after:.0%}."
        )
        slow_link(self.network, node, HOME_CELL, -SLOWER_MS)

    async def _fault_phase(self) -> None:
        rates = RATES | {"text-recognition": FAULT_RATE_PER_S}
        calls = asyncio.create_task(self.crowd.phase("isochrone", "faults", FAULTS_S, rates))
        try:
            await asyncio.sleep(SETTLE_S)
            with self.operator.admin("operator") as client:
                busiest = self._busiest(self._records("calm"))
                self._events["kill"] = await kill(client, busiest)
                await asyncio.sleep(SETTLE_S)
                since_s = time.time() - SETTLE_S
                recent = [r for r in self._records("faults") if r.sent_unix_s > since_s]
                self._events["freeze"] = await freeze(client, self._busiest(recent), FREEZE_S)
            await cut_fabric(self.network, "sin", FABRIC_CUT_S)
            await calls
        finally:
            calls.cancel()

    def _busiest(self, records: list[Record]) -> NodeProcess:
        """The node of the home cell that answered most (its gateway is watched)."""
        shares = share_by_node(r for r in records if r.cell == HOME_CELL)
        if not shares:
            raise Unavailable(f"Nothing was answered in {HOME_CELL} lately.")
        return self.network.node_by_address(next(iter(shares)))

    async def _report(self) -> dict[str, Any]:
        records = self.crowd.records()
        ours = [r for r in records if r.target == "isochrone"]
        metros = {node.address: node.site.metro for node in self.network.nodes.values()}
        objectives = {name: s.objective.latency_ms for name, s in self._services.items()}
        self._story.chapter("What the callers saw (calm phase), beside one centralised region")
        self._story.cities(city_rows(records, frozenset({"calm"}), objectives), metros)
        self._story.say(
            "Times include the clients' own; PLATFORM is the gateways' and nodes' time without "
            "distance, queue and engine (median)."
        )
        for phase, p50_ms, p99_ms in evidence.overhead_by_phase(ours):
            self._story.say(f"  platform, {phase} phase: p50 {p50_ms:.2f}, p99 {p99_ms:.2f} ms")
        self._story.chapter("Links, asked and achieved")
        assert self.network.links is not None
        self._story.links(self.network.links.control.list())
        self._story.chapter("Faults during traffic")
        tries = evidence.failed_tries(self.network)
        killed: Kill = self._events["kill"]
        frozen: Freeze = self._events["freeze"]
        hang_ms = evidence.last_sent_ms(tries, frozen)
        self._story.say(self._events["slow"])
        self._story.kill(killed, metros)
        self._story.freeze(frozen, hang_ms, evidence.tried_on(tries, frozen.node, frozen.at_unix_s))
        self._story.say(f"Cut the fabric of sin off for {FABRIC_CUT_S:g} s: see FAILED below.")
        for record in [r for r in ours if r.failed][:10]:
            self._story.say(f"FAILED {record}")
        identical = await self._decision()
        violations = evidence.residency_violations(ours, self._services)
        return evidence.figures(
            ours,
            nodes=len(self.world.node_sites),
            services=len(self._names),
            killed=killed,
            hang_ms=hang_ms,
            violations=violations,
            identical=identical,
        )

    async def _decision(self) -> bool:
        self._story.chapter("One decision in full, and replayed in a fresh process")
        self._story.say(await self.tenant.run("explain", "speech-detection"))
        identical = True
        for name in self._names:
            rows = msgspec.json.decode(await self.tenant.run("replay", name, "-o", "json"))
            identical = identical and bool(rows) and all(row["identical"] for row in rows)
            self._story.say(f"{name}: {len(rows)} decisions replayed, identical: {identical}")
        return identical

    def _records(self, phase: str) -> list[Record]:
        return [r for r in self.crowd.records() if r.phase == phase and not r.failed]

    def _called(self) -> dict[str, tuple[str, ...]]:
        called = dict(CALLED)
        if self._llm:
            called["paris"] = (*called["paris"], "completions")
        return called

    def _targets(self) -> dict[str, dict[str, Target]]:
        """For each city: its gateway and the centralised region, as reached from there."""
        targets = {}
        for city, cell in GATEWAY_OF.items():
            targets[city] = {
                "isochrone": Target(
                    base_url=self.network.client_url(city, cell),
                    api_keys=self._keys,
                ),
                CENTRAL: Target(
                    base_url=self.network.client_url(city, CENTRAL),
                    api_keys=dict.fromkeys(self._names, self._central_key),
                ),
            }
        return targets


def _flags(names: list[str]) -> list[str]:
    return [part for name in names for part in ("--service", name)]


def central_declaration(path: Path) -> dict[str, Any]:
    """An example's declaration as a centralised cloud would run it: one replica, no residency."""
    declared: dict[str, Any] = yaml.safe_load(path.read_text())
    for name in ("residency", "max_price_usd_per_hour"):
        declared.pop(name, None)
    declared["replicas"] = 1
    declared["audience"] = ["world"]
    declared["objective"] = {"latency_ms": 1000}
    model = declared["model"]
    if "path" in model:
        model["path"] = str((path.parent / model["path"]).resolve())
    return declared
