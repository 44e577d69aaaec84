"""One HTTP request and its answer, as the application sees it (see http_server for the rules)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

Headers = Sequence[tuple[str, str]]


class Exchange:
    """One request and its answer. Callbacks only; everything runs on the event loop's thread.

    Read-only facts: ``method`` (upper case), ``raw_path`` (as sent, without the query), ``path``
    (percent-decoded), ``query`` (without ``?``), ``headers`` (names in lower case; repeated
    headers joined by ``", "``; do not change the mapping, it may be shared), ``peer`` (address of
    the client), ``started`` (``loop.time()`` in seconds when the head's first byte came).

    Set inside the app's call: ``on_data(data)`` for each piece of the body, ``on_end()`` once when
    it is complete, ``on_abort()`` when the client hung up or failed before the answer was
    finished (nothing may be written afterwards; writes are ignored), ``on_writable()`` when a
    ``write`` that returned False may continue. Unset callbacks drop the data.
    """

    method: str
    path: str
    raw_path: str
    query: str
    headers: Mapping[str, str]
    peer: str
    started: float
    on_data: Callable[[bytes], None]
    on_end: Callable[[], None]
    on_abort: Callable[[], None]
    on_writable: Callable[[], None]

    def read_body(self, done: Callable[[bytes], None]) -> None:
        """Collect the whole body (bounded by ``Limits.body_bytes_max``), then call ``done``."""
        raise NotImplementedError

    def pause_reading(self) -> None:
        """Stop taking body bytes from the socket (backpressure); body timeout stands still."""
        raise NotImplementedError

    def resume_reading(self) -> None:
        """Take body bytes again."""
        raise NotImplementedError

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """The whole answer in one write; adds ``content-length`` and ``date``."""
        raise NotImplementedError

    def start(self, status: int, headers: Headers, *, content_length: int | None = None) -> None:
        """Begin a streamed answer; chunked when the length is unknown."""
        raise NotImplementedError

    def write(self, data: bytes) -> bool:
        """Send a piece. False above the high-water mark: wait for ``on_writable`` (data is kept)."""
        raise NotImplementedError

    def finish(self) -> None:
        """End a streamed answer."""
        raise NotImplementedError

    def abort(self) -> None:
        """Cut the connection: the only honest end when a started answer cannot be completed."""
        raise NotImplementedError

    @property
    def responding(self) -> bool:
        """Whether the answer has begun (its status can no longer be chosen)."""
        raise NotImplementedError

    @property
    def finished(self) -> bool:
        """Whether the answer is complete, or can never be (aborted)."""
        raise NotImplementedError
