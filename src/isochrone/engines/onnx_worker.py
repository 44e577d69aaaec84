"""The ONNX worker process: ``python -m isochrone.engines.onnx_worker FD``.

Intuition: a loop that reads a frame, runs the model, writes a frame. With ``concurrency`` above
one, that many threads take turns at reading (leader and followers), so that no request changes
threads; onnxruntime releases the interpreter while it computes.

Rules: before each run everything that has arrived is read, so that a cancellation overtakes the
requests before it.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from pathlib import Path

from isochrone.engines import oip, openai_embeddings
from isochrone.engines.onnx_model import OnnxModel
from isochrone.engines.options import OnnxOptions, check_options
from isochrone.engines.worker_frames import (
    Answer,
    Failed,
    Kind,
    Load,
    Ready,
    Run,
    decode,
    split,
)
from isochrone.engines.worker_pipe import Pipe
from isochrone.schema.errors import InvalidInput, IsochroneError, OurFault


class Worker:
    """A loaded model that answers frames."""

    def __init__(self, load: Load) -> None:
        options = check_options(load.options, OnnxOptions)
        self.model = OnnxModel(Path(load.files["model"]), options)
        self.concurrency = options.concurrency
        self._embedder = None
        if options.task == "embeddings":
            from isochrone.engines.text_embedder import TextEmbedder

            self._embedder = TextEmbedder(self.model, Path(load.files["tokenizer"]), options)
        self.warm_ms = self.model.warm()
        self._waiting: OrderedDict[int, memoryview] = OrderedDict()
        self._reading = threading.Lock()

    def serve(self, pipe: Pipe) -> None:
        """Answer until the node is gone (``EOFError``)."""
        for _ in range(self.concurrency - 1):
            threading.Thread(target=self._work, args=(pipe,), daemon=True).start()
        self._work(pipe)

    def _work(self, pipe: Pipe) -> None:
        while True:
            with self._reading:
                number, payload = self._next(pipe)
            answer, body = self._answer(payload)
            del payload
            try:
                pipe.write(Kind.ANSWER, number, answer, body)
            except OurFault as error:
                pipe.write(Kind.ANSWER, number, Answer(500, [], 0, error=error.message), [])

    def _next(self, pipe: Pipe) -> tuple[int, memoryview]:
        """The oldest request that nobody cancelled."""
        self._take(pipe, wait=False)
        while not self._waiting:
            self._take(pipe, wait=True)
        return self._waiting.popitem(last=False)

    def _take(self, pipe: Pipe, *, wait: bool) -> None:
        for kind, number, payload in pipe.read(wait=wait):
            if kind is Kind.RUN:
                self._waiting[number] = payload
            elif kind is Kind.CANCEL and self._waiting.pop(number, None) is not None:
                pipe.write(Kind.ANSWER, number, Answer(499, [], 0), [])

    def _answer(self, payload: memoryview) -> tuple[Answer, list[bytes]]:
        """One request → one answer; a fault of the request is an answer in its API's format."""
        document, body = split(payload)
        run = decode(document, Run)
        embeddings = run.operation == "embeddings"
        try:
            return self._embeddings(body) if embeddings else self._infer(body, run.headers)
        except InvalidInput as error:
            form = openai_embeddings.error_body if embeddings else oip.error_body
            return _fault(400, form(error.message))
        except OurFault as error:
            return Answer(error.status, [], 0, error=error.message), []
        except MemoryError:
            return Answer(503, [], 0, error="The replica has not enough memory."), []

    def _infer(self, body: memoryview, headers: dict[str, str]) -> tuple[Answer, list[bytes]]:
        request = oip.decode_request(body, headers)
        asks = self.model.check(request)
        arrays, engine_us = self.model.run(request.inputs, [ask.name for ask in asks])
        outputs = [
            (ask.name, array, request.binary_default if ask.binary is None else ask.binary)
            for ask, array in zip(asks, arrays, strict=True)
        ]
        head, parts = oip.encode_response(self.model.name, request.id, outputs)
        return Answer(200, head, engine_us), parts

    def _embeddings(self, body: memoryview) -> tuple[Answer, list[bytes]]:
        request = openai_embeddings.decode_request(body)
        if self._embedder is None:
            raise InvalidInput("this service does not give embeddings; its task is tensor")
        vectors, tokens, engine_us = self._embedder.embed(request)
        data = openai_embeddings.encode_response(
            vectors, request.model or self.model.name, request.encoding_format, tokens
        )
        return Answer(200, _json_head(data), engine_us, tokens_in=tokens), [data]


def _fault(status: int, body: bytes) -> tuple[Answer, list[bytes]]:
    return Answer(status, _json_head(body), 0), [body]


def _json_head(body: bytes) -> list[tuple[str, str]]:
    return [("content-type", "application/json"), ("content-length", str(len(body)))]


def main() -> None:
    """Serve the node at the other end of the socket whose descriptor is the argument."""
    pipe = Pipe.inherited(int(sys.argv[1]))
    try:
        worker = Worker(pipe.read_load())
        model = worker.model
        ready = Ready(model.metadata(), model.device, model.load_ms, worker.warm_ms)
        pipe.write(Kind.READY, 0, ready, [])
        worker.serve(pipe)
    except IsochroneError as error:
        pipe.write(Kind.FAILED, 0, Failed(error.code, error.message, error.fix), [])
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


if __name__ == "__main__":
    main()
