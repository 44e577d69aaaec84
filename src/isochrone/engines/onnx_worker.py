"""The ONNX worker process: ``python -m isochrone.engines.onnx_worker FD``.

Intuition: read a frame, run the model, write a frame; ``worker_turns.py`` says which thread does
what. Here a request's bytes become tensors or texts and the outputs bytes again, so that none of
that work touches the node's event loop.
"""

from __future__ import annotations

import sys
from pathlib import Path

from isochrone.engines import oip, openai_embeddings
from isochrone.engines.error_bodies import oip_error_body, openai_error_body
from isochrone.engines.onnx_model import OnnxModel, StoppedError, make_stop
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
from isochrone.engines.worker_turns import Stop, Turns
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

    def serve(self, pipe: Pipe) -> None:
        """Answer until the node is gone (``EOFError``)."""
        Turns(pipe, self.concurrency, self.answer, make_stop).serve()

    def answer(self, payload: memoryview, stop: Stop) -> tuple[Answer, list[bytes]]:
        """One request → one answer; a fault of the request is an answer in its API's format."""
        document, body = split(payload)
        run = decode(document, Run)
        embeddings = run.operation == "embeddings"
        try:
            if embeddings:
                return self._embeddings(body, stop)
            return self._infer(body, run.headers, stop)
        except StoppedError:
            return Answer(499, [], 0), []
        except InvalidInput as error:
            form = openai_error_body if embeddings else oip_error_body
            return _fault(400, form(error.message))
        except OurFault as error:
            return Answer(error.status, [], 0, error=error.message), []
        except MemoryError:
            return Answer(503, [], 0, error="The replica has not enough memory."), []

    def _infer(
        self, body: memoryview, headers: dict[str, str], stop: Stop
    ) -> tuple[Answer, list[bytes]]:
        request = oip.decode_request(body, headers)
        asks = self.model.check(request)
        arrays, engine_us = self.model.run(request.inputs, [ask.name for ask in asks], stop)
        outputs = [
            (ask.name, array, request.binary_default if ask.binary is None else ask.binary)
            for ask, array in zip(asks, arrays, strict=True)
        ]
        head, parts = oip.encode_response(self.model.name, request.id, outputs)
        return Answer(200, head, engine_us), parts

    def _embeddings(self, body: memoryview, stop: Stop) -> tuple[Answer, list[bytes]]:
        request = openai_embeddings.decode_request(body)
        if self._embedder is None:
            raise InvalidInput("this service does not give embeddings; its task is tensor")
        vectors, tokens, engine_us = self._embedder.embed(request, stop)
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
