"""Deciding on all services again moves nothing: what was granted a moment ago stays granted."""

from __future__ import annotations

import asyncio

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.controller import home
from isochrone.controller.declared import Declared
from isochrone.controller.inputs import Stamp
from isochrone.controller.joint import decided_together
from isochrone.controller.joint_inputs import Subject
from isochrone.controller.view import World
from isochrone.rules.placement import decide
from isochrone.schema.digests import digest
from isochrone.schema.node import Capacity, Node, Offer
from isochrone.schema.service import AudienceShare, Objective, ReplicaRange, Residency

from .worlds import declare, node, seen, service, world

METROS = ("frankfurt", "paris", "madrid", "singapore", "chicago")
RTT_MS = {"frankfurt": 1.0, "paris": 10.0, "madrid": 30.0, "singapore": 160.0, "chicago": 95.0}


@st.composite
def machines(draw: st.DrawFn) -> dict[Node, object]:
    found = {}
    for number in range(1, draw(st.integers(2, 7)) + 1):
        metro = draw(st.sampled_from(METROS))
        cores = draw(st.sampled_from([500, 1000, 2000]))
        provider = draw(st.integers(1, 4))
        price = 10_000 + 4_000 * (provider % 3)
        one = node(
            number,
            metro,
            provider,
            capacity=Capacity(cpu_milli=cores, memory_mib=4096, engines=("onnx",)),
            offer=Offer(cpu_core_microusd_per_hour=price, memory_gib_microusd_per_hour=0),
        )
        found[one] = msgspec.structs.replace(seen(), rtt_ms=RTT_MS[metro])
    return found


@st.composite
def services(draw: st.DrawFn) -> list[Declared]:
    found = []
    for number in range(draw(st.integers(2, 4))):
        least = draw(st.integers(1, 2))
        found.append(
            declare(
                service(
                    f"s{number}",
                    audience=(AudienceShare(where=draw(st.sampled_from(["DE", "SG", "US"]))),),
                    objective=Objective(latency_ms=draw(st.sampled_from([30.0, 150.0]))),
                    replicas=ReplicaRange(min=least, max=least + draw(st.integers(0, 1))),
                    residency=Residency(evidence="declared"),
                    priority=draw(st.integers(0, 1)),
                )
            )
        )
    return found


def granted(
    here: World, standings: dict[str, home.Standing | None], known: list[Declared], at_unix_ms: int
) -> dict[str, home.Standing]:
    """The standings after one joint decision."""
    stamp = Stamp(cell="fra", epoch=1, at_unix_ms=at_unix_ms)
    subjects = [
        Subject(declared=one, standing=standings.get(one.id), troubled=frozenset()) for one in known
    ]
    joint = asyncio.run(decided_together(here, {}, subjects, stamp))
    made = {}
    for one in known:
        seen_now = home.situation(here, {}, one, {})
        decision = decide(home.inputs_for(here, {}, one, stamp, seen_now, joint))
        made[one.id] = home.restored(decision, digest(decision), 0.0)
        assert home.sorted_sites(decision.sites) == home.sorted_sites(joint.grants[one.id]), (
            "a service's own placement follows the sites that it was granted"
        )
    return made


@settings(max_examples=20)
@given(machines(), services())
def test_what_stands_is_not_moved_by_looking_again(
    nodes: dict[Node, object], known: list[Declared]
) -> None:
    here = world(nodes)  # type: ignore[arg-type]
    first = granted(here, {}, known, 0)
    again = granted(here, dict(first), known, 3_600_000)  # another hour, another rotation
    sites = {id_: home.sorted_sites(standing.sites) for id_, standing in first.items()}
    assert {id_: home.sorted_sites(s.sites) for id_, s in again.items()} == sites
