"""Answers are signed, asked again, compared; liars stand alone. Real channels, NATS, gateway."""

from __future__ import annotations

import asyncio
import json
import math
import random
from typing import Any

import msgspec
import pytest
from tests.rules.test_answer_scores import WORDS, chances, write

from isochrone.gateway import answer_desk, answer_roots, rounds
from isochrone.gateway.config import GatewayLimits
from isochrone.gateway.process import Gateway
from isochrone.rules import answer_scores, routing
from isochrone.rules.answers import finding, is_right, is_wrong
from isochrone.schema.answer_checks import ANSWER_CHECK, AnswerCheck
from isochrone.schema.documents import pack as pack_document
from isochrone.schema.documents import seal, unpack, unseal
from isochrone.schema.frames import AnswerRootWanted
from isochrone.schema.identity import PrivateKey
from isochrone.schema.service import Residency
from isochrone.validator import answers as validator_answers
from isochrone.validator.answers import Answers

from .acting_node import ActingNode, Asked, Script
from .http_calls import KeptLine
from .town import FRANKFURT, PARIS, WASHINGTON, Town, http_port, until

ENGINE_US = 500
"""Told by every node: none seems slow because this machine is busy, and is then left alone."""

PAUSE_S = 0.002
"""Between two requests of a caller: the rest of the process wants its turns, too."""

SEEDS = tuple(bytes([number]) * 32 for number in range(4))


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "ANSWERS_S", 0.05)
    monkeypatch.setattr(answer_roots, "ROOT_S", 0.55)
    monkeypatch.setattr(answer_roots, "ANSWER_S", 0.3)
    monkeypatch.setattr(answer_desk, "EVIDENCE_S", 1.5)
    monkeypatch.setattr(validator_answers, "ASK_S", 0.3)
    # All replicas are equally near, however late a ping is: whom ranking never sends a request,
    # nobody is asked to check (``gateway.replays``).
    monkeypatch.setattr(routing, "SHORTLIST_MS", 1e6)


def doubled(asked: Asked) -> None:
    """An honest model: twice the number, up to the noise of this machine."""
    reply(asked, 2.0)


def smaller(asked: Asked) -> None:
    """A model that is a tenth off."""
    reply(asked, 2.2)


def reply(asked: Asked, factor: float) -> None:
    value = json.loads(asked.body)["inputs"][0]["data"][0]
    noise = 1 + 1e-6 * random.random()
    output = {"name": "y", "datatype": "FP32", "shape": [1], "data": [value * factor * noise]}
    tell(asked, {"model_name": "m", "outputs": [output]})


def tell(asked: Asked, answer: dict[str, Any]) -> None:
    asked.answer(json.dumps(answer).encode(), engine_us=ENGINE_US)


def teller(asked: Asked) -> None:
    """A language model of thirty words: it writes, and says how likely a next word is."""
    request = json.loads(asked.body)
    choice: dict[str, Any] = {"text": write(request["prompt"], 0.0, random.Random(0), words=12)}
    if "logprobs" in request:
        found = sorted(zip(chances(request["prompt"]), WORDS, strict=True), reverse=True)[:20]
        top = [{"token": word, "logprob": math.log(chance)} for chance, word in found]
        choice["logprobs"] = {"content": [{"top_logprobs": top}]}
    tell(asked, {"choices": [choice]})


def babbler(asked: Asked) -> None:
    """Another one, that calls itself the same."""
    request = json.loads(asked.body)
    if "logprobs" in request:
        teller(asked)
    else:
        text = write(request["prompt"], 0.0, random.Random(0), words=12, blur=-1.0)
        tell(asked, {"choices": [{"text": text}]})


class World:
    """A gateway, nodes of one service, a caller that goes on asking, a validator."""

    def __init__(self, town: Town, gateway: Gateway, key: PrivateKey) -> None:
        self.town = town
        self.gateway = gateway
        self.validator = key
        self.nodes: list[ActingNode] = []
        self._callers: list[asyncio.Task[None]] = []

    async def serve(self, *scripts: Script, checks: bool = True, **settings: Any) -> None:
        self.texts = settings.get("task") == "completions"
        for script in scripts:
            self.nodes.append(await self.town.node(FRANKFURT, script, at=self.gateway))
        rows = [(node, f"l{number}") for number, node in enumerate(self.nodes)]
        service = self.town.service("speech", rows, answer_checks=checks, **settings)
        await self.town.route(service)
        loop = asyncio.get_running_loop()
        self._callers = [loop.create_task(self._ask(start)) for start in (0, 1, 2)]

    async def _ask(self, start: int) -> None:
        async with KeptLine(http_port(self.gateway), self.town.api_key("speech")) as line:
            for number in range(start, 100_000, 3):
                if self.texts:
                    asked = {"model": "speech", "prompt": f"w{number} so", "temperature": 0}
                    await line.post("/v1/completions", asked)
                    continue
                data = [number % 97 + 1.0]
                tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": data}
                await line.post("/v2/models/speech/infer", {"inputs": [tensor], "id": str(number)})
                await asyncio.sleep(PAUSE_S)

    async def checks(
        self, node: ActingNode, seeds: tuple[bytes, ...] = SEEDS, patience_s: float = 20.0
    ) -> list[AnswerCheck]:
        answers = Answers(
            self.town.fabric,
            self.validator,
            lambda _: "fra",
            patience_s=patience_s,
            poll_s=0.05,
        )
        packed = await answers.check(node.address, seeds)
        found = []
        for document in packed:
            check, signer = unseal(unpack(document), ANSWER_CHECK, AnswerCheck)
            assert signer == self.validator.address == check.validator
            found.append(check)
        return found

    async def close(self) -> None:
        for caller in self._callers:
            caller.cancel()
        await asyncio.gather(*self._callers, return_exceptions=True)


