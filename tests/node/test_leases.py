"""The lease machine, scenario by scenario: orders in, effects out, outcomes back."""

from __future__ import annotations

import msgspec
import pytest

from isochrone.node.lease_book import (
    Book,
    Closing,
    Died,
    Drained,
    Event,
    Fetched,
    FetchFailed,
    GatewayLost,
    HomeMoved,
    Loaded,
    LoadFailed,
    OrdersSeen,
    Recovered,
    Stopped,
    Tick,
    statuses,
)
from isochrone.node.leases import ABSENCE_S, step
from isochrone.schema.frames import Orders
from isochrone.schema.node import Resources
from isochrone.schema.service import Model, Residency

from .wanted import CAPACITY, CELL, NODE, lease, orders


class Life:
    """A book that is stepped through a scenario; ``do`` tells what was asked for."""

    def __init__(self) -> None:
        self.book = Book(node=NODE, capacity=CAPACITY, cell=CELL)
        self.now_s = 100.0

    def do(self, event: Event) -> list[str]:
        self.book, effects = step(self.book, event, self.now_s)
        again, nothing = step(self.book, Tick(), self.now_s)
        assert again == self.book
        assert nothing == ()
        return [f"{effect.do} {effect.lease.id}" for effect in effects]

    def hear(self, said: Orders, gateway: str = "g1") -> list[str]:
        return self.do(OrdersSeen(gateway, said))

    def after(self, seconds: float) -> list[str]:
        self.now_s += seconds
        return self.do(Tick())

    def state(self, name: str = "one") -> str:
        held = self.book.held.get(name)
        return held.state if held else ""

    def run(self, name: str = "one") -> int:
        return self.book.held[name].run

    def serve(self, *wanted: object) -> None:
        self.hear(orders(*wanted))  # type: ignore[arg-type]
        for held in list(self.book.held.values()):
            self.do(Fetched(held.lease.id, held.run, 1.0))
            self.do(Loaded(held.lease.id, held.run, 2.0, 3.0))


@pytest.fixture
def life() -> Life:
    return Life()


def test_a_lease_is_fetched_loaded_and_serves_with_its_times(life: Life) -> None:
    assert life.hear(orders(lease())) == ["fetch one"]
    assert life.state() == "fetching"
    assert life.do(Fetched("one", 1, 120.0)) == ["load one"]
    assert life.state() == "warming"
    assert life.do(Loaded("one", 1, 30.0, 4.0)) == []
    (status,) = statuses(life.book, {"one": 77})
    assert status.state == "serving"
    assert (status.fetch_ms, status.load_ms, status.first_answer_ms) == (120.0, 30.0, 4.0)
    assert status.fetched_bytes == 77


def test_repeated_orders_ask_for_nothing(life: Life) -> None:
    life.serve(lease())
    assert life.hear(orders(lease())) == []
    assert life.hear(orders(lease()), "g2") == []


def test_orders_of_an_older_epoch_are_refused_and_counted(life: Life) -> None:
    life.serve(lease(epoch=5))
    life.hear(orders(lease(epoch=5), epoch=5))
    stale = lease(epoch=4, revision=9, desired="ended")
    assert life.hear(orders(stale, epoch=4), "g2") == []
    assert life.state() == "serving"
    assert life.book.refused == {"stale_epoch": 1}


def test_an_older_revision_is_refused_but_shows_that_the_lease_is_wanted(life: Life) -> None:
    life.serve(lease(revision=3))
    assert life.hear(orders(lease(revision=2, desired="ended"))) == []
    assert life.after(ABSENCE_S + 1) == []
    assert life.state() == "serving"
    assert life.book.refused == {"stale_revision": 1}


def test_orders_of_another_cell_or_for_another_node_are_refused(life: Life) -> None:
    assert life.hear(orders(lease(cell="sin"), cell="sin")) == []
    assert life.hear(orders(lease(node="0x" + "b" * 40))) == []
    assert life.book.held == {}
    assert life.book.refused == {"wrong_cell": 1, "not_ours": 1}


