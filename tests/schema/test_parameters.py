from __future__ import annotations

from isochrone.schema.deployment import Terms
from isochrone.schema.parameters import PARAMETERS, TERM_PARAMETERS, terms_from


def test_every_integer_term_is_a_parameter_and_defaults_are_within_limits() -> None:
    integers = {name for name in Terms.__struct_fields__ if isinstance(getattr(Terms(), name), int)}
    assert {p.name for p in TERM_PARAMETERS} == integers
    for parameter in PARAMETERS:
        assert parameter.minimum <= parameter.default <= parameter.maximum
        assert len(parameter.word) == 32
        assert parameter.word.rstrip(b"\0").decode() == parameter.name
    assert len({p.name for p in PARAMETERS}) == len(PARAMETERS)


def test_values_of_the_council_make_the_terms_and_nothing_else_changes() -> None:
    assert terms_from({}) == Terms()
    changed = terms_from({"fee_bps": 150, "dispute_bond_microusd": 5_000_000, "unknown": 3})
    assert changed.fee_bps == 150
    assert changed.availability == Terms().availability
    assert changed.digest != Terms().digest
