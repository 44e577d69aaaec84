"""The two servers that ``bench.gateway`` compares with, each in a process of its own.

``python -m bench.byte_path_servers upstream READY`` and ``... proxy URL READY``: each writes its
port to the file READY and serves until it is ended.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

ANSWER_BODY = json.dumps(
    {
        "model_name": "bench",
        "model_version": "1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 160], "data": [0.25] * 160}],
    }
).encode()


def run_upstream(ready: Path) -> None:
    """The upstream: an OIP server with one fixed answer, on the project's HTTP server."""
    import uvloop

    from isochrone.wire.http_server import Exchange, Limits, serve

    headers = [("content-type", "application/json")]
    about = json.dumps({"name": "bench", "versions": ["1"], "platform": "fixed"}).encode()

    def app(exchange: Exchange) -> None:
        if exchange.method == "POST":
            exchange.read_body(lambda _body: exchange.respond(200, headers, ANSWER_BODY))
        else:
            exchange.respond(200, headers, about)

    async def main() -> None:
        server = await serve(
            app, "127.0.0.1", 0, Limits(), on_bad_request=lambda _path, e: (e.status, [], b"")
        )
        ready.write_text(str(server.port))
        await asyncio.Event().wait()

    uvloop.run(main())


def run_proxy(upstream: str, ready: Path) -> None:
    """The proxy to compare with: uvicorn and aiohttp, as one would write it by hand."""
    import socket

    import aiohttp
    import uvicorn

    session: aiohttp.ClientSession | None = None

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        nonlocal session
        if scope["type"] != "http":
            return
        if session is None:
            session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {"content-type": "application/json"}
        async with session.post(upstream + scope["path"], data=body, headers=headers) as answer:
            data = await answer.read()
            kind = answer.headers["content-type"].encode()
            await send(
                {
                    "type": "http.response.start",
                    "status": answer.status,
                    "headers": [(b"content-type", kind)],
                }
            )
            await send({"type": "http.response.body", "body": data})

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(1024)
    ready.write_text(str(listening.getsockname()[1]))
    config = uvicorn.Config(
        app, log_level="error", access_log=False, loop="uvloop", http="httptools"
    )
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    if sys.argv[1] == "upstream":
        run_upstream(Path(sys.argv[2]))
    else:
        run_proxy(sys.argv[2], Path(sys.argv[3]))
