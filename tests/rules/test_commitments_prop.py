"""Commitments bind their author to its reports, and to nobody else's."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules.commitments import (
    commitment,
    in_time,
    opens,
    page_digest,
    secret_digest,
    secret_opens,
)
from isochrone.schema.chain_snapshot import Watcher
from isochrone.schema.digests import digest
from isochrone.schema.proof import NodeReport, WatchCommitment, WatchOpening

hexes = st.binary(min_size=32, max_size=32).map(bytes.hex)
reports = st.lists(
    st.builds(
        NodeReport,
        node=st.text("abc", max_size=4),
        asked=st.integers(0, 9),
        answered=st.integers(0, 9),
        findings=st.just(()),
    ),
    max_size=4,
).map(tuple)


def made(
    who: str, watch: int, salt: str, pages: list[tuple[NodeReport, ...]]
) -> tuple[WatchCommitment, list[WatchOpening]]:
    names = tuple(page_digest(page) for page in pages)
    said = WatchCommitment(
        watch=watch, reports=commitment(who, watch, salt, names), next_secret="00" * 32
    )
    opening = [
        WatchOpening(watch=watch, salt=salt, secret="", seen={}, pages=names, page=i, reports=page)
        for i, page in enumerate(pages)
    ]
    return said, opening


@given(st.integers(0, 9), hexes, st.lists(reports, min_size=1, max_size=3), st.data())
def test_only_all_pages_as_they_were_open_it_and_only_their_authors(
    watch: int, salt: str, pages: list[tuple[NodeReport, ...]], data: st.DataObject
) -> None:
    said, opening = made("0xa", watch, salt, pages)
    assert opens("0xa", said, opening)
    assert not opens("0xb", said, opening), "a copy opens for nobody else"
    assert not opens("0xa", said, opening[:-1])
    assert not opens("0xa", said, [*opening, opening[-1]])
    number = data.draw(st.integers(0, len(opening) - 1))
    extra = NodeReport(node="added", asked=1, answered=0, findings=())
    changes: dict[str, object] = {
        "salt": "11" * 32,
        "watch": watch + 1,
        "secret": "22" * 32 if len(opening) > 1 else None,
        "reports": (*opening[number].reports, extra),
        "page": number + 1,
    }
    for name, value in changes.items():
        if value is not None and getattr(opening[number], name) != value:
            changed = list(opening)
            changed[number] = msgspec.structs.replace(opening[number], **{name: value})
            assert not opens("0xa", said, changed), name


@given(hexes, hexes)
def test_a_secret_opens_its_own_digest(secret: str, other: str) -> None:
    assert secret_opens(secret, secret_digest(secret))
    assert secret_opens(other, secret_digest(secret)) == (other == secret)
    assert not secret_opens("", secret_digest(""))
    assert not secret_opens(secret, "")
    assert not secret_opens(secret, None)


stakes = st.lists(st.integers(1, 100), min_size=1, max_size=9)


@given(stakes, st.data())
def test_a_third_of_the_bond_can_neither_make_a_late_one_count_nor_shut_an_early_one_out(
    bonds: list[int], data: st.DataObject
) -> None:
    """The liars' words are drawn; the honest ones tell what they saw."""
    watchers = [Watcher(key=f"k{i}", account="", stake_microusd=b) for i, b in enumerate(bonds)]
    word = WatchCommitment(watch=1, reports="aa", next_secret="bb")
    said = {"k0": word}
    liars = set(data.draw(st.sets(st.sampled_from([one.key for one in watchers]))))
    hostile = sum(one.stake_microusd for one in watchers if one.key in liars)
    whole = sum(bonds)
    if 3 * hostile > whole:
        return

    def told(honest: dict[str, str]) -> dict[str, dict[str, str]]:
        lie = data.draw(st.sampled_from([{}, {"k0": digest(word)}, {"k0": "cc"}]))
        return {one.key: lie if one.key in liars else honest for one in watchers}

    assert in_time(said, told({}), watchers) == frozenset(), "nobody honest had it in time"
    assert in_time(said, told({"k0": digest(word)}), watchers) == {"k0"}, "all had it"


def test_words_of_strangers_and_about_other_bodies_do_not_count() -> None:
    watchers = [Watcher(key=k, account="", stake_microusd=1) for k in "abc"]
    word = WatchCommitment(watch=1, reports="aa", next_secret="bb")
    name = digest(word)
    assert in_time({"a": word}, {"x": {"a": name}, "y": {"a": name}}, watchers) == frozenset()
    assert in_time({"a": word}, {"a": {"a": name}}, watchers) == frozenset(), "a third is not more"
    assert in_time({"a": word}, {"a": {"a": name}, "b": {"a": name}}, watchers) == {"a"}
    assert in_time({"a": word}, {"b": {"a": "other"}, "c": {"a": "other"}}, watchers) == frozenset()
