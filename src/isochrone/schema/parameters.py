"""The integers that the council may change, and the limits that no vote can pass.

``contracts/council.vy`` holds the same names, limits and order (a test compares them). A name is
stored as 32 bytes of ASCII, padded with zeros. The values of an epoch, read from the council
(``parameter_at``), make that epoch's ``Terms``; what a term is and in which unit, ``Terms`` says.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from isochrone.schema.deployment import Terms


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter: its name, its limits (inclusive) and its value until the first change."""

    name: str
    minimum: int
    maximum: int
    default: int

    @property
    def word(self) -> bytes:
        """The name as the contract stores it: 32 bytes."""
        return self.name.encode().ljust(32, b"\0")


def _term(name: str, minimum: int, maximum: int) -> Parameter:
    return Parameter(name=name, minimum=minimum, maximum=maximum, default=getattr(Terms(), name))


TERM_PARAMETERS: tuple[Parameter, ...] = (
    _term("rules_version", 1, 1_000_000),
    _term("fee_bps", 0, 200),
    _term("validator_share_bps", 0, 10_000),
    _term("hold_bps", 0, 5_000),
    _term("hold_epochs", 0, 48),
    _term("relay_nanousd_per_request", 0, 10_000),
    _term("standby_microusd_per_core_hour", 0, 100_000),
    _term("samples_min", 10, 100_000),
    _term("consistency_max_x100", 200, 100_000),
    _term("consistency_credit_bps", 0, 10_000),
    _term("newcomer_hold_bps", 0, 9_000),
    _term("newcomer_epochs", 0, 168),
)
"""Those that are fields of ``Terms``."""

DISPUTE_BOND = Parameter(
    name="dispute_bond_microusd", minimum=1_000_000, maximum=1_000_000_000, default=10_000_000
)
"""The least that opening a dispute takes: $10, more than a nuisance, less than a lawyer's fee."""

PARAMETERS: tuple[Parameter, ...] = (*TERM_PARAMETERS, DISPUTE_BOND)
"""All, in the order in which the council's constructor takes their values."""


def terms_from(values: Mapping[str, int], base: Terms | None = None) -> Terms:
    """The terms of an epoch: ``base`` (default: ``Terms()``) with the council's ``values``.

    ``values`` maps names to what ``parameter_at`` gave; names that are no term are left out.
    """
    changes = {p.name: values[p.name] for p in TERM_PARAMETERS if p.name in values}
    return msgspec.structs.replace(base if base is not None else Terms(), **changes)