def test_an_explicit_end_drains_stops_and_is_remembered(life: Life) -> None:
    life.serve(lease())
    assert life.hear(orders(lease(revision=2, desired="ended"))) == ["drain one"]
    assert life.state() == "draining"
    assert life.do(Drained("one", 1)) == ["stop one"]
    assert life.do(Stopped("one", 1)) == []
    assert life.state() == "ended"
    life.hear(orders())
    assert life.state() == ""
    # A gateway that has not heard of the end still lists it: it stays ended.
    assert life.hear(orders(lease()), "g2") == []
    assert life.state() == ""
    assert life.hear(orders(lease(revision=3)), "g2") == ["fetch one"]


def test_absence_ends_a_lease_only_after_a_while(life: Life) -> None:
    life.serve(lease())
    assert life.hear(orders()) == []
    assert life.after(ABSENCE_S - 0.1) == []
    assert life.after(0.2) == ["drain one"]


def test_a_lease_that_reappears_in_time_stays(life: Life) -> None:
    life.serve(lease())
    life.hear(orders())
    life.after(ABSENCE_S - 1)
    life.hear(orders(lease()))
    life.hear(orders())
    assert life.after(ABSENCE_S - 1) == []
    assert life.state() == "serving"


def test_an_incomplete_view_ends_nothing(life: Life) -> None:
    life.serve(lease())
    life.hear(orders(complete=False))
    assert life.after(10 * ABSENCE_S) == []
    assert life.state() == "serving"


def test_a_lease_that_any_gateway_lists_stays(life: Life) -> None:
    life.serve(lease())
    life.hear(orders(), "g2")
    assert life.after(10 * ABSENCE_S) == []
    assert life.state() == "serving"


def test_a_former_epochs_set_holds_nothing(life: Life) -> None:
    life.serve(lease())
    life.hear(orders(epoch=2), "g2")
    assert life.after(ABSENCE_S) == ["drain one"]


def test_losing_all_gateways_ends_nothing(life: Life) -> None:
    life.serve(lease())
    assert life.do(GatewayLost("g1")) == []
    assert life.after(3600) == []
    assert life.state() == "serving"


def test_a_new_home_ends_the_former_ones_leases_when_it_has_spoken(life: Life) -> None:
    life.serve(lease())
    assert life.do(HomeMoved("sin")) == []
    assert life.after(60) == []
    other = lease("two", cell="sin")
    assert life.hear(orders(other, cell="sin")) == ["drain one", "fetch two"]


def test_a_drain_that_is_taken_back_resumes(life: Life) -> None:
    life.serve(lease())
    assert life.hear(orders(lease(revision=2, desired="draining"))) == ["drain one"]
    assert life.hear(orders(lease(revision=3))) == ["resume one"]
    assert life.state() == "serving"
    assert life.do(Drained("one", 1)) == []


def test_a_stop_that_is_taken_back_starts_again_under_a_new_run(life: Life) -> None:
    life.serve(lease())
    life.hear(orders(lease(revision=2, desired="ended")))
    life.do(Drained("one", 1))
    assert life.hear(orders(lease(revision=3))) == []
    assert life.do(Stopped("one", 1)) == ["fetch one"]
    assert life.run() == 2
    assert life.do(Fetched("one", 1, 1.0)) == []  # news of the former life


def test_a_lease_that_was_ended_by_absence_comes_back_at_the_same_revision(life: Life) -> None:
    life.serve(lease())
    life.hear(orders())
    life.after(ABSENCE_S)
    life.do(Drained("one", 1))
    life.do(Stopped("one", 1))
    assert life.hear(orders(lease())) == ["fetch one"]


def test_another_model_under_the_same_lease_restarts_it(life: Life) -> None:
    life.serve(lease())
    other = lease(revision=2, model=Model(engine="onnx", task="tensor", options={"threads": "2"}))
    assert life.hear(orders(other)) == ["drain one"]
    life.do(Drained("one", 1))
    assert life.do(Stopped("one", 1)) == ["fetch one"]
    assert life.book.held["one"].lease == other


def test_a_failed_fetch_is_tried_again_ever_more_slowly(life: Life) -> None:
    life.hear(orders(lease()))
    assert life.do(FetchFailed("one", 1, "No gateway.", True)) == []
    assert life.state() == "fetching"
    assert life.book.held["one"].reason == "No gateway."
    assert life.after(0.4) == []
    assert life.after(0.2) == ["fetch one"]
    assert life.do(FetchFailed("one", 1, "No gateway.", True)) == []
    assert life.after(0.6) == []
    assert life.after(0.5) == ["fetch one"]


