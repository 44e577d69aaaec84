from __future__ import annotations

import math
import os
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.atlas.audience import audience_countries, audience_points
from isochrone.atlas.blocs import CONTINENTS, countries
from isochrone.atlas.cities import all_cities
from isochrone.schema.service import AudienceShare

with_cities = sorted({city.place.country for city in all_cities()} & set(countries()))
names = (
    st.sampled_from(with_cities)
    | st.sampled_from(sorted(set(CONTINENTS) - {"Antarctica"}))
    | st.sampled_from(["EU", "EEA", "GDPR-adequate", "world"])
    | st.sampled_from([f"city:{city.place.metro}" for city in all_cities()[:500]])
)
shares = st.builds(AudienceShare, where=names, weight=st.floats(1e-3, 1e3))


@settings(max_examples=40)
@given(st.lists(shares, min_size=1, max_size=8), st.integers(8, 60))
def test_an_audience_keeps_its_weight_and_its_countries(
    wanted: list[AudienceShare], points_max: int
) -> None:
    audience = audience_points(wanted, points_max)
    assert 1 <= len(audience) <= points_max
    assert len({point.place.metro for point in audience}) == len(audience)
    assert math.isclose(math.fsum(point.weight for point in audience), 1.0, abs_tol=1e-9)
    legal = frozenset().union(*(audience_countries(share.where) for share in wanted))
    assert {point.place.country for point in audience} <= legal
    assert audience == audience_points(list(wanted), points_max)


def test_two_processes_with_different_hash_seeds_agree() -> None:
    program = (
        "from isochrone.atlas.audience import audience_points\n"
        "from isochrone.schema.digests import digest\n"
        "from isochrone.schema.service import AudienceShare\n"
        "print(digest(audience_points([AudienceShare(where='Europe'),"
        " AudienceShare(where='world', weight=2.0), AudienceShare(where='tokyo')])))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(answers) == 1
    assert len(answers.pop().strip()) == 64
