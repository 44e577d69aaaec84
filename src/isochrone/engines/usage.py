"""Tokens of an answer that passes through, without holding it up.

Intuition: OpenAI answers carry ``usage``; a stream carries it only in its last event and only when
asked for. Where it is missing from a stream, every event but ``[DONE]`` counts as one token, which
is how llama.cpp and vLLM stream (a server that groups tokens is undercounted).

Rules: nothing is buffered beyond ``WHOLE_BYTES_MAX``; a larger answer counts no tokens.
"""

from __future__ import annotations

import msgspec

#: Largest answer, or event of a stream, that is looked into, bytes.
WHOLE_BYTES_MAX = 256 * 1024


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Body(msgspec.Struct):
    usage: _Usage | None = None


_decoder = msgspec.json.Decoder(_Body)


class UsageCounter:
    """Fed with an answer's pieces; knows its tokens at the end."""

    def __init__(self, operation: str) -> None:
        self._counts = operation != "infer"
        self._stream = False
        self._kept = bytearray()
        self._events = 0
        self._usage: _Usage | None = None

    def begin(self, content_type: str) -> None:
        """The answer's head has come."""
        self._stream = content_type.startswith("text/event-stream")

    def feed(self, data: bytes) -> None:
        """The next piece, any split."""
        if not self._counts:
            return
        self._kept += data
        if self._stream:
            *lines, rest = self._kept.split(b"\n")
            self._kept = rest
            for line in lines:
                self._line(bytes(line))
        if len(self._kept) > WHOLE_BYTES_MAX:
            self._counts = False
            self._kept.clear()

    def tokens(self) -> tuple[int, int]:
        """Read and written."""
        if self._stream:
            self._line(bytes(self._kept))
        elif self._kept:
            self._usage = _usage(bytes(self._kept))
        if self._usage is not None:
            return self._usage.prompt_tokens, self._usage.completion_tokens
        return 0, self._events

    def _line(self, line: bytes) -> None:
        if not line.startswith(b"data:"):
            return
        event = line[5:].strip()
        if event == b"[DONE]":
            return
        if b'"usage"' in event:
            found = _usage(event)
            if found is not None:
                self._usage = found
        self._events += 1


def _usage(document: bytes) -> _Usage | None:
    try:
        return _decoder.decode(document).usage
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
