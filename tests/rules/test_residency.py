"""Residency: the sentences people read, and the mistakes that must not open the mask."""

import pytest

from isochrone.atlas.blocs import blocs
from isochrone.rules.residency import (
    admits,
    allowed_countries,
    denied_countries,
    inside,
    intersect,
    why_not,
)
from isochrone.schema.errors import InvalidInput
from isochrone.schema.service import Residency

EU = Residency(allow=("EU",))


def test_reasons_name_the_rule_that_excludes() -> None:
    known = blocs()
    assert why_not(EU, "US", "declared", known) == "US is not in EU"
    assert why_not(Residency(allow=("EEA",), deny=("HU",)), "HU", "declared", known) == (
        "HU is denied"
    )
    assert why_not(Residency(evidence="physical"), "DE", "declared", known) == (
        "its place is declared, physical evidence is required"
    )
    assert why_not(EU, "", "declared", known) == "'' is no country"
    assert why_not(EU, "DE", "declared", known) is None


def test_deny_wins_over_allow() -> None:
    both = Residency(allow=("DE", "FR"), deny=("DE",))
    assert allowed_countries(both, blocs()) == {"FR"}
    assert not admits(both, "DE", "physical", blocs())


def test_the_open_world_has_no_list_of_countries() -> None:
    assert allowed_countries(Residency(), blocs()) is None
    assert allowed_countries(Residency(allow=("world",), deny=("US",)), blocs()) is None
    assert denied_countries(Residency(deny=("US",)), blocs()) == {"US"}


@pytest.mark.parametrize("name", ["UK", "EL", "EU", "UN"])
def test_a_code_that_is_no_country_is_refused_even_without_a_list(name: str) -> None:
    """Denying ``UK`` would deny nobody: Britain's nodes say GB."""
    with pytest.raises(InvalidInput):
        admits(Residency(deny=(name,)), "GB", "declared", {})


def test_a_code_that_nobody_has_is_refused_with_the_list() -> None:
    with pytest.raises(InvalidInput, match="neither a country nor a bloc"):
        admits(Residency(deny=("QQ",)), "GB", "declared", blocs())


def test_denying_the_world_is_an_error() -> None:
    with pytest.raises(InvalidInput):
        admits(Residency(deny=("world",)), "DE", "declared", blocs())


def test_world_does_not_hide_an_unknown_name() -> None:
    with pytest.raises(InvalidInput):
        admits(Residency(allow=("world", "Atlantis")), "DE", "declared", blocs())


def test_a_weaker_proof_is_not_inside_a_stronger_one() -> None:
    strict = Residency(allow=("EU",), evidence="physical")
    assert not inside(EU, strict, blocs())
    assert inside(strict, EU, blocs())


def test_a_key_for_the_world_is_not_inside_a_service_of_the_union() -> None:
    assert not inside(Residency(), EU, blocs())
    assert inside(Residency(allow=("DE",)), EU, blocs())
    assert not inside(Residency(allow=("DE", "CH")), EU, blocs())


def test_intersection_of_strangers_is_an_error_also_through_a_denial() -> None:
    with pytest.raises(InvalidInput):
        intersect(Residency(allow=("US",)), EU, blocs())
    with pytest.raises(InvalidInput):
        intersect(Residency(allow=("DE",)), Residency(deny=("EU",)), blocs())
