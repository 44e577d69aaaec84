from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from isochrone.atlas.cities import all_cities
from isochrone.atlas.roundtrips import matrix, prior_rtt_ms
from isochrone.schema.place import Place

anywhere = st.builds(
    Place,
    latitude=st.floats(-90, 90),
    longitude=st.floats(-180, 180),
    country=st.just("ZZ"),
    metro=st.sampled_from(["a", "b", "c"]),
)
cities = st.sampled_from(all_cities()).map(lambda city: city.place)
places = st.lists(anywhere | cities, max_size=5)


@given(anywhere | cities, anywhere | cities)
def test_a_prior_is_symmetric_bounded_and_finite(a: Place, b: Place) -> None:
    there, back = prior_rtt_ms(a, b), prior_rtt_ms(b, a)
    assert abs(there - back) <= 0.011  # one unit of rounding
    assert 1.5 <= there <= 700.0


@given(places, places)
def test_a_matrix_holds_the_single_priors(rows: list[Place], columns: list[Place]) -> None:
    table = matrix(rows, columns)
    singles = [[prior_rtt_ms(a, b) for b in columns] for a in rows]
    assert np.abs(table - np.array(singles).reshape(table.shape)).max(initial=0.0) <= 0.011
