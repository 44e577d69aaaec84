from __future__ import annotations

import time

import numpy as np
import pytest

from isochrone.atlas.cities import all_cities, city
from isochrone.atlas.measurements import Measurement, overlay, read
from isochrone.atlas.roundtrips import matrix, measured_metros, prior_rtt_ms
from isochrone.schema.errors import InvalidInput
from isochrone.schema.place import Place

NEW = Place(latitude=45.19, longitude=5.72, country="FR", metro="grenoble")
"""Not in the packaged table, nor within 25 km of a metro that is."""

ENDS = [
    city(name).place for name in ("paris", "london", "frankfurt", "milan", "madrid", "new-york")
]


def test_a_file_is_read_with_names_points_and_further_columns() -> None:
    text = '\ufeffwhen,src,dst,rtt_ms\nnow,paris, "50.11,8.68" ,9.5\nnow,São Paulo,madrid,180\n'
    found = read(text)
    assert [each.rtt_ms for each in found] == [9.5, 180.0]
    assert found[0].src == city("paris").place
    assert (found[0].dst.latitude, found[0].dst.metro) == (50.11, "frankfurt")
    assert found[1].src.metro == "sao-paulo"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1: no column src, dst, rtt_ms"),
        ("src,rtt_ms\n", "line 1: no column dst"),
        ("src,dst,rtt_ms\nparis,london,8\nparis,lodnon,8\n", "line 3: No city 'lodnon'"),
        ("src,dst,rtt_ms\nparis,london,fast\n", "line 2: 'fast' is no round trip"),
        ("src,dst,rtt_ms\nparis,london\n", "line 2: '' is no round trip"),
        ("src,dst,rtt_ms\nparis,london,8\nparis,berlin,0.02\n", "line 3: 0.02 ms is faster than"),
        ("src,dst,rtt_ms\nparis,london,nan\n", "line 2: 'nan' is no round trip"),
        ("src,dst,rtt_ms\nparis,london,-1\n", "line 2: '-1' is no round trip"),
        ("src,dst,rtt_ms\nparis," + "l" * 200_000 + ",8\n", "line 2: field larger"),
        ('src,dst,rtt_ms\nparis,"95.0,8.0",3\n', "line 2: '95.0,8.0' is not on Earth"),
        ("src,dst,rtt_ms\nparis,50.11,8.68,3\n", "line 2: No city '50.11'"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        read(text)


def test_without_measurements_nothing_changes() -> None:
    assert np.array_equal(overlay([]).matrix(ENDS, [NEW]), matrix(ENDS, [NEW]))
    assert overlay([]).matrix([], ENDS).shape == (0, 6)


def test_a_measured_pair_has_its_median_both_ways_and_elsewhere_in_its_metros() -> None:
    paris, madrid = city("paris").place, city("madrid").place
    suburb = Place(latitude=48.83, longitude=2.24, country="FR", metro="boulogne")
    ms = overlay(
        [
            Measurement(paris, madrid, 20.0),
            Measurement(madrid, paris, 30.0),
            Measurement(paris, madrid, 21.0),
        ]
    )
    assert ms.matrix([paris, suburb], [madrid]).tolist() == [[21.0], [21.0]]
    assert ms.matrix([madrid], [paris]).tolist() == [[21.0]]
    assert ms.matrix([madrid], [city("london").place]) == matrix([madrid], [city("london").place])


def test_probes_of_a_new_city_correct_its_whole_row_and_no_other() -> None:
    slow = [Measurement(NEW, end, 1.4 * prior_rtt_ms(NEW, end)) for end in ENDS]
    ms, others = overlay(slow), [city(name).place for name in ("berlin", "lisbon", "chicago")]
    ratio = ms.matrix([NEW], others) / matrix([NEW], others)
    assert (ratio > 1.1).all()
    assert (ratio < 1.5).all()
    assert np.array_equal(ms.matrix(others, [NEW]), ms.matrix([NEW], others).T)
    assert np.array_equal(ms.matrix(ENDS, others), matrix(ENDS, others))


def test_probes_that_were_expected_change_little() -> None:
    same = overlay([Measurement(NEW, end, prior_rtt_ms(NEW, end)) for end in ENDS])
    others = [each.place for each in all_cities()[:50]]
    ratio = same.matrix([NEW], others) / matrix([NEW], others)
    assert np.abs(np.log(ratio)).max() < 0.25  # cities that probe alike know more than the model
    assert np.median(np.abs(np.log(ratio))) < 0.05


def test_a_new_city_behind_a_measured_citys_carrier_has_that_citys_routes() -> None:
    twin, chicago = city("lyon").place, city("chicago").place
    probes = [Measurement(NEW, end, prior_rtt_ms(twin, end) + 9.0) for end in ENDS]
    far = [city(name).place for name in ("tokyo", "sydney", "sao-paulo", "warsaw")] + [chicago]
    theirs = matrix([twin], far) + 9.0
    told = overlay(probes).matrix([NEW], far)
    assert np.abs(told / theirs - 1).max() < 0.15
    assert np.abs(told - theirs).sum() < 0.7 * np.abs(matrix([NEW], far) - theirs).sum()


def test_a_probed_row_is_never_faster_than_light() -> None:
    fast = [Measurement(NEW, end, 1.5) for end in ENDS]
    told = overlay(fast).matrix([NEW], [each.place for each in all_cities()[:50]])
    assert (told > 0).all()


def test_a_city_of_the_table_keeps_its_row() -> None:
    paris = city("paris").place
    ms = overlay([Measurement(paris, end, 90.0) for end in ENDS[1:]])
    far = [city(name).place for name in ("berlin", "tokyo")]
    assert np.array_equal(ms.matrix([paris], far), matrix([paris], far))


def test_many_measurements_are_laid_over_thousands_of_places_quickly() -> None:
    new = [each.place for each in all_cities() if each.place.metro not in measured_metros()]
    probes = [Measurement(place, end, 50.0) for place in new[:100:2] for end in ENDS]
    places = [each.place for each in all_cities()[:2000]]
    overlay(probes[:6]).matrix(places[:1], ENDS)  # learns the patterns
    start = time.process_time()
    assert overlay(probes).matrix(places, ENDS).shape == (2000, 6)
    assert time.process_time() - start < 2.0