def test_a_final_failure_says_why_and_waits_for_a_newer_text(life: Life) -> None:
    life.hear(orders(lease()))
    life.do(FetchFailed("one", 1, "Wrong digest.", False))
    (status,) = statuses(life.book, {})
    assert (status.state, status.reason) == ("failed", "Wrong digest.")
    assert life.hear(orders(lease())) == []
    assert life.hear(orders(lease(revision=2))) == ["fetch one"]


def test_a_failed_lease_that_is_ended_ends(life: Life) -> None:
    life.hear(orders(lease()))
    life.do(Fetched("one", 1, 1.0))
    life.do(LoadFailed("one", 1, "Not a model."))
    assert life.hear(orders(lease(revision=2, desired="ended"))) == []
    assert life.state() == "ended"


def test_an_engine_that_dies_warms_and_comes_back(life: Life) -> None:
    life.serve(lease())
    assert life.do(Died("one", 1, "ended by SIGKILL")) == []
    (status,) = statuses(life.book, {})
    assert (status.state, status.reason) == ("warming", "ended by SIGKILL")
    assert life.do(Recovered("one", 1)) == []
    assert life.state() == "serving"
    assert life.book.held["one"].reason == ""


def test_ending_while_fetching_stops_at_once(life: Life) -> None:
    life.hear(orders(lease()))
    assert life.hear(orders(lease(revision=2, desired="ended"))) == ["stop one"]
    assert life.do(Fetched("one", 1, 1.0)) == []
    life.do(Stopped("one", 1))
    assert life.state() == "ended"


def test_a_lease_never_held_whose_end_is_wanted_is_reported_ended(life: Life) -> None:
    assert life.hear(orders(lease(desired="ended"))) == []
    assert life.state() == "ended"


def test_what_cannot_run_here_fails_with_the_reason(life: Life) -> None:
    life.hear(orders(lease(model=Model(engine="llamacpp", task="chat"))))
    assert "does not run engine 'llamacpp'" in life.book.held["one"].reason
    life.hear(orders(lease("big", resources=Resources(memory_mib=4096))))
    assert life.state("big") == "failed"
    assert "4096 MiB" in life.book.held["big"].reason


def test_a_lease_waits_for_one_that_drains(life: Life) -> None:
    big = Resources(cpu_milli=500, memory_mib=1500)
    life.serve(lease(resources=big))
    ending = lease(resources=big, revision=2, desired="ended")
    life.hear(orders(ending))
    assert life.hear(orders(ending, lease("two", resources=big))) == []
    assert life.state("two") == "accepted"
    life.do(Drained("one", 1))
    assert life.do(Stopped("one", 1)) == ["fetch two"]


def test_a_lease_waits_for_one_that_nobody_lists_any_more(life: Life) -> None:
    """A node that was frozen comes back, and its former lease has been forgotten."""
    big = Resources(cpu_milli=500, memory_mib=1500)
    life.serve(lease("old", resources=big))
    assert life.hear(orders(lease("new", resources=big))) == []
    assert life.state("new") == "accepted"
    assert life.after(ABSENCE_S) == ["drain old"]
    life.do(Drained("old", 1))
    assert life.do(Stopped("old", 1)) == ["fetch new"]


def test_too_much_at_once_fails_the_later(life: Life) -> None:
    big = Resources(cpu_milli=500, memory_mib=1500)
    assert life.hear(orders(lease(resources=big), lease("two", resources=big))) == ["fetch one"]
    assert life.state("two") == "failed"


def test_closing_drains_everything_and_takes_nothing(life: Life) -> None:
    life.serve(lease())
    assert life.do(Closing()) == ["drain one"]
    assert life.hear(orders(lease(), lease("two"))) == []
    assert life.do(Drained("one", 1)) == ["stop one"]
    life.do(Stopped("one", 1))
    assert life.state() == "ended"


def in_country(country: str) -> Life:
    life = Life()
    life.book = msgspec.structs.replace(life.book, country=country)
    return life


EU = {"residency": Residency(allow=("EU",), evidence="declared"), "countries": ("DE", "FR")}


