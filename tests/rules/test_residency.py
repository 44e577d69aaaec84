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
from isochrone.schema.place import Whereabouts
from isochrone.schema.service import Residency

EU = Residency(allow=("EU",), evidence="declared")
PROVEN_EU = Residency(allow=("EU",))


def said(country: str, *discs: tuple[str, ...], region: tuple[str, ...] = ()) -> Whereabouts:
    return Whereabouts(country=country, discs=discs, region=region)


def test_reasons_name_the_rule_that_excludes() -> None:
    known = blocs()
    assert why_not(EU, said("US"), known) == "US is not in EU"
    assert why_not(Residency(allow=("EEA",), deny=("HU",)), said("HU"), known) == "HU is denied"
    assert why_not(EU, said(""), known) == "'' is no country"
    assert why_not(EU, said("DE"), known) is None


def test_proof_is_asked_for_unless_it_is_said_otherwise() -> None:
    known, one = blocs(), ("DE",)
    assert why_not(PROVEN_EU, said("DE"), known) == (
        "0 of the 3 accounts needed prove that it is inside EU; nobody has measured it"
    )
    assert why_not(PROVEN_EU, said("DE", one, ("DE", "FR"), ("CH", "DE")), known) == (
        "2 of the 3 accounts needed prove that it is inside EU; discs of others touch CH"
    )
    assert why_not(PROVEN_EU, said("DE", one, one, one, ("CH",)), known) is None
    assert why_not(PROVEN_EU, said("DE", one, one, one), known) is None
    statistical = Residency(allow=("EU",), evidence="statistical")
    assert why_not(statistical, said("DE", region=("CH", "DE")), known) == (
        "its place is declared, not statistically known: its region touches CH"
    )
    assert why_not(statistical, said("DE", region=("AT", "DE")), known) is None


def test_who_restricts_nothing_needs_no_proof() -> None:
    assert admits(Residency(), said("DE"), blocs())
    assert admits(Residency(allow=("world",)), said("DE"), blocs())
    assert not admits(Residency(deny=("US",)), said("DE"), blocs())
    assert admits(Residency(deny=("US",)), said("DE", *[("DE", "CH")] * 3), blocs())


def test_a_disc_in_the_open_sea_proves_nothing() -> None:
    assert not admits(PROVEN_EU, said("DE", (), (), ()), blocs())


def test_deny_wins_over_allow() -> None:
    both = Residency(allow=("DE", "FR"), deny=("DE",))
    assert allowed_countries(both, blocs()) == {"FR"}
    assert not admits(both, said("DE", *[("DE",)] * 3), blocs())


def test_the_open_world_has_no_list_of_countries() -> None:
    assert allowed_countries(Residency(), blocs()) is None
    assert allowed_countries(Residency(allow=("world",), deny=("US",)), blocs()) is None
    assert denied_countries(Residency(deny=("US",)), blocs()) == {"US"}


@pytest.mark.parametrize("name", ["UK", "EL", "EU", "UN"])
def test_a_code_that_is_no_country_is_refused_even_without_a_list(name: str) -> None:
    """Denying ``UK`` would deny nobody: Britain's nodes say GB."""
    with pytest.raises(InvalidInput):
        admits(Residency(deny=(name,)), said("GB"), {})


def test_a_code_that_nobody_has_is_refused_with_the_list() -> None:
    with pytest.raises(InvalidInput, match="neither a country nor a bloc"):
        admits(Residency(deny=("QQ",)), said("GB"), blocs())


def test_denying_the_world_is_an_error() -> None:
    with pytest.raises(InvalidInput):
        admits(Residency(deny=("world",)), said("DE"), blocs())


def test_world_does_not_hide_an_unknown_name() -> None:
    with pytest.raises(InvalidInput):
        admits(Residency(allow=("world", "Atlantis")), said("DE"), blocs())


def test_a_weaker_proof_is_not_inside_a_stronger_one() -> None:
    assert not inside(EU, PROVEN_EU, blocs())
    assert inside(PROVEN_EU, EU, blocs())
    assert inside(EU, Residency(), blocs()), "who restricts nothing asks for no proof"


def test_a_key_for_the_world_is_not_inside_a_service_of_the_union() -> None:
    assert not inside(Residency(), EU, blocs())
    assert inside(Residency(allow=("DE",)), EU, blocs())
    assert not inside(Residency(allow=("DE", "CH")), EU, blocs())


def test_intersection_of_strangers_is_an_error_also_through_a_denial() -> None:
    with pytest.raises(InvalidInput):
        intersect(Residency(allow=("US",)), EU, blocs())
    with pytest.raises(InvalidInput):
        intersect(Residency(allow=("DE",)), Residency(deny=("EU",)), blocs())
