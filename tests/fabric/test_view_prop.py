"""A view ends up right whatever order looks, changes and answers to own writes arrive in."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.fabric.checked import wrap
from isochrone.fabric.line import Stored, Whole
from isochrone.fabric.view import Entry, View

KEYS = ("a", "b", "c")


def _value(payload: bytes) -> int:
    return msgspec.json.decode(payload, type=int)


class Store:
    """The naive model: a log."""

    def __init__(self) -> None:
        self.log: list[Stored] = []

    def add(self, key: str, *, delete: bool) -> Stored:
        revision = len(self.log) + 1
        payload = b"" if delete else wrap(b"%d" % revision)
        self.log.append(Stored(key, payload, revision, delete))
        return self.log[-1]

    def whole(self) -> Whole:
        newest = {stored.key: stored for stored in self.log}
        return Whole("one", len(self.log), tuple(newest.values()))

    def entries(self) -> dict[str, Entry[int]]:
        return {
            one.key: Entry(one.revision, one.revision)
            for one in self.whole().stored
            if not one.deleted
        }


@settings(max_examples=250)
@given(st.data())
def test_every_interleaving_converges(data: st.DataObject) -> None:
    store, view = Store(), View("t", _value)
    view.take_whole(store.whole(), view.known, 0.0)
    heard = 0
    answers: list[Stored] = []
    look: tuple[Whole, object, int] | None = None
    for _ in range(data.draw(st.integers(0, 25))):
        match data.draw(st.sampled_from(["other", "own", "hear", "answer", "look", "adopt"])):
            case "other":
                store.add(data.draw(st.sampled_from(KEYS)), delete=data.draw(st.booleans()))
            case "own":
                key, delete = data.draw(st.sampled_from(KEYS)), data.draw(st.booleans())
                answers.append(store.add(key, delete=delete))
            case "hear":
                upto = data.draw(st.integers(heard, len(store.log)))
                view.hear(store.log[heard:upto])
                heard = upto
            case "answer" if answers:
                view.wrote(answers.pop(data.draw(st.integers(0, len(answers) - 1))))
            case "look" if look is None:
                look = store.whole(), view.known, len(store.log)
            case "adopt" if look is not None:
                whole, known, heard = look  # a new watch begins where its look was made
                look = None
                view.take_whole(whole, known, 0.0)  # type: ignore[arg-type]
        assert not view.known.doubted
    for answer in answers:
        view.wrote(answer)
    view.hear(store.log[heard:])
    assert view.entries == store.entries()
    assert view.agrees(store.whole())


def test_a_late_change_does_not_bring_back_what_we_deleted() -> None:
    store, view = Store(), View("t", _value)
    put, gone = store.add("a", delete=False), store.add("a", delete=True)
    view.wrote(gone)
    assert not view.hear([put])
    assert not view.entries
    assert not view.hear([gone])
    again = store.add("a", delete=False)
    assert view.hear([again])
    assert view.entries == store.entries()


def test_a_key_can_be_refused_and_written_again() -> None:
    view = View("t", _value)
    view.hear([Stored("a", wrap(b"1"), 1)])
    assert not view.hear([Stored("a", wrap(b'"no number"'), 2)])
    assert not view.hear([Stored("a", b"damaged", 3)])
    assert view.entries == {"a": Entry(1, 1)}
    assert view.refused == 2
    assert view.hear([Stored("a", wrap(b"4"), 4)])
    assert view.entries == {"a": Entry(4, 4)}
