from __future__ import annotations

import msgspec
import pytest
from tests.ledger.worlds import key

from isochrone.ledger.vouchers import Shelf, check_voucher, sign_voucher
from isochrone.schema.errors import Unauthorized
from isochrone.schema.typed_data import Domain, purpose_of

HERE = Domain(chain_id=1, contract="0x" + "11" * 20)
PURPOSE = purpose_of("0xtenant.service").hex()
TENANT = "0x" + "22" * 20


def test_a_voucher_counts_where_it_was_signed_for() -> None:
    paper = sign_voucher(HERE, key("spender"), TENANT, PURPOSE, 5)
    check_voucher(HERE, paper)
    for other in (Domain(chain_id=2, contract=HERE.contract), Domain(chain_id=1)):
        with pytest.raises(Unauthorized):
            check_voucher(other, paper)


@pytest.mark.parametrize(
    "change",
    [
        {"cumulative_microusd": 6},
        {"tenant": "0x" + "33" * 20},
        {"purpose": "44" * 32},
        {"key": "0x" + "55" * 20},
        {"signature": b""},
    ],
)
def test_a_voucher_that_was_changed(change: dict[str, object]) -> None:
    paper = sign_voucher(HERE, key("spender"), TENANT, PURPOSE, 5)
    with pytest.raises(Unauthorized):
        check_voucher(HERE, msgspec.structs.replace(paper, **change))


def test_the_shelf_keeps_the_newest_of_each_purpose() -> None:
    shelf = Shelf(HERE)
    papers = {n: sign_voucher(HERE, key("spender"), TENANT, PURPOSE, n) for n in (3, 5, 9)}
    assert shelf.put(papers[5])
    assert not shelf.put(papers[5]), "replayed"
    assert not shelf.put(papers[3]), "reordered"
    assert shelf.put(papers[9])
    other = sign_voucher(HERE, key("spender"), TENANT, "aa" * 32, 1)
    shelf.put(other)
    assert list(shelf) == [papers[9], other]
    assert shelf.get(TENANT, "bb" * 32) is None
    with pytest.raises(Unauthorized):
        shelf.put(msgspec.structs.replace(papers[9], cumulative_microusd=10))
