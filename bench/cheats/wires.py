"""Liars about their place as real processes behind emulated links: does the verdict follow?

The one cheat whose timing simulated time cannot show. ``lab.place_trial`` starts vantages, links
and claimants; here each is judged, then the honest one's hidden delay is changed and changed back.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from isochrone.lab.place_trial import Claimant, trial

NEAR_MS, AWAY_MS = 0.4, 6.0

CLAIMANTS = (
    Claimant(name="honest", rtt_ms=NEAR_MS),
    Claimant(name="claims_another_country_near", rtt_ms=AWAY_MS),
    Claimant(name="claims_another_country_far", rtt_ms=95.0),
    Claimant(name="relays_probes", rtt_ms=AWAY_MS, box_rtt_ms=0.2),
)


async def _judge_all() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        async with trial(Path(folder), CLAIMANTS) as running:
            judged = {one.name: await running.judge(one.name) for one in CLAIMANTS}
            running.hide("honest", AWAY_MS)
            away = await running.judge("honest")
            running.hide("honest", NEAR_MS)
            back = await running.judge("honest")
    honest = judged["honest"].proven
    return {
        "proven": {name: one.proven for name, one in judged.items()},
        "fastest_us": {name: one.rtts_us[0] for name, one in judged.items() if one.rtts_us},
        "follows_hidden_delay": honest and not away.proven and back.proven,
    }


def over_links() -> dict[str, Any]:
    """Who was proven to stand where it said; whether a hidden delay changed that, both ways."""
    return asyncio.run(_judge_all())