def test_a_lease_whose_residency_excludes_this_node_is_refused() -> None:
    life = in_country("US")
    assert life.hear(orders(lease(**EU))) == []
    assert life.state() == "failed"
    assert life.book.held["one"].reason.startswith("residency: This node stands in US")
    assert in_country("DE").hear(orders(lease(**EU))) == ["fetch one"]


def test_a_residency_that_comes_to_exclude_this_node_winds_it_down() -> None:
    life = in_country("US")
    life.serve(lease())
    narrowed = lease(revision=2, **EU)
    assert life.hear(orders(narrowed)) == ["drain one"]
    assert life.do(Drained("one", 1)) == ["stop one"]
    assert life.do(Stopped("one", 1)) == []
    assert life.state() == "failed"
    assert life.book.held["one"].reason.startswith("residency: ")
    assert life.hear(orders(lease(revision=3))) == ["fetch one"]


def test_a_residency_that_excludes_it_while_it_fetches_stops_that() -> None:
    life = in_country("US")
    life.hear(orders(lease()))
    assert life.hear(orders(lease(revision=2, **EU))) == ["stop one"]
    assert life.hear(orders(lease(revision=2, **EU)), "g2") == []
    life.do(Stopped("one", 1))
    assert life.state() == "failed"


# -- standbys --------------------------------------------------------------------------------


def test_a_standby_fetches_and_loads_nothing(life: Life) -> None:
    assert life.hear(orders(lease(desired="standby"))) == ["fetch one"]
    assert life.do(Fetched("one", 1, 120.0)) == []
    (status,) = statuses(life.book, {"one": 77})
    assert (status.state, status.fetch_ms, status.fetched_bytes) == ("standby", 120.0, 77)
    assert life.hear(orders(lease(desired="standby", revision=2, service_revision=2))) == []
    assert life.state() == "standby"
    assert life.book.held["one"].lease.revision == 2


def test_a_standby_takes_no_room(life: Life) -> None:
    most = Resources(cpu_milli=CAPACITY.cpu_milli, memory_mib=CAPACITY.memory_mib)
    life.serve(lease(resources=most))
    kept = lease("kept", resources=most, desired="standby")
    assert life.hear(orders(lease(resources=most), kept)) == ["fetch kept"]
    assert life.state("kept") == "fetching"
    assert not life.book.held["kept"].occupies
    life.do(Fetched("kept", life.run("kept"), 1.0))
    over = lease(resources=most, revision=2, desired="ended")
    life.hear(orders(over, kept))
    life.do(Drained("one", 1))
    life.do(Stopped("one", 1))
    # The replica is another lease: it finds the room, and the files, beside the standby.
    assert life.hear(orders(over, kept, lease("new", resources=most))) == ["fetch new"]


def test_a_standby_ends_by_order_by_absence_and_where_it_may_not_be(life: Life) -> None:
    life.hear(orders(lease(desired="standby")))
    life.do(Fetched("one", 1, 1.0))
    assert life.hear(orders(lease(desired="ended", revision=2))) == ["stop one"]
    life.do(Stopped("one", 1))
    assert life.state() == "ended"

    life.hear(orders(lease("two", desired="standby")))
    life.do(Fetched("two", life.run("two"), 1.0))
    assert life.hear(orders()) == []
    assert life.after(ABSENCE_S) == ["stop two"]

    life.hear(orders(lease("three", desired="standby")))
    life.do(Fetched("three", life.run("three"), 1.0))
    outside = lease(
        "three",
        desired="standby",
        revision=2,
        residency=Residency(allow=("FR",), evidence="declared"),
        countries=("FR",),
    )
    life.book = msgspec.structs.replace(life.book, country="US")
    assert life.hear(orders(outside)) == ["stop three"]


def test_a_standby_without_the_engine_is_of_no_use(life: Life) -> None:
    life.hear(orders(lease(desired="standby", model=Model(engine="llamacpp", task="chat"))))
    assert life.state() == "failed"
    assert "engine" in life.book.held["one"].reason


def test_a_standby_that_is_wanted_serving_starts_anew(life: Life) -> None:
    life.hear(orders(lease(desired="standby")))
    life.do(Fetched("one", 1, 1.0))
    assert life.hear(orders(lease(revision=2))) == ["stop one"]
    assert life.do(Stopped("one", 1)) == ["fetch one"]
    assert life.do(Fetched("one", life.run(), 0.0)) == ["load one"]
