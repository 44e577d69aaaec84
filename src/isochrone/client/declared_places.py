"""Places in a declaration: audience and residency, checked against the atlas line by line.

The gateway checks them again; here they are checked so that an error names the line it stands in.
"""

from __future__ import annotations

from typing import get_args

import msgspec

from isochrone.atlas.audience import audience_countries
from isochrone.atlas.blocs import bloc_members, blocs
from isochrone.client.yaml_nodes import Field
from isochrone.rules.residency import allowed_countries
from isochrone.schema.errors import InvalidInput
from isochrone.schema.place import Evidence
from isochrone.schema.service import AudienceShare, Residency


def read_audience(field: Field) -> tuple[AudienceShare, ...]:
    """The shares of an audience; raises InvalidInput with the line of what nobody knows."""
    shares = tuple(_share(item) for item in field.items())
    if not shares:
        raise field.wrong("is empty.", "Name cities, countries, blocs or continents.")
    return shares


def _share(field: Field) -> AudienceShare:
    if not field.is_mapping:
        return AudienceShare(where=_where(field))
    fields = field.mapping(("where", "weight"))
    if "where" not in fields:
        raise field.wrong("needs `where`: a city, country, bloc or continent.")
    weight = fields["weight"].number(1e-6, 1e9) if "weight" in fields else 1.0
    return AudienceShare(where=_where(fields["where"]), weight=weight)


def _where(field: Field) -> str:
    try:
        audience_countries(field.text())
    except InvalidInput as error:
        raise field.wrong(_inner(error), error.fix) from error
    return field.text()


def read_residency(field: Field) -> Residency:
    """A residency that admits something; raises InvalidInput with the line of what is wrong."""
    fields = field.mapping(("allow", "deny", "evidence"))
    residency = Residency(
        allow=_areas(fields["allow"]) if "allow" in fields else (),
        deny=_areas(fields["deny"]) if "deny" in fields else (),
    )
    if "evidence" in fields:
        evidence = fields["evidence"].choice(get_args(Evidence))
        residency = msgspec.structs.replace(residency, evidence=evidence)
    try:
        allowed = allowed_countries(residency, blocs())
    except InvalidInput as error:
        raise field.wrong(_inner(error), "Deny less.") from error
    if allowed is not None and not allowed:
        raise field.wrong("denies all that it allows.", "Deny less.")
    return residency


def _areas(field: Field) -> tuple[str, ...]:
    return tuple(_area(item) for item in field.items())


def _area(field: Field) -> str:
    """A bloc or country as the rules spell it; they know no other case (fail closed)."""
    name = field.text()
    try:
        bloc_members(name)
        allowed_countries(Residency(allow=(name,)), blocs())
    except InvalidInput as error:
        raise field.wrong(_inner(error), error.fix) from error
    return name


def _inner(error: InvalidInput) -> str:
    """A message as the second part of a sentence that began with the line."""
    return error.message[0].lower() + error.message[1:]
