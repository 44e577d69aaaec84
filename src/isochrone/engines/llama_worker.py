"""The llama.cpp worker process: ``python -m isochrone.engines.llama_worker FD``.

Intuition: ``xllamacpp`` carries llama.cpp's own HTTP server. It listens on 127.0.0.1 on a port that
the system chooses and wants a key that only this worker's node knows, so that no other user of the
machine can talk to a tenant's model. The node then speaks HTTP with it like with any upstream.

Rules: a chat needs a template, in the file or in the options; llama.cpp would silently assume one
that the model has never seen, so that is refused. The process ends with its node.
"""

from __future__ import annotations

import mmap
import struct
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from isochrone.engines.options import LlamaOptions, check_options
from isochrone.engines.worker_frames import Failed, Kind, Load, Ready
from isochrone.engines.worker_pipe import Pipe
from isochrone.schema.errors import InvalidInput, IsochroneError

#: llama.cpp's log levels: 1 is errors only.
_LOG_ERRORS = 1

_TEMPLATE_KEY = b"tokenizer.chat_template"


def check_gguf(path: Path, options: LlamaOptions) -> None:
    """Raises ``InvalidInput`` when the file is missing, no GGUF, or cannot chat and should."""
    try:
        with path.open("rb") as opened:
            if opened.read(4) != b"GGUF":
                raise InvalidInput(
                    f"{path.name} is not a GGUF file.", fix="Convert the model with llama.cpp."
                )
            with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
                key = struct.pack("<Q", len(_TEMPLATE_KEY)) + _TEMPLATE_KEY
                has_template = content.find(key) >= 0
    except OSError as error:
        raise InvalidInput(
            f"Model file {path.name} cannot be read: {error.strerror}.",
            fix="Apply the model again.",
        ) from error
    if options.task == "chat" and not (has_template or options.chat_template):
        raise InvalidInput(
            f"{path.name} carries no chat template: it was not trained to chat.",
            fix="Declare the task completions, or set the option chat_template.",
        )


def start_server(path: Path, options: LlamaOptions, key: str) -> tuple[object, int, str]:
    """The server, its port and the device it runs on. Keep the server: it ends with its object.

    Raises ``InvalidInput`` when llama.cpp is not installed or refuses the model.
    """
    try:
        import xllamacpp
    except ImportError as error:
        raise InvalidInput(
            "The llama.cpp engine is not installed on this node.",
            fix="Run: pip install 'isochrone[llm]'.",
        ) from error
    settings = xllamacpp.CommonParams()
    settings.model.path = str(path)
    settings.model_alias = {options.name}
    settings.hostnames, settings.port = ["127.0.0.1"], 0
    settings.api_keys = [key]
    settings.n_ctx, settings.n_parallel = options.context_tokens, options.concurrency
    settings.n_gpu_layers = options.gpu_layers
    settings.verbosity, settings.ui = _LOG_ERRORS, False
    settings.endpoint_slots = False
    if options.threads:
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = options.threads
    if options.chat_template:
        settings.use_jinja, settings.chat_template = True, options.chat_template
    try:
        server = xllamacpp.Server(settings)
    except RuntimeError as error:
        raise InvalidInput(
            f"llama.cpp refuses {path.name}: {error}",
            fix="It may be damaged, newer than this llama.cpp, or larger than the memory.",
        ) from error
    kinds = {info["type"].name for info in xllamacpp.get_device_info()}
    gpu = options.gpu_layers != 0 and any(kind.endswith("_GPU") for kind in kinds)
    port = urlsplit(server.listening_address).port or 0
    return server, port, "gpu" if gpu else "cpu"


def main() -> None:
    """Serve the node at the other end of the socket whose descriptor is the argument."""
    pipe = Pipe.inherited(int(sys.argv[1]))
    try:
        # The server ends with its object: hold it.
        _server, ready = _load(pipe.read_load())
        pipe.write(Kind.READY, 0, ready, [])
        while True:
            list(pipe.read())
    except IsochroneError as error:
        pipe.write(Kind.FAILED, 0, Failed(error.code, error.message, error.fix), [])
    except EOFError:
        return


def _load(load: Load) -> tuple[object, Ready]:
    key = str(load.options["key"])
    known = {name: value for name, value in load.options.items() if name != "key"}
    options = check_options(known, LlamaOptions)
    path = Path(load.files["model"])
    check_gguf(path, options)
    started = time.perf_counter()
    server, port, device = start_server(path, options, key)
    load_ms = (time.perf_counter() - started) * 1000
    metadata: dict[str, object] = {
        "name": options.name,
        "versions": ["1"],
        "platform": "llamacpp",
        "inputs": [],
        "outputs": [],
    }
    # llama.cpp warms itself while it loads.
    return server, Ready(metadata, device, load_ms, 0.0, {"port": port})


if __name__ == "__main__":
    main()
