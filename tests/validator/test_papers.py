from __future__ import annotations

import msgspec
import pytest
from tests.validator.town import key

from isochrone.ledger.vouchers import sign_voucher
from isochrone.schema.typed_data import Domain, purpose_of
from isochrone.validator.evidence import FalseRecord
from isochrone.validator.papers import check_voucher

HERE = Domain(chain_id=1, contract="0x" + "11" * 20)
PURPOSE = purpose_of("0xtenant.service").hex()
TENANT = "0x" + "22" * 20


def test_a_voucher_counts_where_it_was_signed_for() -> None:
    paper = sign_voucher(HERE, key("spender"), TENANT, PURPOSE, 5)
    check_voucher(paper, HERE)
    for other in (Domain(chain_id=2, contract=HERE.contract), Domain(chain_id=1)):
        with pytest.raises(FalseRecord):
            check_voucher(paper, other)


@pytest.mark.parametrize(
    "change",
    [
        {"cumulative_microusd": 6},
        {"cumulative_microusd": -1},
        {"cumulative_microusd": 2**256},
        {"tenant": "0x" + "33" * 20},
        {"tenant": "22" * 20},
        {"purpose": "44" * 32},
        {"purpose": "44"},
        {"purpose": "no hex"},
        {"key": "0x" + "55" * 20},
        {"signature": b""},
    ],
)
def test_a_voucher_that_was_changed(change: dict[str, object]) -> None:
    paper = sign_voucher(HERE, key("spender"), TENANT, PURPOSE, 5)
    with pytest.raises(FalseRecord):
        check_voucher(msgspec.structs.replace(paper, **change), HERE)
