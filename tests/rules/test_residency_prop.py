"""Residency against a second, naive model: sets of countries written out one by one."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules.residency import (
    ACCOUNTS_MIN,
    admits,
    evidence_of,
    inside,
    intersect,
    strongest,
    why_not,
)
from isochrone.schema.errors import InvalidInput
from isochrone.schema.place import Evidence, Whereabouts
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
residencies = st.builds(
    Residency,
    allow=st.lists(names, max_size=3).map(tuple),
    deny=st.lists(denials, max_size=3).map(tuple),
    evidence=st.sampled_from(EVIDENCE),
)
lands = st.lists(countries, max_size=2, unique=True).map(lambda found: tuple(sorted(found)))
"""What a disc or a region touches; nothing at sea."""


@st.composite
def wheres(draw: st.DrawFn) -> Whereabouts:
    """Whereabouts whose discs mostly touch the declared country alone."""
    country = draw(countries)
    some = st.just((country,)) | st.just((country,)) | lands
    discs = tuple(draw(st.lists(some, max_size=5)))
    return Whereabouts(country=country, discs=discs, region=draw(st.just(()) | some))


def everywhere(residency: Residency) -> set[str]:
    """Every country that is admitted, by enumeration."""
    admitted = set()
    for country in COUNTRIES:
        allowed = not residency.allow
        for name in residency.allow:
            allowed = allowed or name == country or country in BLOCS.get(name, ())
        for name in residency.deny:
            if name == country or country in BLOCS.get(name, ()):
                allowed = False
        if allowed:
            admitted.add(country)
    return admitted


def naive(residency: Residency, where: Whereabouts) -> bool:
    """Whether a residency admits it."""
    area = everywhere(residency)
    free = not residency.deny and (not residency.allow or "world" in residency.allow)
    if where.country not in area:
        return False
    if free or residency.evidence == "declared":
        return True
    proofs = sum(1 for disc in where.discs if disc and all(c in area for c in disc))
    placed = bool(where.region) and all(c in area for c in where.region)
    return proofs >= 3 or (residency.evidence == "statistical" and placed)


@given(residencies, wheres())
def test_admits_what_the_naive_model_admits(residency: Residency, where: Whereabouts) -> None:
    assert admits(residency, where, BLOCS) == naive(residency, where)
    assert (why_not(residency, where, BLOCS) is None) == naive(residency, where)


@given(residencies, wheres())
def test_classes_are_never_mixed(residency: Residency, where: Whereabouts) -> None:
    """Neither a region nor what is declared can stand in for a disc that is missing."""
    fewer = msgspec.structs.replace(where, discs=where.discs[: ACCOUNTS_MIN - 1])
    assert evidence_of(fewer, residency, BLOCS) != "physical"
    bare = msgspec.structs.replace(where, region=())
    physical = msgspec.structs.replace(residency, evidence="physical")
    assert admits(physical, where, BLOCS) == admits(physical, bare, BLOCS)
    unmeasured = msgspec.structs.replace(where, discs=(), region=())
    assert evidence_of(unmeasured, residency, BLOCS) == "declared"


@given(residencies, wheres(), st.lists(lands, max_size=4))
def test_more_discs_never_unprove(
    residency: Residency, where: Whereabouts, more: list[tuple[str, ...]]
) -> None:
    grown = msgspec.structs.replace(where, discs=(*where.discs, *more))
    if admits(residency, where, BLOCS):
        assert admits(residency, grown, BLOCS)


@given(residencies, wheres())
def test_nobody_who_says_it_is_elsewhere_is_admitted(
    residency: Residency, where: Whereabouts
) -> None:
    for country in set(COUNTRIES) - everywhere(residency):
        elsewhere = msgspec.structs.replace(where, country=country)
        assert not admits(residency, elsewhere, BLOCS)


@given(residencies, residencies, wheres())
def test_inside_means_that_nothing_sticks_out(
    inner: Residency, outer: Residency, where: Whereabouts
) -> None:
    if inside(inner, outer, BLOCS) and naive(inner, where):
        assert naive(outer, where)


@given(residencies, residencies)
def test_inside_finds_subsets_unless_one_is_the_open_world(
    inner: Residency, outer: Residency
) -> None:
    """The open world has countries beyond any list, so there the answer may be a stricter no."""
    open_world = "world" in inner.allow or not inner.allow
    enough = EVIDENCE.index(inner.evidence) >= EVIDENCE.index(outer.evidence)
    if everywhere(inner) and enough and not open_world:
        assert inside(inner, outer, BLOCS) == (everywhere(inner) <= everywhere(outer))


@given(residencies, residencies, wheres())
def test_intersection_admits_only_what_both_admit(
    first: Residency, second: Residency, where: Whereabouts
) -> None:
    try:
        both = intersect(first, second, BLOCS)
    except InvalidInput:
        assert not everywhere(first) & everywhere(second)
        return
    assert everywhere(both) == everywhere(first) & everywhere(second)
    assert inside(both, first, BLOCS)
    assert inside(both, second, BLOCS)
    if naive(both, where):
        assert naive(first, where)
        assert naive(second, where)
    declared = msgspec.structs.replace(where, discs=((where.country,),) * ACCOUNTS_MIN)
    if naive(first, declared) and naive(second, declared):
        assert naive(both, declared), "and all of it, when each disc touches one country"


@given(residencies)
def test_a_key_of_one_service_asks_no_more_than_the_service(residency: Residency) -> None:
    free = Residency()
    asked = strongest((residency, free), BLOCS)
    restricts = bool(residency.deny) or bool(set(residency.allow) - {"world"})
    if restricts and "world" not in residency.allow:
        assert asked == residency.evidence


@given(residencies, wheres(), st.permutations(list(COUNTRIES)))
def test_the_order_of_names_and_discs_means_nothing(
    residency: Residency, where: Whereabouts, order: list[str]
) -> None:
    turned = Residency(
        allow=residency.allow[::-1], deny=residency.deny[::-1], evidence=residency.evidence
    )
    for country in order:
        moved = msgspec.structs.replace(where, country=country)
        mirrored = msgspec.structs.replace(moved, discs=moved.discs[::-1])
        assert admits(turned, mirrored, BLOCS) == admits(residency, moved, BLOCS)


@given(residencies, st.text(max_size=4), wheres())
def test_what_is_no_country_is_admitted_nowhere(
    residency: Residency, place: str, where: Whereabouts
) -> None:
    well_formed = len(place) == 2 and all("A" <= letter <= "Z" for letter in place)
    if not well_formed or place in ("EU", "UK"):
        moved = msgspec.structs.replace(where, country=place)
        assert not admits(residency, moved, BLOCS)


@given(residencies, st.text(min_size=1, max_size=12).filter(lambda name: name not in BLOCS))
def test_an_unknown_name_is_an_error_wherever_it_stands(residency: Residency, name: str) -> None:
    if name in COUNTRIES:
        return
    for broken in (
        Residency(allow=(*residency.allow, name), deny=residency.deny),
        Residency(allow=residency.allow, deny=(*residency.deny, name)),
    ):
        with pytest.raises(InvalidInput):
            admits(broken, Whereabouts(country="DE"), BLOCS)
