"""Any OpenAI or OIP endpoint that the provider already runs, as an engine (vLLM, Triton, Ollama).

Intuition: a request passes through as it is. Only the model's name changes, since a caller names
the service and the upstream knows the model by its own name; every other value keeps its bytes.
The answer streams back as it comes and is not rewritten (its ``model`` is the upstream's).

Rules: which answers are passed on and which count as this provider's trouble is said in
``upstream_response.py``. When the endpoint cannot be reached the engine is ``restarting`` and asks
again with back-off.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from isochrone.engines.engine import (
    BODY_BYTES_MAX,
    AnswerSink,
    Cancel,
    EngineReport,
    EngineRequest,
    EngineState,
    EngineStats,
)
from isochrone.engines.error_bodies import LENGTH_HEADER, oip_error_body, openai_error_body
from isochrone.engines.jobs import Job, JobQueue
from isochrone.engines.options import UpstreamOptions, check_options
from isochrone.engines.restarts import Restarts
from isochrone.engines.upstream_response import (
    HttpPoolLike,
    PassingResponse,
    PoolFactory,
    ResponseSink,
    WholeResponse,
)
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.errors import InvalidInput, IsochroneError, Unavailable

#: Where each operation goes, after ``base_url``. ``{model}`` is percent-encoded.
PATHS = {
    "infer": "/v2/models/{model}/infer",
    "metadata": "/v2/models/{model}",
    "embeddings": "/v1/embeddings",
    "chat.completions": "/v1/chat/completions",
    "completions": "/v1/completions",
}

#: Operations that each task answers, besides ``metadata``.
OPERATIONS = {
    "tensor": {"infer"},
    "embeddings": {"embeddings"},
    "completions": {"completions"},
    "chat": {"chat.completions", "completions"},
}

#: Request headers that are passed on.
_SENT = ("content-type", "accept", LENGTH_HEADER)

#: Longest wait for the upstream to say that it is there, seconds.
_PROBE_TIMEOUT_S = 10.0

__all__ = ["HttpPoolLike", "PoolFactory", "ResponseSink", "UpstreamEngine", "rename"]


class UpstreamEngine:
    """An ``Engine`` over an HTTP endpoint. ``probe_path`` is asked at start and after trouble."""

    def __init__(self, options: Mapping[str, Any], *, pool_factory: PoolFactory) -> None:
        self.options = check_options(options, UpstreamOptions)
        self.concurrency = self.options.concurrency
        self.on_died: Callable[[str], None] = lambda _: None
        self._host, self._port, self._tls, self._prefix = _split(self.options.base_url)
        self._model = self.options.upstream_model or self.options.name
        self._pool_factory = pool_factory
        self._state: EngineState = "loading"
        self._pool: HttpPoolLike | None = None
        self._metadata: dict[str, Any] = {}
        self._load_ms = 0.0
        self._restarts = Restarts()
        self._restarting: asyncio.Task[None] | None = None

    @property
    def state(self) -> EngineState:
        """See ``Engine``."""
        return self._state

    @property
    def in_flight(self) -> int:
        """See ``Engine``."""
        return len(self._jobs) if self._pool is not None else 0

    async def start(self) -> None:
        """Ask the endpoint whether it is there and knows the model. See ``Engine``."""
        self._loop = asyncio.get_running_loop()
        self._jobs = JobQueue(
            self._loop,
            window=self.concurrency,
            waiting_max=self.options.queue_max,
            run=self._send,
            drop=self._drop,
        )
        self._pool = self._pool_factory(self._host, self._port, self._tls)
        started_at = time.monotonic()
        try:
            self._metadata = await self._probe()
        except BaseException:
            await self.stop()
            raise
        if self._pool is None:
            raise Unavailable("The engine was stopped while it was loading.")
        self._load_ms = (time.monotonic() - started_at) * 1000
        self._started_at = time.monotonic()
        self._state = "ready"

    def submit(self, request: EngineRequest, sink: AnswerSink) -> Cancel:
        """See ``Engine``."""
        job = self._jobs.job(request, sink)
        if self._state != "ready":
            self._jobs.soon(job.fail, Unavailable(f"The upstream is {self._state}."))
        elif request.operation == "metadata":
            self._answer(job, 200, msgspec.json.encode(self._metadata))
        elif request.operation not in OPERATIONS[self.options.task]:
            self._refuse(job, 400, f"this service does not answer {request.operation}")
        elif len(request.body) > BODY_BYTES_MAX:
            self._refuse(job, 413, f"the body is larger than {BODY_BYTES_MAX} bytes")
        else:
            self._jobs.put(job)
        return job

    async def stop(self) -> None:
        """See ``Engine``."""
        self._state = "stopped"
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.gather(self._restarting, return_exceptions=True)
        pool, self._pool = self._pool, None
        if pool is not None:
            self._cancel_calls(Unavailable("The replica was stopped."))
            pool.close()

    def metadata(self) -> dict[str, Any]:
        """See ``Engine``."""
        return self._metadata

    def report(self) -> EngineReport:
        """See ``Engine``. The upstream's process is not ours: no memory, no pid."""
        return EngineReport(self._load_ms, 0.0, 0.0, "upstream", 0, self._restarts.total)

    # One request.

    def _send(self, job: Job) -> None:
        request, pool = job.request, self._pool
        if request is None or pool is None:
            return
        try:
            body = rename(request, self._model)
        except InvalidInput as error:
            self._jobs.soon(self._finish_badly, job, error.message)
            return
        path = self._prefix + PATHS[request.operation].format(model=quote(self._model, safe=""))
        job.call = pool.request(
            "POST",
            path,
            self._headers(request.headers),
            body,
            PassingResponse(self, job, request.operation),
            timeout_s=self.options.head_timeout_s,
        )
        job.request = None

    def _drop(self, job: Job) -> None:
        if job.call is not None:
            job.call.cancel()
        self._jobs.done(job)

    def _finish_badly(self, job: Job, message: str) -> None:
        operation = job.request.operation if job.request is not None else "infer"
        body = _fault(operation, message)
        self._jobs.done(job)
        job.answer(400, _json_head(body), body, EngineStats(0, 0))

    def _headers(self, given: Mapping[str, str]) -> list[tuple[str, str]]:
        headers = [(name, given[name]) for name in _SENT if name in given]
        if self.options.api_key:
            headers.append(("authorization", f"Bearer {self.options.api_key}"))
        return headers

    def _answer(self, job: Job, status: int, body: bytes) -> None:
        self._jobs.soon(job.answer, status, _json_head(body), body, EngineStats(0, 0))

    def _refuse(self, job: Job, status: int, message: str) -> None:
        operation = job.request.operation if job.request is not None else "infer"
        self._answer(job, status, _fault(operation, message))

    def finished(self, job: Job) -> None:
        """A call has ended: the next one goes."""
        self._jobs.done(job)

    # The endpoint's life.

    def unreachable(self, error: IsochroneError) -> None:
        """A call could not reach the endpoint: stop offering it until it answers a probe."""
        if self._state != "ready" or not isinstance(error, Unavailable):
            return
        self._state = "restarting"
        self._restarting = self._loop.create_task(self._come_back(error.sentence()))

    async def _come_back(self, reason: str) -> None:
        self.on_died(reason)
        stood_s = time.monotonic() - self._started_at
        while self._state == "restarting":
            self._restarts, delay_s = self._restarts.after(stood_s)
            await asyncio.sleep(delay_s)
            stood_s = 0.0
            try:
                self._metadata = await self._probe()
            except IsochroneError as error:
                self.on_died(error.sentence())
            else:
                self._started_at = time.monotonic()
                self._state = "ready"

    async def _probe(self) -> dict[str, Any]:
        """Metadata of the model. Raises ``Unavailable`` or ``InvalidInput`` with what to do."""
        oip_api = self.options.api == "oip"
        path = PATHS["metadata"].format(model=quote(self._model, safe="")) if oip_api else None
        whole = WholeResponse(self._loop)
        if self._pool is None:
            raise Unavailable("The upstream engine is stopped.")
        call = self._pool.request(
            "GET",
            self._prefix + (path or "/v1/models"),
            self._headers({}),
            b"",
            whole,
            timeout_s=_PROBE_TIMEOUT_S,
        )
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                status, body = await whole.done
        except TimeoutError:
            call.cancel()
            raise self._trouble("does not answer in time") from None
        except IsochroneError as error:
            raise self._trouble(f"cannot be used: {error.message}") from error
        if status != 200:
            raise self._trouble(f"answers {status} to GET {path or '/v1/models'}")
        return _described(self.options.name, body) if oip_api else self._known(body)

    def _known(self, body: bytes) -> dict[str, Any]:
        """The OpenAI list of models must have ours."""
        try:
            names = [entry.id for entry in msgspec.json.decode(body, type=_Models).data]
        except UNREADABLE as error:
            raise self._trouble("does not speak OpenAI's API") from error
        if self._model not in names:
            raise InvalidInput(
                f"The upstream has no model '{self._model}', it has: {', '.join(names) or 'none'}.",
                fix="Set the option upstream_model to one of those.",
            )
        return {
            "name": self.options.name,
            "versions": ["1"],
            "platform": "openai",
            "inputs": [],
            "outputs": [],
        }

    def _trouble(self, what: str) -> Unavailable:
        return Unavailable(
            f"The upstream at {self._host}:{self._port} {what}.",
            fix="Start it, or correct the option base_url.",
        )

    def _cancel_calls(self, error: IsochroneError) -> None:
        for job in self._jobs.running.values():
            if job.call is not None:
                job.call.cancel()
        self._jobs.fail_all(error)


