from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.engines.usage import WHOLE_BYTES_MAX, UsageCounter

EVENT = b'data: {"choices":[{"text":"a"}]}\n\n'
WITHOUT = EVENT + EVENT + b"data: [DONE]\n\n"
WITH = EVENT + b'data: {"choices":[],"usage":{"prompt_tokens":6,"completion_tokens":4}}\n\n'
WHOLE = b'{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}'


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        ("text/event-stream", WITHOUT, (0, 2)),
        ("text/event-stream; charset=utf-8", WITH, (6, 4)),
        ("application/json", WHOLE, (5, 7)),
        ("application/json", b"not json", (0, 0)),
        ("application/json", b"", (0, 0)),
        ("text/event-stream", b': comment\n\ndata: {"usage":null}', (0, 1)),
    ],
)
def test_tokens_of_whole_and_streamed_answers(content_type, body, expected) -> None:
    counter = UsageCounter("completions")
    counter.begin(content_type)
    counter.feed(body)
    assert counter.tokens() == expected


@given(st.lists(st.integers(0, len(WITH)), max_size=8))
def test_any_split_counts_the_same(places) -> None:
    places = [0, *sorted(places), len(WITH)]
    counter = UsageCounter("chat.completions")
    counter.begin("text/event-stream")
    for a, b in itertools.pairwise(places):
        counter.feed(WITH[a:b])
    assert counter.tokens() == (6, 4)


def test_memory_is_bounded_and_a_huge_answer_counts_nothing() -> None:
    counter = UsageCounter("embeddings")
    counter.begin("application/json")
    for _ in range(2 * WHOLE_BYTES_MAX // 1024):
        counter.feed(b" " * 1024)
    counter.feed(WHOLE)
    assert counter.tokens() == (0, 0)
    assert len(counter._kept) <= WHOLE_BYTES_MAX


def test_tensors_have_no_tokens() -> None:
    counter = UsageCounter("infer")
    counter.begin("application/json")
    counter.feed(WHOLE)
    assert counter.tokens() == (0, 0)