@pytest.fixture
async def world(town: Town) -> Any:
    key = PrivateKey.generate()
    limits = GatewayLimits(answer_checks_share=0.9)
    gateway = await town.gateway(validators=(key.address,), limits=limits)
    made = World(town, gateway, key)
    yield made
    await made.close()


async def test_honest_answers_are_found_right_and_the_second_never_saw_them(world: World) -> None:
    await world.serve(doubled, doubled, doubled)
    first = world.nodes[0]
    checks = await world.checks(first)
    assert len(checks) == len(SEEDS)
    assert all(is_right(check) and check.distance_ppm < 1_000_000 for check in checks)
    assert finding(checks).verdict == "ok"
    for node in world.nodes:
        bodies = [asked.body for asked in node.asked]
        assert len(set(bodies)) == len(bodies), "no node is asked for the same twice"
        ids = [asked.ask.request_id for asked in node.asked]
        assert len(set(ids)) == len(ids)
        assert len({tuple(sorted(asked.ask.headers)) for asked in node.asked}) == 1
    assert world.gateway.replays.sent >= len(SEEDS)


async def test_a_smaller_model_stands_alone(world: World) -> None:
    await world.serve(smaller, doubled, doubled)
    checks = await world.checks(world.nodes[0])
    assert sum(map(is_wrong, checks)) >= 3
    assert finding(checks).verdict == "failed"
    honest = await world.checks(world.nodes[1], tuple(bytes([n]) * 32 for n in range(9, 13)))
    assert finding(honest).verdict == "ok"


async def test_a_cache_of_canaries_knows_none(world: World) -> None:
    """A node that keeps right answers to what it was asked before, and lies about the rest."""
    known: dict[bytes, bool] = {}

    def caching(asked: Asked) -> None:
        (doubled if asked.body in known else smaller)(asked)
        known[asked.body] = True

    await world.serve(caching, doubled, doubled)
    assert finding(await world.checks(world.nodes[0])).verdict == "failed"


async def test_text_of_another_model_is_scored_and_stands_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_scores, "POSITIONS", 3)
    await world.serve(babbler, teller, teller, task="completions")
    (check,) = await world.checks(world.nodes[0], SEEDS[:1])
    assert is_wrong(check)
    assert check.second_answer != check.answer


async def test_a_node_that_signs_nothing_is_unknown_and_rests(world: World) -> None:
    await world.serve(doubled, doubled, doubled)
    silent = world.nodes[0]
    silent.root = lambda gateway, wanted: None
    roots = world.gateway.answers.roots
    await until(lambda: roots.refused[silent.address] > 0)
    assert not roots.batches.get(silent.address)
    assert finding(await world.checks(silent, SEEDS, 0.2)).verdict == "unknown"
    load = world.gateway.fleet.loads["l0"]
    await until(lambda: load.health.ejected_until_s > 0)


async def test_a_wrong_root_is_no_root(world: World) -> None:
    await world.serve(doubled, doubled, doubled)
    liar = world.nodes[0]
    honest = liar.answers.sign

    def other(gateway: str, wanted: AnswerRootWanted) -> Any:
        signed = honest(gateway, wanted)
        if signed is None:
            return None
        forged = PrivateKey.generate()
        body = msgspec.json.decode(unpack(signed.document).body) if signed.document else {}
        return msgspec.structs.replace(
            signed, document=pack_document(seal("answer-root", body, forged)), unknown=()
        )

    liar.root = other
    roots = world.gateway.answers.roots
    await until(lambda: roots.refused[liar.address] > 0)
    assert not roots.batches.get(liar.address)


async def test_without_consent_nothing_is_kept(world: World) -> None:
    await world.serve(doubled, doubled, doubled, checks=False)
    await until(lambda: sum(len(node.asked) for node in world.nodes) > 50)
    desk = world.gateway.answers
    assert not world.gateway.keeper.rounds
    assert world.gateway.keeper.room.used == 0
    assert not desk.roots.batches
    asked = AnswerRootWanted
    assert not any(isinstance(m, asked) for node in world.nodes for m in node.controls)
    assert await world.checks(world.nodes[0], SEEDS[:1], 0.1) == []


async def test_consent_that_is_withdrawn_lets_everything_go(world: World) -> None:
    await world.serve(doubled, doubled, doubled)
    roots = world.gateway.answers.roots
    await until(lambda: roots.batches)
    rows = [(node, f"l{number}") for number, node in enumerate(world.nodes)]
    await world.town.route(world.town.service("speech", rows, revision=2))
    await until(lambda: world.gateway.keeper.room.used == 0)
    assert not any(batch.samples for held in roots.batches.values() for batch in held)


async def test_nobody_outside_the_mask_is_asked_again(world: World) -> None:
    """Of three replicas only one more lies inside: no referee, so nothing can be called wrong."""
    abroad = await world.town.node(WASHINGTON, doubled, at=world.gateway)
    near = await world.town.node(PARIS, smaller, at=world.gateway)
    world.nodes += [abroad, near]
    eu = Residency(allow=("EU",), evidence="declared")
    await world.serve(doubled, residency=eu)
    home = world.nodes[-1]
    checks = await world.checks(home, SEEDS[:2], 2.0)
    assert not abroad.asked
    assert not any(map(is_wrong, checks))


async def test_strangers_are_told_nothing(world: World) -> None:
    await world.serve(doubled, doubled, doubled)
    world.validator = PrivateKey.generate()
    refused = world.gateway.answers.refused
    answers = Answers(
        world.town.fabric, world.validator, lambda _: "fra", patience_s=0.1, poll_s=0.05
    )
    assert await answers.check(world.nodes[0].address, SEEDS) == ()
    assert world.gateway.answers.refused > refused
