"""Residency against a second, naive model: sets of countries written out one by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules.residency import admits, inside, intersect, relay_allowed, why_not
from isochrone.schema.errors import InvalidInput
from isochrone.schema.place import Evidence
from isochrone.schema.service import Residency

COUNTRIES = ("AT", "CH", "DE", "FR", "HU", "JP", "SG", "US")
BLOCS = {
    "EU": frozenset({"AT", "DE", "FR", "HU"}),
    "near-EU": frozenset({"AT", "CH", "DE", "FR", "HU"}),
    "Pacific": frozenset({"JP", "SG", "US"}),
    "world": frozenset(COUNTRIES),
}
EVIDENCE: tuple[Evidence, ...] = ("declared", "statistical", "physical")

names = st.sampled_from((*COUNTRIES, *BLOCS))
denials = st.sampled_from((*COUNTRIES, "EU", "near-EU", "Pacific"))
countries = st.sampled_from(COUNTRIES)
evidence = st.sampled_from(EVIDENCE)
residencies = st.builds(
    Residency,
    allow=st.lists(names, max_size=3).map(tuple),
    deny=st.lists(denials, max_size=3).map(tuple),
    evidence=evidence,
)


def naive(residency: Residency) -> set[tuple[str, Evidence]]:
    """Every (country, evidence) that is admitted, by enumeration."""
    admitted = set()
    for country in COUNTRIES:
        allowed = not residency.allow
        for name in residency.allow:
            allowed = allowed or name == country or country in BLOCS.get(name, ())
        for name in residency.deny:
            if name == country or country in BLOCS.get(name, ()):
                allowed = False
        for level, known in enumerate(EVIDENCE):
            if allowed and level >= EVIDENCE.index(residency.evidence):
                admitted.add((country, known))
    return admitted


@given(residencies, countries, evidence)
def test_admits_what_the_naive_model_admits(
    residency: Residency, country: str, known: Evidence
) -> None:
    assert admits(residency, country, known, BLOCS) == ((country, known) in naive(residency))
    assert (why_not(residency, country, known, BLOCS) is None) == (
        (country, known) in naive(residency)
    )


@given(residencies, countries, countries, evidence)
def test_a_relay_is_as_bound_as_the_node(
    residency: Residency, via: str, node: str, known: Evidence
) -> None:
    both = {(via, known), (node, known)} <= naive(residency)
    assert relay_allowed(residency, via, node, known, BLOCS) == both


@given(residencies, residencies)
def test_inside_means_that_nothing_sticks_out(inner: Residency, outer: Residency) -> None:
    if inside(inner, outer, BLOCS):
        assert naive(inner) <= naive(outer)


@given(residencies, residencies)
def test_inside_finds_subsets_unless_one_is_the_open_world(
    inner: Residency, outer: Residency
) -> None:
    """The open world has countries beyond any list, so there the answer may be a stricter no."""
    open_world = "world" in inner.allow or not inner.allow
    if naive(inner) and not open_world:
        assert inside(inner, outer, BLOCS) == (naive(inner) <= naive(outer))


@given(residencies, residencies)
def test_intersection_admits_what_both_admit(first: Residency, second: Residency) -> None:
    try:
        both = intersect(first, second, BLOCS)
    except InvalidInput:
        assert not naive(first) & naive(second)
        return
    assert naive(both) == naive(first) & naive(second)
    assert inside(both, first, BLOCS)
    assert inside(both, second, BLOCS)


@given(residencies, st.permutations(list(COUNTRIES)))
def test_the_order_of_names_means_nothing(residency: Residency, order: list[str]) -> None:
    turned = Residency(
        allow=residency.allow[::-1], deny=residency.deny[::-1], evidence=residency.evidence
    )
    for country in order:
        same = admits(turned, country, "physical", BLOCS)
        assert same == admits(residency, country, "physical", BLOCS)


@given(residencies, st.text(max_size=4), evidence)
def test_what_is_no_country_is_admitted_nowhere(
    residency: Residency, place: str, known: Evidence
) -> None:
    well_formed = len(place) == 2 and all("A" <= letter <= "Z" for letter in place)
    if not well_formed or place in ("EU", "UK"):
        assert not admits(residency, place, known, BLOCS)


@given(residencies, st.text(min_size=1, max_size=12).filter(lambda name: name not in BLOCS))
def test_an_unknown_name_is_an_error_wherever_it_stands(residency: Residency, name: str) -> None:
    if name in COUNTRIES:
        return
    for broken in (
        Residency(allow=(*residency.allow, name), deny=residency.deny),
        Residency(allow=residency.allow, deny=(*residency.deny, name)),
    ):
        with pytest.raises(InvalidInput):
            admits(broken, "DE", "physical", BLOCS)
