"""Bursts end to end, over real sockets: what is measured, and what is not believed."""

from __future__ import annotations

from isochrone.schema.documents import unpack, unseal
from isochrone.schema.proof import PLACE_ATTESTATION, PlaceAttestation

from .probed import HERE, pair


async def test_a_burst_becomes_an_attestation_that_names_all_it_is_about() -> None:
    async with pair() as world:
        world.meet()
        packed = await world.vantage.measure(world.key.address)
        assert packed is not None
        said, signer = unseal(unpack(packed), PLACE_ATTESTATION, PlaceAttestation)
        assert signer == said.vantage == world.vantage_key.address
        assert (said.subject, said.account, said.place) == (world.key.address, "0xaccount", HERE)
        assert said.probes == 8
        assert 0 < said.rtt_us < 5000
        assert [found.packed for found in world.found] == [packed]
        assert world.prover.counters == {"begun": 1, "signed": 1}
