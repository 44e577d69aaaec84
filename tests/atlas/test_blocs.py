from __future__ import annotations

import pytest

from isochrone.atlas.blocs import (
    BLOCS_VERSION,
    bloc_members,
    blocs,
    blocs_version,
    countries,
    expand,
    partially_adequate,
)
from isochrone.schema.errors import InvalidInput


def test_blocs_nest_and_have_the_members_everybody_knows() -> None:
    eu, eea, adequate, world = (blocs()[n] for n in ("EU", "EEA", "GDPR-adequate", "world"))
    assert len(eu) == 27
    assert eea - eu == {"IS", "LI", "NO"}
    assert eu < eea < adequate < world
    assert {"CH", "GB", "JP"} <= adequate
    assert "GB" not in eea
    assert world == frozenset(countries())


def test_partial_adequacy_is_in_no_bloc_but_the_world() -> None:
    assert partially_adequate() == {"CA", "US"}
    for name, members in blocs().items():
        assert name == "world" or not members & partially_adequate()


def test_territories_are_not_counted_with_their_state() -> None:
    assert not {"RE", "GF", "AX", "GL"} & bloc_members("EEA")


def test_names_are_read_in_any_case_and_codes_mean_themselves() -> None:
    assert bloc_members("eu") == bloc_members("EU")
    assert bloc_members("gdpr-ADEQUATE") == blocs()["GDPR-adequate"]
    assert bloc_members("de") == {"DE"}
    assert expand(["EEA", "CH"]) == bloc_members("EEA") | {"CH"}
    assert expand([]) == frozenset()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("UK", "GB"),
        ("USA", "US"),
        ("Germany", "DE"),
        ("EUU", "EU"),
        ("europe", "continent"),
        ("", "ISO 3166"),
        ("frankfurt", "ISO 3166"),
        ("X" * 5000, "ISO 3166"),
    ],
)
def test_an_unknown_name_is_refused_with_a_way_out(name: str, hint: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        expand(["EU", name])
    assert hint in caught.value.fix
    assert len(caught.value.message) < 200


def test_a_change_of_membership_needs_a_new_version() -> None:
    # When this fails after a deliberate change of countries.csv, raise BLOCS_VERSION as well.
    assert (BLOCS_VERSION, blocs_version()) == ("2026.1", "2026.1+3d4faf1eb370")
