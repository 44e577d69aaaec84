"""Residency: the mask that comes before every choice.

A residency names countries and blocs where data may go, and may deny some of them. Intuition: the
mask is a set of countries; a place is admitted when its country is in the set *and* it is known
well enough that it really lies there. It is applied to gateways, nodes, relays, stores and logs
alike, before any score is looked at, so that no later step can prefer an illegal place.

Three classes of evidence (``schema.place``), never mixed:

* *physical*: at least ``ACCOUNTS_MIN`` independent accounts measured the key, and each one's disc
  alone touches admitted countries only (without a list of countries: no denied one);
* *statistical*: the model's region is there and touches admitted countries only;
* *declared*: whoever is asked says so.

Rules of this file: the declared country must be admitted whatever was measured. Two discs and a
region are neither three discs nor more than a region. A disc that also touches other countries
proves nothing and takes nothing away: one vantage that lies about its clock could unprove
everybody, and what contradicts a claim is for verdicts to judge. A disc that touches no land proves
nothing either. A stronger class than the one asked for is enough; a residency that restricts
nothing asks for none. Deny wins over allow; an unknown name is an error, never an empty or a full
set (fail closed), and a place whose country is not written as a country is admitted nowhere.

Cheapest lie caught: saying another country while three honest vantages stand near. Cheapest lie
missed: three accounts in collusion that say a smaller round trip than they measured; a key that
answers from here while the work is done elsewhere.

What this file does not do: decide what a bloc is (the atlas does), draw discs (``rules.location``)
or say whose word on them counts (``fabric.attested``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from isochrone.rules.frozen.placement_2.shapes import Evidence, Residency, Whereabouts
from isochrone.schema.errors import InvalidInput

Blocs = Mapping[str, frozenset[str]]
"""Bloc name -> member countries (ISO 3166-1 alpha-2)."""

WORLD = "world"

NOT_COUNTRIES = frozenset({"EU", "UK", "UN", "EL"})
"""Codes of the right form that ISO 3166-1 reserves or others use: to *deny* one of them by mistake
would deny nobody (``UK`` is GB, ``EL`` is GR, ``EU`` must come as a bloc)."""

ACCOUNTS_MIN: Final = 3
"""Independent accounts that must each prove a place alone: one may lie, two may be one person's."""

KNOWN_MAX: Final = 4096
"""Verdicts that a mask remembers; then it begins anew (a node has a new one with every change)."""

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


class Mask:
    """A residency made ready for many questions; it remembers its answers.

    ``restricts``: whether it keeps anything out. Raises InvalidInput for unknown names.
    """

    __slots__ = ("_allowed", "_denied", "_known", "residency", "restricts")

    def __init__(self, residency: Residency, blocs: Blocs) -> None:
        self.residency = residency
        self._allowed = allowed_countries(residency, blocs)
        self._denied = denied_countries(residency, blocs)
        self.restricts = self._allowed is not None or bool(self._denied)
        self._known: dict[Whereabouts, str] = {}

    def admits(self, where: Whereabouts) -> bool:
        """Whether data under this residency may go there."""
        return not self.reason(where)

    def reason(self, where: Whereabouts) -> str:
        """One sentence on why it may not, or an empty text."""
        known = self._known.get(where)
        if known is None:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            known = self._known[where] = self.outside(where.country) or self._unproven(where)
        return known

    def outside(self, country: str) -> str:
        """Why a declared country is not admitted, or an empty text."""
        if not _is_country(country):
            return f"{country[:40]!r} is no country"
        if country in self._denied:
            return f"{country} is denied"
        if self._allowed is not None and country not in self._allowed:
            return f"{country} is not in {', '.join(self.residency.allow)}"
        return ""

    def evidence(self, where: Whereabouts) -> Evidence:
        """The strongest class of evidence that it lies inside; ``declared`` is its own word."""
        if sum(map(self._inside, where.discs)) >= ACCOUNTS_MIN:
            return "physical"
        return "statistical" if self._inside(where.region) else "declared"

    def _inside(self, touched: tuple[str, ...]) -> bool:
        """Whether a disc or a region touches land, and none that is not admitted."""
        return bool(touched) and not self._strange(touched)

    def _strange(self, touched: Iterable[str]) -> list[str]:
        allowed = self._allowed
        return [
            c for c in touched if c in self._denied or (allowed is not None and c not in allowed)
        ]

    def _unproven(self, where: Whereabouts) -> str:
        wanted = self.residency.evidence
        if not self.restricts or _STRENGTH[self.evidence(where)] >= _STRENGTH[wanted]:
            return ""
        if wanted == "statistical":
            return f"its place is declared, not statistically known: {self._why_no_region(where)}"
        inside = sum(map(self._inside, where.discs))
        proof = f"{inside} of the {ACCOUNTS_MIN} accounts needed prove that it is {self._area()}"
        return f"{proof}; {self._why_no_proof(where)}"

    def _area(self) -> str:
        names = self.residency.allow if self._allowed is not None else self.residency.deny
        return f"{'inside' if self._allowed is not None else 'outside'} {', '.join(names)}"

    def _why_no_region(self, where: Whereabouts) -> str:
        if not where.region:
            return "too few places have measured it for the model, or it has not been asked yet"
        return f"its region touches {', '.join(self._strange(where.region)[:3])}"

    def _why_no_proof(self, where: Whereabouts) -> str:
        strange = sorted({country for disc in where.discs for country in self._strange(disc)})
        if strange:
            return f"discs of others touch {', '.join(strange[:3])}"
        return f"{len(where.discs)} have measured it" if where.discs else "nobody has measured it"


@lru_cache(maxsize=1024)
def _mask(residency: Residency, blocs: tuple[tuple[str, frozenset[str]], ...]) -> Mask:
    return Mask(residency, dict(blocs))


def mask_of(residency: Residency, blocs: Blocs) -> Mask:
    """The mask of a residency; made once for equal arguments. Raises InvalidInput as ``Mask``."""
    return _mask(residency, tuple((name, blocs[name]) for name in sorted(blocs)))
