"""Where a lease's data may be, and whose word on a place counts."""

from __future__ import annotations

import msgspec
import pytest

from isochrone.node.mask import NOWHERE, admits, country_of, why_outside
from isochrone.schema.frames import Welcome
from isochrone.schema.identity import PrivateKey
from isochrone.schema.service import Residency

from .acting_gateway import papers
from .wanted import lease

EU = lease(residency=Residency(allow=("EU",), evidence="declared"), countries=("DE", "FR"))
KEY, OTHER = PrivateKey(b"\x01" * 32), PrivateKey(b"\x02" * 32)


@pytest.mark.parametrize(
    ("wanted", "country", "admitted"),
    [
        (EU, "DE", True),
        (EU, "US", False),
        (EU, NOWHERE, False),
        (lease(), "US", True),
        (lease(), NOWHERE, True),
        (lease(residency=Residency(allow=("world",), evidence="declared")), "US", True),
        (
            lease(residency=Residency(allow=("EU",), evidence="declared")),
            "DE",
            False,
        ),  # nobody wrote the bloc out
        (lease(residency=Residency(deny=("US",), evidence="declared")), "DE", False),
        (
            lease(residency=Residency(deny=("US",), evidence="declared"), countries=("DE",)),
            "DE",
            True,
        ),
    ],
)
def test_a_mask_admits_what_it_lists_and_fails_closed(wanted, country, admitted) -> None:  # type: ignore[no-untyped-def]
    assert admits(wanted, country) is admitted
    assert bool(why_outside(wanted, country, "This node")) is not admitted


def welcome(papers: bytes) -> Welcome:
    return Welcome(version=1, gateway=KEY.address, cell="fra", doors=(), papers=papers)


def test_a_gateway_stands_where_its_own_papers_say() -> None:
    assert country_of(welcome(papers(KEY, "fra", "DE")), KEY.address) == "DE"


@pytest.mark.parametrize(
    "shown",
    [
        b"",
        b"garbage",
        papers(OTHER, "fra", "DE"),
        papers(KEY, "sin", "DE"),
        papers(KEY, "fra", "DE").replace(b'"DE"', b'"US"'),
    ],
)
def test_papers_that_are_not_its_own_place_it_nowhere(shown: bytes) -> None:
    assert country_of(welcome(shown), KEY.address) == NOWHERE
    assert country_of(None, KEY.address) == NOWHERE
    renamed = msgspec.structs.replace(welcome(papers(KEY, "fra", "DE")), gateway=OTHER.address)
    assert country_of(renamed, OTHER.address) == NOWHERE
