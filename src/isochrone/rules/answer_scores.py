"""Whether a text came from a language model: another one with the same weights reads it.

Intuition: two honest runs of one model give different texts, by chance at a temperature above zero
and by rounding even at zero (after the first token that differs, everything does). But each can say
how likely every token of the other's text was, given all before it (*teacher forcing*), and one
token's likelihood hardly depends on rounding. Text from a smaller model, or from one that did not
read the whole prompt, is on average less likely than the model's own would be.

How: at ``POSITIONS`` cuts before words of the answer the model is asked for one token after the
prompt and the answer so far, with its ``TOP`` most likely ones. Both ``/v1/completions`` and
``/v1/chat/completions`` (which go on with a last message of the assistant) can be asked so, and so
can llama.cpp's server and vLLM; no engine has to be changed. The surprise at a cut is −ln of the
probability of all listed tokens with which the real text goes on: the truth is at least that, so
the errors of this reading are in the node's favour.

Bounds, stated (a distance of 1,000,000 ppm is on them):

* temperature 0: the mean of ln p(best) − ln p(real) is 0.15; or it is 2.5 at one cut.
* above: the summed surprise exceeds what the model's own text would have on average (its entropy)
  by 4.5 standard deviations of that; or two more tokens than expected, and three times as many,
  stand outside the list. Truncated sampling (top-p, top-k) only makes honest text less surprising.

Measured (Gemma 3 270M in four bits, llama.cpp, answers of 32 tokens scored by a server with other
threads and slots, six prompts, distances in bounds): at temperature 0 honest text 0.00 to 0.03,
text sampled at 1.6 instead 2.0 to 8.4, text for the last words of the prompt only 0.0 to 3.7 (three
of six beyond). At temperature 0.8 honest 0.00 to 0.02, and both lies at most 0.2: not caught.

Cheapest lie caught: at temperature 0, another or a much smaller model, tokens made up, mostly also
a prompt cut short; above, only text that the model would hardly ever write. Cheapest lie missed:
above temperature 0 everything subtler, since eight cuts of one answer say little; one step of
quantisation (the likelihoods differ by some hundredths); a few wrong words between the cuts.

Rules of this file: pure; requests whose sampling is bent (penalties, biases, grammars, tools,
several choices) are not scored, nor texts shorter than ``WORDS_MIN`` words.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from isochrone.rules.answer_distance import DIFFERENT
from isochrone.schema.digests import UNREADABLE

OPERATIONS: Final = ("completions", "chat.completions")
POSITIONS: Final = 8
TOP: Final = 20
WORDS_MIN: Final = 4

GAP_MEAN_NATS: Final = 0.15
GAP_MOST_NATS: Final = 2.5
DEVIATIONS: Final = 4.5
SLACK_NATS: Final = 0.2
"""Added to each cut's deviation: rounding, and a list that ends at ``TOP``."""
OUTSIDE: Final = 2.0

_BENT: Final = (
    "presence_penalty",
    "frequency_penalty",
    "repeat_penalty",
    "logit_bias",
    "grammar",
    "json_schema",
    "response_format",
    "tools",
    "functions",
    "suffix",
    "echo",
)


class Cut(msgspec.Struct, frozen=True):
    """One question to the scorer: the body to ask with, and how the real text goes on."""

    body: bytes
    rest: str


class Score(msgspec.Struct, frozen=True):
    """What the scorer thinks at one cut, in nats.

    ``surprise``: −ln of the real token's probability (at most the truth); ``mean`` and ``variance``
    of what the model's own token would have; ``gap``: ln p(best) − ln p(real); ``outside``: whether
    the real token is not in the list, ``rest``: the probability of that.
    """

    surprise: float
    mean: float
    variance: float
    gap: float
    outside: bool
    rest: float


class _Message(msgspec.Struct):
    content: str | None = None


class _Logprob(msgspec.Struct):
    token: str
    logprob: float


class _Token(msgspec.Struct):
    top_logprobs: list[_Logprob] = []


class _Logprobs(msgspec.Struct):
    content: list[_Token] = []


class _Choice(msgspec.Struct):
    text: str | None = None
    message: _Message | None = None
    delta: _Message | None = None
    logprobs: _Logprobs | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []


_read = msgspec.json.Decoder(_Answer).decode
_read_request = msgspec.json.Decoder(dict[str, Any]).decode


def text_of(headers: Mapping[str, str], body: bytes) -> str:
    """The text of an answer, whole or streamed; "" where there is none.

    >>> text_of({}, b'{"choices": [{"text": "so it is"}]}')
    'so it is'
    """
    try:
        if not headers.get("content-type", "").startswith("text/event-stream"):
            return "".join(_piece(choice) for choice in _read(body).choices[:1])
        events = [line[5:].strip() for line in body.split(b"\n") if line.startswith(b"data:")]
        answers = [_read(event) for event in events if event != b"[DONE]"]
        return "".join(_piece(choice) for one in answers for choice in one.choices[:1])
    except UNREADABLE:
        return ""


