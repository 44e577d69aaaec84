"""A text is read by the same model again: a toy model that knows its own words."""

from __future__ import annotations

import json
import math
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.rules import answer_scores as scores
from isochrone.rules.answers import WRONG_PPM

WORDS = [f" w{number}" for number in range(30)]


def chances(prompt: str, blur: float = 1.0) -> list[float]:
    """The toy model: the next word's probabilities follow from the last two words."""
    seeded = random.Random(" ".join(prompt.split()[-2:]))
    weights = [math.exp(seeded.gauss(0, 2.2) / blur) for _ in WORDS]
    return [weight / sum(weights) for weight in weights]


def write(prompt: str, heat: float, dice: random.Random, words: int = 40, **model: Any) -> str:
    text = ""
    for _ in range(words):
        found = chances(prompt + text, **model)
        if heat == 0:
            text += WORDS[found.index(max(found))]
        else:
            text += dice.choices(WORDS, [chance ** (1 / heat) for chance in found])[0]
    return text


def read(prompt: str, text: str, heat: float, seed: str = "s") -> int:
    request = json.dumps({"prompt": prompt, "temperature": heat}).encode()
    found = []
    for cut in scores.cuts("completions", request, text, seed):
        asked = json.loads(cut.body)
        assert asked["max_tokens"] == 1
        assert prompt + text == asked["prompt"] + cut.rest
        listed = sorted(zip(chances(asked["prompt"]), WORDS, strict=True), reverse=True)
        top = [{"token": word, "logprob": math.log(p)} for p, word in listed[: scores.TOP]]
        answer = {"choices": [{"text": "", "logprobs": {"content": [{"top_logprobs": top}]}}]}
        one = scores.score(json.dumps(answer).encode(), cut.rest, heat)
        assert one is not None
        found.append(one)
    return scores.distance_ppm(found, heat)


def test_the_models_own_text_is_never_wrong() -> None:
    dice = random.Random(1)
    for heat in (0.0, 0.7, 1.0):
        worst = max(read("a b", write("a b", heat, dice), heat, str(n)) for n in range(60))
        assert worst < WRONG_PPM, heat


def test_a_blunter_model_is_told_at_temperature_zero_and_a_wild_one_above() -> None:
    dice = random.Random(2)
    other = [write("zz z", 1.0, dice, blur=20.0) for _ in range(30)]
    greedy = [read("a b", text, 0.0, str(n)) > WRONG_PPM for n, text in enumerate(other)]
    assert sum(greedy) == 30
    sampled = [read("a b", text, 0.3, str(n)) > WRONG_PPM for n, text in enumerate(other)]
    assert sum(sampled) > 25


def test_what_is_bent_or_short_is_not_scored() -> None:
    long = " one two three four five"
    plain = {"prompt": "p", "temperature": 0}
    for more in ({"n": 2}, {"logit_bias": {"1": 2}}, {"presence_penalty": 1}, {"prompt": [1, 2]}):
        body = json.dumps({**plain, **more}).encode()
        assert scores.cuts("completions", body, long, "s") == ()
    assert scores.cuts("completions", json.dumps(plain).encode(), "yes", "s") == ()
    assert scores.cuts("infer", json.dumps(plain).encode(), long, "s") == ()
    assert scores.cuts("completions", b"\xff", long, "s") == ()


def test_a_chat_goes_on_with_what_was_said() -> None:
    messages = [{"role": "user", "content": "hi"}]
    body = json.dumps({"messages": messages, "model": "m"}).encode()
    made = scores.cuts("chat.completions", body, "so it is said and done", "s")
    assert made
    asked = json.loads(made[0].body)
    assert asked["messages"][0] == messages[0]
    assert asked["messages"][1]["content"] + made[0].rest == "so it is said and done"


def test_streams_have_the_same_text() -> None:
    events = [{"choices": [{"delta": {"content": piece}}]} for piece in ("so", " it", " is")]
    body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    headers = {"content-type": "text/event-stream"}
    assert scores.text_of(headers, body + b"data: [DONE]\n\n") == "so it is"
    assert scores.text_of(headers, b"data: {") == ""


@settings(max_examples=60)
@given(st.binary(max_size=80), st.text(max_size=5))
def test_strange_answers_raise_nothing(body: bytes, rest: str) -> None:
    scores.score(body, rest, 0.0)
    scores.text_of({}, body)
    assert 0 <= scores.temperature_of(body) <= 10


@settings(max_examples=40)
@given(st.lists(st.floats(allow_nan=True), max_size=5))
def test_strange_likelihoods_raise_nothing(found: list[float]) -> None:
    top = [{"token": "a", "logprob": value} for value in found]
    answer = {"choices": [{"text": "", "logprobs": {"content": [{"top_logprobs": top}]}}]}
    body = json.dumps(answer).replace("NaN", "1e999").replace("Infinity", "1e999").encode()
    scores.score(body, "a", 0.5)
