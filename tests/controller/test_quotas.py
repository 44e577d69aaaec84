"""A cell's check of a quota: each refusal with its code, and what passes."""

from __future__ import annotations

import msgspec
import pytest

from isochrone.atlas.blocs import blocs
from isochrone.controller.quotas import check
from isochrone.schema.errors import IsochroneError
from isochrone.schema.identity import PrivateKey
from isochrone.schema.lease import Quota
from isochrone.schema.place import Whereabouts
from isochrone.schema.service import Residency

from .worlds import declare, quota, service

VAD = declare(service())
GOOD = quota(VAD, {"frankfurt": 2})
FRANKFURT, SINGAPORE = Whereabouts(country="DE"), Whereabouts(country="SG")
PROVEN = Whereabouts(country="DE", discs=(("DE",),) * 3)


def refusal(given: Quota, held: Quota | None = None, place: object = FRANKFURT) -> str:
    with pytest.raises(IsochroneError) as caught:
        check(given, held, "fra", (place,), blocs())  # type: ignore[arg-type]
    return caught.value.code


def changed(**changes: object) -> Quota:
    return msgspec.structs.replace(GOOD, **changes)


def test_a_good_quota_passes_and_its_repetition() -> None:
    assert check(GOOD, None, "fra", (FRANKFURT,), blocs()) == VAD
    assert check(GOOD, GOOD, "fra", (FRANKFURT,), blocs()) == VAD


def test_another_cells_quota() -> None:
    assert refusal(changed(cell="sin")) == "misdirected"


def test_a_country_outside_the_mask() -> None:
    assert refusal(GOOD, place=SINGAPORE) == "residency"
    assert check(changed(sites=()), None, "fra", (SINGAPORE,), blocs()), "withdrawing is legal"


def test_one_of_the_cells_gateways_must_be_proven_and_none_may_stand_elsewhere() -> None:
    strict = declare(service(residency=Residency(allow=("EU",))))
    given = quota(strict, {"frankfurt": 1})
    assert refusal(given) == "residency"
    assert check(given, None, "fra", (FRANKFURT, PROVEN), blocs()) == strict
    with pytest.raises(IsochroneError, match="SG is not in EU"):
        check(given, None, "fra", (PROVEN, SINGAPORE), blocs())


def test_a_declaration_signed_by_somebody_else() -> None:
    forged = declare(service(), PrivateKey(b"\x08" * 32))
    assert refusal(changed(service_document=forged.document)) == "unauthorized"


def test_a_changed_declaration() -> None:
    document = bytearray(GOOD.service_document)
    document[40] ^= 1
    assert refusal(changed(service_document=bytes(document))) in ("unauthorized", "invalid_input")
    assert refusal(changed(service_document=b"nothing")) == "invalid_input"


def test_a_home_that_the_tenant_did_not_choose() -> None:
    assert refusal(changed(home_cell="iad")) == "unauthorized"


def test_an_older_epoch_revision_or_declaration() -> None:
    held = changed(epoch=2, revision=2)
    assert refusal(changed(epoch=1, revision=9), held) == "stale"
    assert refusal(changed(epoch=2, revision=1), held) == "stale"
    newer = quota(declare(service(revision=2)), {"frankfurt": 1})
    assert refusal(changed(epoch=9), newer) == "stale"


def test_no_gateway_heard() -> None:
    with pytest.raises(IsochroneError) as caught:
        check(GOOD, None, "fra", (), blocs())
    assert caught.value.code == "unavailable"


def test_a_site_without_replicas() -> None:
    assert refusal(quota(VAD, {"frankfurt": 0})) == "invalid_input"
