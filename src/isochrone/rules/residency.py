"""Residency: the mask that comes before every choice.

A residency names countries and blocs where data may go, and may deny some of them. Intuition: the
mask is a set of countries; a place is admitted when its country is in the set *and* its place is
known well enough. It is applied to gateways, nodes, relays, stores and logs alike, before any
score is looked at, so that no later step can prefer an illegal place.

Rules of this file: deny wins over allow; an unknown name is an error, never an empty or a full set
(fail closed), and a place whose country is not written as a country is admitted nowhere;
``physical`` evidence satisfies every class, ``declared`` only itself. What this file does not do:
decide what a bloc is (the atlas does) or whether a place is true (validators will).
"""

from __future__ import annotations

from collections.abc import Mapping

from isochrone.schema.errors import InvalidInput
from isochrone.schema.place import Evidence
from isochrone.schema.service import Residency

Blocs = Mapping[str, frozenset[str]]
"""Bloc name -> member countries (ISO 3166-1 alpha-2)."""

WORLD = "world"

NOT_COUNTRIES = frozenset({"EU", "UK", "UN", "EL"})
"""Codes of the right form that ISO 3166-1 reserves or others use: to *deny* one of them by mistake
would deny nobody (``UK`` is GB, ``EL`` is GR, ``EU`` must come as a bloc)."""

_STRENGTH: dict[Evidence, int] = {"declared": 0, "statistical": 1, "physical": 2}


def expand(names: tuple[str, ...], blocs: Blocs) -> frozenset[str] | None:
    """Countries that the names mean; None for the whole world.

    Raises InvalidInput for a name that is neither a bloc nor a country's code. A code is checked
    against the bloc ``world`` when it is among ``blocs``, else only by its form.
    """
    countries: set[str] = set()
    for name in names:
        if name == WORLD:
            continue
        if name in blocs:
            countries |= blocs[name]
        elif _is_country(name) and (WORLD not in blocs or name in blocs[WORLD]):
            countries.add(name)
        else:
            raise InvalidInput(
                f"{name[:40]!r} is neither a country nor a bloc.",
                fix=f"Use ISO 3166 codes (DE) or {', '.join(sorted(blocs)) or 'a known bloc'}.",
            )
    return None if WORLD in names else frozenset(countries)


def _is_country(name: str) -> bool:
    """Whether a name has a country code's form and is not one of the codes taken by others."""
    well_formed = len(name) == 2 and name.isascii() and name.isalpha() and name.isupper()
    return well_formed and name not in NOT_COUNTRIES


def allowed_countries(residency: Residency, blocs: Blocs) -> frozenset[str] | None:
    """The countries allowed and not denied; None when every country but the denied ones is.

    Raises InvalidInput for an unknown name, or when the whole world is denied.
    """
    allowed = expand(residency.allow, blocs) if residency.allow else None
    denied = denied_countries(residency, blocs)
    if allowed is None:
        return None
    return allowed - denied


def denied_countries(residency: Residency, blocs: Blocs) -> frozenset[str]:
    """The denied countries; raises InvalidInput when the whole world is denied."""
    denied = expand(residency.deny, blocs)
    if denied is None:
        raise InvalidInput("A residency that denies the world admits nothing.")
    return denied


def why_not(residency: Residency, country: str, evidence: Evidence, blocs: Blocs) -> str | None:
    """None when the place is admitted, else one sentence saying why it is not.

    ``country``: where it is; ``evidence``: how that is known. Raises InvalidInput for a residency
    with unknown names.
    """
    allowed = allowed_countries(residency, blocs)
    if not _is_country(country):
        return f"{country[:40]!r} is no country"
    if country in denied_countries(residency, blocs):
        return f"{country} is denied"
    if allowed is not None and country not in allowed:
        return f"{country} is not in {', '.join(residency.allow)}"
    if _STRENGTH[evidence] < _STRENGTH[residency.evidence]:
        return f"its place is {evidence}, {residency.evidence} evidence is required"
    return None


def admits(residency: Residency, country: str, evidence: Evidence, blocs: Blocs) -> bool:
    """Whether data under this residency may go to a place; raises as ``why_not``."""
    return why_not(residency, country, evidence, blocs) is None


def relay_allowed(
    residency: Residency, via_country: str, node_country: str, evidence: Evidence, blocs: Blocs
) -> bool:
    """Whether a request may go to a node through a gateway elsewhere: both must be admitted.

    A relaying gateway sees the data in the clear, so the mask covers it like the node. Gateways'
    places are known by the same class of evidence as nodes'.
    """
    return admits(residency, via_country, evidence, blocs) and admits(
        residency, node_country, evidence, blocs
    )


def inside(inner: Residency, outer: Residency, blocs: Blocs) -> bool:
    """Whether everything that ``inner`` admits is admitted by ``outer`` too.

    Used for API keys: a key's residency lies inside each of its services' residencies.
    """
    if _STRENGTH[inner.evidence] < _STRENGTH[outer.evidence]:
        return False
    outer_allowed = allowed_countries(outer, blocs)
    outer_denied = denied_countries(outer, blocs)
    inner_allowed = allowed_countries(inner, blocs)
    if inner_allowed is None:
        return outer_allowed is None and outer_denied <= denied_countries(inner, blocs)
    if outer_allowed is not None and not inner_allowed <= outer_allowed:
        return False
    return not inner_allowed & outer_denied


def intersect(first: Residency, second: Residency, blocs: Blocs) -> Residency:
    """A residency that admits what both admit (written out in countries when both restrict).

    Raises InvalidInput when nothing is left.
    """
    evidence = max(first.evidence, second.evidence, key=lambda item: _STRENGTH[item])
    deny = tuple(sorted(denied_countries(first, blocs) | denied_countries(second, blocs)))
    one, two = allowed_countries(first, blocs), allowed_countries(second, blocs)
    if one is None and two is None:
        return Residency(deny=deny, evidence=evidence)
    if one is None or two is None:
        narrow, left = (first, one) if one is not None else (second, two)
        if left is not None and not left - frozenset(deny):
            raise InvalidInput("The two residencies have no country in common.")
        return Residency(allow=narrow.allow, deny=deny, evidence=evidence)
    both = (one & two) - frozenset(deny)
    if not both:
        raise InvalidInput("The two residencies have no country in common.")
    return Residency(allow=tuple(sorted(both)), deny=deny, evidence=evidence)
