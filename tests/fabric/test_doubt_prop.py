"""Properties of doubt: what is held is never dropped without a delete, a seal or a week."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isochrone.fabric.doubt import MARKERS_KEPT_S, SEAL_KEY, Known, judge
from isochrone.fabric.line import Stored, Whole

KEYS = st.sampled_from("abcdef")
REVISIONS = st.integers(1, 30)
HELD = st.dictionaries(KEYS, REVISIONS)
UNHEARD = st.sampled_from([0.0, 10.0, MARKERS_KEPT_S + 1.0])


@st.composite
def wholes(draw: st.DrawFn, *, seal: bytes | None = None) -> Whole:
    stored = draw(st.dictionaries(KEYS, st.tuples(REVISIONS, st.booleans())))
    parts = [Stored(key, b"", at, gone) for key, (at, gone) in stored.items()]
    if seal is not None:
        parts.append(Stored(SEAL_KEY, seal, draw(REVISIONS)))
    last = max([draw(st.integers(0, 30)), *(one.revision for one in parts)])
    return Whole(draw(st.sampled_from(["old", "new"])), last, tuple(parts))


KNOWN = st.builds(
    Known,
    created=st.sampled_from(["", "old"]),
    last=st.integers(0, 30),
    doubted=st.frozensets(KEYS),
    doubted_at=st.integers(0, 30),
)


@given(HELD, KNOWN, wholes(), UNHEARD)
def test_only_a_marker_or_a_silent_week_removes_a_key(
    held: dict[str, int], known: Known, whole: Whole, unheard_s: float
) -> None:
    verdict = judge(held, known, whole, unheard_s)
    seen = {one.key: one for one in whole.stored}
    for key in set(held) - verdict.kept:
        assert key in seen or (unheard_s > MARKERS_KEPT_S and whole.created == known.created)
    assert verdict.doubted <= verdict.kept <= set(held)
    assert bool(verdict.reason) == bool(verdict.doubted - known.doubted)


@given(HELD, KNOWN, wholes(seal=b"new"), UNHEARD)
def test_a_new_seal_ends_every_doubt(
    held: dict[str, int], known: Known, whole: Whole, unheard_s: float
) -> None:
    assert not judge(held, known, whole, unheard_s).doubted


@given(st.dictionaries(KEYS, st.tuples(REVISIONS, st.booleans())), st.data())
def test_a_store_that_only_moves_on_is_never_doubted(
    stored: dict[str, tuple[int, bool]], data: st.DataObject
) -> None:
    """Whatever a reader saw before of an honest bucket: older revisions of some of its keys."""
    last = max((at for at, _ in stored.values()), default=0)
    held = {
        key: data.draw(st.integers(1, at))
        for key, (at, _) in stored.items()
        if data.draw(st.booleans())
    }
    known = Known(created="old", last=data.draw(st.integers(0, last)))
    parts = tuple(Stored(key, b"", at, gone) for key, (at, gone) in stored.items())
    verdict = judge(held, known, Whole("old", last, parts), 1.0)
    assert not verdict.doubted
    assert not verdict.reason


@given(HELD.filter(bool), st.booleans())
def test_a_bucket_made_anew_or_gone_back_is_doubted(held: dict[str, int], anew: bool) -> None:
    known = Known(created="old", last=max(held.values()))
    whole = Whole("new" if anew else "old", 0, ())
    verdict = judge(held, known, whole, MARKERS_KEPT_S + 1.0)
    assert verdict.doubted == set(held)
    assert ("made anew" if anew else "fell from") in verdict.reason


def test_doubt_stays_until_the_key_is_written_again() -> None:
    held, known = {"a": 40}, Known(created="new", last=7, doubted=frozenset("a"), doubted_at=5)
    gone = Whole("new", 7, ())
    verdict = judge(held, known, gone, 1.0)
    assert (verdict.doubted, verdict.reason) == ({"a"}, "")
    back = Whole("new", 8, (Stored("a", b"", 8),))
    assert not judge(held, known, back, 1.0).kept


def test_what_was_written_during_the_look_is_not_missing() -> None:
    verdict = judge({"a": 12}, Known(created="old", last=11), Whole("old", 11, ()), 1.0)
    assert (verdict.kept, verdict.doubted) == ({"a"}, set())