def _piece(choice: _Choice) -> str:
    if choice.text is not None:
        return choice.text
    message = choice.message or choice.delta
    return (message.content or "") if message is not None else ""


def temperature_of(body: bytes) -> float:
    """The temperature that a request asks for; 1 where it asks for none or cannot be read."""
    try:
        found = _read_request(body).get("temperature", 1.0)
    except UNREADABLE:
        return 1.0
    return float(found) if isinstance(found, int | float) and 0 <= found <= 10 else 1.0


def cuts(operation: str, body: bytes, text: str, seed: str) -> tuple[Cut, ...]:
    """The questions that score a text, at seeded places; none where it cannot be scored."""
    try:
        request = _read_request(body)
    except UNREADABLE:
        return ()
    if operation not in OPERATIONS or any(request.get(name) for name in _BENT):
        return ()
    if request.get("n", 1) != 1:
        return ()
    places = [at for at in range(1, len(text)) if text[at] == " " and text[at - 1] != " "]
    if len(places) < WORDS_MIN:
        return ()
    drawn = sorted(places, key=lambda at: hashlib.sha256(f"{seed}\n{at}".encode()).digest())
    made = [_cut(operation, request, text, at) for at in drawn[:POSITIONS]]
    return tuple(cut for cut in made if cut is not None)


def _cut(operation: str, request: Mapping[str, Any], text: str, at: int) -> Cut | None:
    asked = {name: request[name] for name in ("model",) if name in request}
    asked |= {"max_tokens": 1, "temperature": 0}
    if operation == "completions":
        prompt = request.get("prompt")
        if not isinstance(prompt, str):
            return None
        asked |= {"prompt": prompt + text[:at], "logprobs": TOP}
    else:
        messages = request.get("messages")
        if not isinstance(messages, list):
            return None
        last = {"role": "assistant", "content": text[:at]}
        asked |= {"messages": [*messages, last], "logprobs": True, "top_logprobs": TOP}
    return Cut(msgspec.json.encode(asked), text[at:])


def score(body: bytes, rest: str, temperature: float) -> Score | None:
    """The scorer's answer at one cut; None where it says nothing."""
    try:
        listed = _read(body).choices[0].logprobs.content[0].top_logprobs  # type: ignore[union-attr]
    except (AttributeError, IndexError, *UNREADABLE):
        return None
    found = [(one.token, math.exp(min(0.0, one.logprob))) for one in listed[:TOP] if one.token]
    if not found or not all(chance > 0.0 for _, chance in found):
        return None
    best = max(chance for _, chance in found)
    left = max(1e-9, 1.0 - sum(chance for _, chance in found))
    real = sum(chance for token, chance in found if rest.startswith(token))
    outside = real <= 0.0
    bound = min(left, min(chance for _, chance in found))
    real = bound if outside else min(1.0, real)
    gap = max(0.0, math.log(best / real))
    heat = max(temperature, 1e-3)
    weights = [(chance / best) ** (1 / heat) for _, chance in found]
    tail = (bound / best) ** (1 / heat) * max(1.0, left / bound)
    total = sum(weights) + tail
    chances = [weight / total for weight in weights]
    surprises = [-math.log(chance) for _, chance in found]
    mean = sum(p * s for p, s in zip(chances, surprises, strict=True))
    mean += tail / total * -math.log(bound)
    square = sum(p * s * s for p, s in zip(chances, surprises, strict=True))
    square += tail / total * math.log(bound) ** 2
    return Score(
        surprise=-math.log(real),
        mean=mean,
        variance=max(0.0, square - mean * mean),
        gap=gap,
        outside=outside,
        rest=tail / total,
    )


def distance_ppm(scores: Sequence[Score], temperature: float) -> int:
    """How far a text lies from the model's own, in millionths of the bounds above."""
    if not scores:
        return DIFFERENT
    if temperature == 0:
        gaps = [one.gap for one in scores]
        worst = max(sum(gaps) / len(gaps) / GAP_MEAN_NATS, max(gaps) / GAP_MOST_NATS)
        return min(DIFFERENT, int(worst * 1e6))
    over = sum(one.surprise - one.mean for one in scores)
    spread = math.sqrt(sum(one.variance + SLACK_NATS**2 for one in scores))
    outside = sum(one.outside for one in scores)
    expected = sum(one.rest for one in scores)
    worst = max(over / spread / DEVIATIONS, outside / (3 * expected + OUTSIDE))
    return min(DIFFERENT, int(max(0.0, worst) * 1e6))
