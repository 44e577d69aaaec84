"""The verdict on a place follows delays that nobody is told: real processes, emulated links."""

from __future__ import annotations

from pathlib import Path

import pytest

from isochrone.lab.place_trial import Claimant, trial

pytestmark = pytest.mark.processes

CLAIMANTS = (
    Claimant(name="honest", rtt_ms=0.4),
    Claimant(name="next-country", rtt_ms=5.0),
    Claimant(name="other-continent", rtt_ms=95.0),
    Claimant(name="behind-a-box", rtt_ms=5.0, box_rtt_ms=0.2),
)


async def test_only_who_is_near_is_proven_and_only_while_it_is(tmp_path: Path) -> None:
    async with trial(tmp_path, CLAIMANTS) as running:
        judged = {one.name: await running.judge(one.name) for one in CLAIMANTS}
        assert {name: one.proven for name, one in judged.items()} == {
            "honest": True,
            "next-country": False,
            "other-continent": False,
            "behind-a-box": False,
        }
        assert all(len(one.rtts_us) == 3 for one in judged.values())
        assert judged["behind-a-box"].rtts_us[0] >= 5_200  # both links, whatever the box does
        assert judged["other-continent"].rtts_us[0] >= 95_000
        running.hide("honest", 5.0)
        moved = await running.judge("honest")
        assert not moved.proven
        assert "disc" in moved.why_not
        running.hide("honest", 0.4)
        assert (await running.judge("honest")).proven
