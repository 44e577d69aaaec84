"""The countries that leases carry: what the blocs mean, on every text, and nothing moved."""

from __future__ import annotations

import msgspec
import pytest

from isochrone.atlas.blocs import blocs
from isochrone.controller.masks import countries_of, written_out
from isochrone.rules.reconcile import Action
from isochrone.rules.residency import admits
from isochrone.schema.errors import InvalidInput
from isochrone.schema.lease import Lease
from isochrone.schema.node import Resources
from isochrone.schema.place import Whereabouts
from isochrone.schema.service import Model, Objective, Residency

EU = Residency(allow=("EU",), evidence="declared")


def lease(**changes: object) -> Lease:
    fields: dict[str, object] = {
        "id": "one",
        "service": "0x1.vad",
        "service_revision": 1,
        "cell": "fra",
        "node": "0xa",
        "provider": "0xb",
        "model": Model(engine="onnx", task="tensor"),
        "resources": Resources(),
        "residency": EU,
        "objective": Objective(latency_ms=50),
        "price_microusd_per_hour": 1,
        "epoch": 3,
        "revision": 4,
        "desired": "serving",
        "decision": "d",
        "home_cell": "fra",
        **changes,
    }
    return Lease(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "residency",
    [
        EU,
        Residency(allow=("EU", "CH"), deny=("HU",), evidence="declared"),
        Residency(deny=("US", "EEA"), evidence="declared"),
        Residency(allow=("world",), deny=("FR",), evidence="declared"),
        Residency(allow=("US",), evidence="declared"),
    ],
)
def test_exactly_the_admitted_countries_are_listed(residency: Residency) -> None:
    every = blocs()["world"]
    admitted = {c for c in every if admits(residency, Whereabouts(country=c), blocs())}
    assert set(countries_of(residency)) == admitted
    assert 0 < len(admitted) < len(every)


def test_a_residency_that_restricts_nothing_lists_nothing() -> None:
    assert (
        countries_of(Residency())
        == countries_of(Residency(allow=("world",), evidence="declared"))
        == ()
    )
    with pytest.raises(InvalidInput):
        countries_of(Residency(allow=("Atlantis",), evidence="declared"))


def test_every_written_text_carries_them() -> None:
    text = lease(id="two")
    made = Action(kind="create", lease=text, from_revision=0, reason="chosen")
    gone = Action(kind="forget", lease=lease(id="old"), from_revision=4, reason="it is over")
    actions = written_out([made, gone], [], epoch=5)
    assert actions[0].lease == msgspec.structs.replace(text, countries=countries_of(EU))
    assert actions[1] == gone


def test_a_lease_without_them_gets_a_new_text_once() -> None:
    (action,) = written_out([], [lease()], epoch=5)
    assert (action.kind, action.from_revision) == ("renew", 4)
    assert action.lease == lease(epoch=5, revision=5, countries=countries_of(EU))
    assert written_out([], [action.lease], epoch=5) == []
    assert written_out([], [lease(desired="draining"), lease(residency=Residency())], epoch=5) == []


def test_a_lease_that_is_written_anyway_is_not_written_twice() -> None:
    ended = lease(desired="ended", revision=5)
    end = Action(kind="end", lease=ended, from_revision=4, reason="not wanted")
    assert written_out([end], [lease()], epoch=5) == [end]


def test_a_bloc_that_is_no_more_hinders_no_end() -> None:
    held = lease(residency=Residency(allow=("Atlantis",), evidence="declared"), countries=("DE",))
    ended = msgspec.structs.replace(held, desired="ended", revision=5)
    end = Action(kind="end", lease=ended, from_revision=4, reason="not wanted")
    assert written_out([end], [held], epoch=5) == [end]
    assert written_out([], [held], epoch=5) == []
