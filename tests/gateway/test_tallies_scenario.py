"""With real node processes: both sides count, sign, keep and hand over; crashes on either side."""

from __future__ import annotations

import pytest

from .tally_town import Validator, ask_many, deployment, serve, start_node
from .town import FRANKFURT, Town, until

pytestmark = pytest.mark.processes


async def test_what_was_served_is_signed_by_both_and_handed_to_validators(town: Town) -> None:
    terms = deployment()
    gateway = await town.gateway("gw", FRANKFURT, ledger=terms)
    validator = await Validator(terms).open(town)
    node = start_node(town, [gateway], 0, ledger=terms)
    await serve(town, gateway, [node])
    answers = await ask_many(town, gateway, 60)
    assert {answer.status for answer in answers} == {200}
    await until(lambda: validator.total() >= 60, 20)
    assert validator.total() == 60
    assert validator.total(9) > 0
