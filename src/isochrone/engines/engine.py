"""The interface between a node and whatever runs a model.

Intuition: a node holds one engine per replica and hands it whole requests; the engine calls back.
There is no task or future per request: ``submit`` writes a frame or a socket and returns, and the
answer arrives as calls on the request's ``AnswerSink``. Models run in other processes, so an
engine that crashes, leaks or spins cannot take the node with it.

Rules of this interface:

* Everything here happens on the event loop's thread. A sink is never called before ``submit`` has
  returned, and never after its ``Cancel`` was called.
* A sink sees ``on_head``, then any number of ``on_data``, then exactly one ``on_end``; or, at any
  point instead of the rest, exactly one ``on_error``.
* A fault of the request (wrong shape, malformed JSON) is an *answer*: ``on_head(400, …)`` with a
  body in the API's own error format, then ``on_end``. ``on_error`` is for faults of the engine,
  and its ``retry`` says whether the same request may be tried elsewhere.
* Queues are bounded: beyond ``queue_max`` requests the engine answers ``Overloaded``.

It does not choose, fetch or verify models (the node's cache did), and knows no prices or leases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from isochrone.schema.errors import InvalidInput, IsochroneError

if TYPE_CHECKING:
    from isochrone.engines.spare import WorkerSpare
    from isochrone.engines.upstream import PoolFactory

Operation = Literal["infer", "metadata", "embeddings", "chat.completions", "completions"]
EngineState = Literal["loading", "ready", "restarting", "stopped"]

KINDS = ("onnx", "llamacpp", "upstream")

#: Largest request body, bytes (64 MiB): the wire's own limit for a body.
BODY_BYTES_MAX = 64 * 1024 * 1024


class EngineRequest(msgspec.Struct, frozen=True):
    """One request, whole.

    ``service``: the name callers use. ``headers``: lower-case names; engines read
    ``content-type``, ``inference-header-content-length`` and ``accept``. ``body``: at most
    ``BODY_BYTES_MAX`` bytes. ``deadline_s``: seconds left when submitted, ``None`` for no limit;
    a request still queued when it passes is answered with ``Timeout``.
    """

    service: str
    operation: Operation
    headers: Mapping[str, str]
    body: bytes
    deadline_s: float | None = None


class EngineStats(msgspec.Struct, frozen=True):
    """What one answer cost: microseconds inside the engine, microseconds queued before it, and
    tokens read and written (0 where the notion does not apply)."""

    engine_us: int
    queue_us: int
    tokens_in: int = 0
    tokens_out: int = 0


class EngineReport(msgspec.Struct, frozen=True):
    """What a node says about an engine: ``load_ms`` (files to first usable session) and
    ``warm_ms`` (the trial run after it) of the last start, ``rss_mb`` of its process (mebibytes,
    0 when there is none), ``device`` it really runs on, ``pid`` (0 when there is none),
    ``restarts`` since ``start``."""

    load_ms: float
    warm_ms: float
    rss_mb: float
    device: str
    pid: int
    restarts: int


class AnswerSink(Protocol):
    """Receives one answer. See the rules at the top of this file."""

    def on_head(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """The answer's HTTP status and headers (lower-case names, no hop-by-hop ones)."""

    def on_data(self, data: bytes) -> None:
        """The next piece of the body."""

    def on_end(self, stats: EngineStats) -> None:
        """The answer is complete."""

    def on_error(self, error: IsochroneError) -> None:
        """The engine failed; nothing more will come."""


class Cancel(Protocol):
    """A request on its way. Calling it cancels: a queued request is dropped, a running stream is
    stopped at its source. Calling it again, or after the end, does nothing."""

    def __call__(self) -> None:
        """Cancel; the sink is not called again."""

    def pause(self) -> None:
        """Stop producing: whoever reads the answer is slow. Streams stop at their source; engines
        whose answers are whole ignore it."""

    def resume(self) -> None:
        """Undo ``pause``."""


class Engine(Protocol):
    """One model, loaded, behind one of the adapters."""

    #: Told what happened when the worker died by itself; the engine is already restarting it with
    #: back-off. Requests in flight have received ``Unavailable`` before this is called.
    on_died: Callable[[str], None]
    #: How many requests it works on at the same moment; more than that wait in its queue.
    concurrency: int

    @property
    def state(self) -> EngineState:
        """``loading`` until ``start`` returned, ``restarting`` after a crash, ``stopped`` at the
        end. ``submit`` outside ``ready`` answers ``Unavailable``."""

    @property
    def in_flight(self) -> int:
        """Requests submitted and not yet ended, running and queued."""

    async def start(self) -> None:
        """Load the model and run it once.

        Raises ``InvalidInput`` (missing or damaged file, wrong format or options),
        ``Overloaded`` (not enough memory), ``Timeout`` (hung while loading) or ``Unavailable``,
        each with a sentence that says what to do. After an error the engine is stopped.
        """

    def submit(self, request: EngineRequest, sink: AnswerSink) -> Cancel:
        """Take one request. Never raises and never blocks; the answer comes on ``sink``."""

    async def stop(self) -> None:
        """End the worker and wait for it; requests in flight get ``Unavailable``. Idempotent."""

    def metadata(self) -> dict[str, Any]:
        """OIP v2 model metadata: ``name``, ``versions``, ``platform``, ``inputs``, ``outputs``
        (each ``name``, ``datatype``, ``shape`` with -1 for free dimensions). Known after
        ``start``."""

    def report(self) -> EngineReport:
        """Figures for beats and ``status``; cheap (one read of the operating system's tables)."""


def make_engine(
    kind: str,
    files: Mapping[str, Path],
    options: Mapping[str, Any],
    *,
    spare: WorkerSpare | None = None,
    pool_factory: PoolFactory | None = None,
    gpus: Sequence[int] = (),
) -> Engine:
    """An engine of ``kind`` (one of ``KINDS``), not started yet.

    ``files``: the model's files on this machine by the name they were declared with
    (``model.onnx``, ``tokenizer.json``, ``model.gguf``). ``options``: that engine's options, see
    ``OnnxOptions``, ``LlamaOptions`` and ``UpstreamOptions``; plus ``name``, the service's name,
    used in metadata. ``spare``: a source of pre-started workers, for ``onnx``. ``pool_factory``:
    makes HTTP pools, for ``llamacpp`` and ``upstream``. ``gpus``: the machine's GPUs, by number,
    that its process may use, for ``onnx`` and ``llamacpp``; an upstream's server is the provider's,
    who shares its GPUs out.

    Raises ``InvalidInput`` for an unknown kind, unknown options or missing files.
    """
    if kind == "onnx":
        from isochrone.engines.onnx import OnnxEngine

        return OnnxEngine(files, options, spare=spare, gpus=gpus)
    if kind not in KINDS:
        raise InvalidInput(f"There is no engine '{kind}'.", fix=f"Use one of: {', '.join(KINDS)}.")
    if pool_factory is None:
        raise InvalidInput(f"Engine '{kind}' needs an HTTP pool.", fix="Pass pool_factory.")
    if kind == "llamacpp":
        from isochrone.engines.llamacpp import LlamaEngine

        return LlamaEngine(files, options, pool_factory=pool_factory, gpus=gpus)
    from isochrone.engines.upstream import UpstreamEngine

    return UpstreamEngine(options, pool_factory=pool_factory)