class _Entry(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Entry]


def rename(request: EngineRequest, model: str) -> bytes:
    """The body with its ``model`` set; other values keep their bytes. OIP bodies name none.

    Raises ``InvalidInput`` when the body is not a JSON object.
    """
    if request.operation == "infer":
        return request.body
    try:
        fields = msgspec.json.decode(request.body, type=dict[str, msgspec.Raw])
    except UNREADABLE as error:
        raise InvalidInput(f"malformed JSON: {error}") from error
    except RecursionError:
        raise InvalidInput("malformed JSON: nested too deeply") from None
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    return msgspec.json.encode(fields)


def _fault(operation: str, message: str) -> bytes:
    form = oip_error_body if operation in ("infer", "metadata") else openai_error_body
    return form(message)


def _json_head(body: bytes) -> list[tuple[str, str]]:
    return [("content-type", "application/json"), ("content-length", str(len(body)))]


def _described(name: str, body: bytes) -> dict[str, Any]:
    """The upstream's own OIP metadata under our name."""
    try:
        found = msgspec.json.decode(body, type=dict[str, Any])
    except UNREADABLE as error:
        raise InvalidInput(
            "The upstream does not speak the Open Inference Protocol.",
            fix="Set the option api to openai.",
        ) from error
    return found | {"name": name}


def _split(base_url: str) -> tuple[str, int, ssl.SSLContext | None, str]:
    """Host, port, TLS context and path prefix. Raises ``InvalidInput``."""
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.username:
        raise InvalidInput(
            f"base_url '{base_url}' is not a URL of an HTTP server.",
            fix="Write it like http://127.0.0.1:8000.",
        )
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    return host, port or (443 if tls else 80), tls, parts.path.rstrip("/")
