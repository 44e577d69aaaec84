"""A gateway serves for exactly as long as it, and its node, are proven to be where they must be."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from tests.fabric.attesting import Repeating, verdict

from isochrone.atlas.latency_place_fit import sites
from isochrone.atlas.roundtrips import measured
from isochrone.client.admin import AdminClient
from isochrone.fabric import attested_feed
from isochrone.gateway.config import GatewayLimits
from isochrone.gateway.process import Gateway
from isochrone.schema.admin import NodeView, PlaceView
from isochrone.schema.errors import TheirFault
from isochrone.schema.identity import PrivateKey
from isochrone.schema.proof import S_VERDICTS
from isochrone.schema.service import Residency

from .http_calls import call
from .town import FRANKFURT, Town, http_port, until

PROVEN_EU = Residency(allow=("EU",))
VALID_MS = 2500
"""Eight repetitions: a busy machine loses some turns."""

BODY = b'{"inputs": []}'


async def infer(town: Town, gateway: Gateway) -> tuple[int, bytes]:
    key = town.api_key("speech", residency=PROVEN_EU)
    answer = await call(http_port(gateway), "POST", "/v2/models/speech/infer", BODY, key)
    return answer.status, answer.body


async def place(gateway: Gateway, key: PrivateKey, node: str) -> PlaceView:
    def ask() -> PlaceView:
        with AdminClient(f"http://127.0.0.1:{http_port(gateway)}", key) as client:
            return client.place(node)

    return await asyncio.to_thread(ask)


async def nodes(gateway: Gateway, key: PrivateKey) -> list[NodeView]:
    def ask() -> list[NodeView]:
        with AdminClient(f"http://127.0.0.1:{http_port(gateway)}", key) as client:
            return client.nodes()

    return await asyncio.to_thread(ask)


async def test_proofs_come_and_lapse_and_a_verdict_ends_what_they_allowed(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attested_feed, "SWEEP_S", 0.1)
    told = Repeating(town.fabric)
    gateway = await town.gateway(
        validators=told.addresses,
        account="the operator",
        attested_valid_ms=VALID_MS,
        limits=GatewayLimits(hold_ms=50),
    )
    try:
        node = await town.node(FRANKFURT, at=gateway)
        await town.route(town.service("speech", [(node, "l1")], residency=PROVEN_EU))
        status, body = await infer(town, gateway)
        assert status == 421
        assert b"0 of the 3 accounts needed prove that it is inside EU" in body

        told.subjects = {gateway.key}
        await until(lambda: gateway.book.services[f"{town.tenant.address}.speech"].here_legal)
        status, body = await infer(town, gateway)
        assert status == 503, "the gateway is proven, its node is not"
        assert b"no_legal_replica" in body or b"residency" in body

        told.subjects = {gateway.key, node.key}
        service = gateway.book.services
        await until(lambda: service[f"{town.tenant.address}.speech"].legal)
        assert (await infer(town, gateway))[0] == 200
        view = await place(gateway, town.tenant, node.address)
        areas = ("DE", "EU", "EEA", "GDPR-adequate")
        assert view.evidence == dict.fromkeys(areas, "physical")
        assert len(view.bounds) == 3
        assert view.account == node.provider.address
        assert [row.evidence for row in await nodes(gateway, town.tenant)] == ["physical"]

        for validator in told.vantages[:2]:
            town.fabric.publish(S_VERDICTS, verdict(validator, 1, node.address, until=10**9))
        await until(lambda: not service[f"{town.tenant.address}.speech"].legal)
        assert (await infer(town, gateway))[0] == 503
        town.fabric.publish(S_VERDICTS, verdict(told.vantages[0], 2))
        await until(lambda: service[f"{town.tenant.address}.speech"].legal)

        told.subjects = set()
        await until(lambda: not service[f"{town.tenant.address}.speech"].here_legal)
        assert (await infer(town, gateway))[0] == 421
    finally:
        await told.close()


async def test_a_region_admits_where_a_service_asks_for_no_more(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten vantages, too far to prove anything; what a real child says of their round trips."""
    monkeypatch.setattr("isochrone.fabric.regions.LOOK_S", 0.1)
    trips = [(p, t) for p in sites().places if (t := measured("frankfurt", p.metro)) is not None]
    seen = [(place, round(trip.min_ms * 1000)) for place, trip in trips if trip.min_ms > 15][:10]
    told = Repeating(town.fabric, seen)
    gateway = await town.gateway(validators=told.addresses, account="the operator")
    try:
        node = await town.node(FRANKFURT, at=gateway)
        told.subjects = {gateway.key, node.key}
        far = Residency(deny=("AQ",), evidence="statistical")
        names = {"far": far, "strict": msgspec.structs.replace(far, evidence="physical")}
        await town.route(
            *(town.service(name, [(node, name)], residency=rule) for name, rule in names.items())
        )
        service = gateway.book.services
        await until(lambda: service[f"{town.tenant.address}.far"].legal, 20)
        assert service[f"{town.tenant.address}.far"].here_legal
        assert not service[f"{town.tenant.address}.strict"].legal
        view = await place(gateway, town.tenant, node.address)
        assert view.region is not None
        assert view.region.countries == view.whereabouts.region
        assert view.region.error_km >= 75
    finally:
        await told.close()


async def test_a_place_that_nobody_knows_is_404(town: Town) -> None:
    gateway = await town.gateway()
    with pytest.raises(TheirFault, match="is known here"):
        await place(gateway, town.tenant, f"0x{7:040x}")
