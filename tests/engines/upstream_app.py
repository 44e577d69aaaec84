"""A small real server that speaks both APIs: ``python upstream_app.py FD``, run by uvicorn.

What it answers depends on the prompt; ``GET /seen`` tells what reached it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from typing import Any

import uvicorn

SEEN: dict[str, Any] = {"requests": [], "gone": 0, "streaming": 0}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


async def app(scope: Any, receive: Any, send: Any) -> None:
    path = scope["path"]
    body = b""
    while (message := await receive()).get("more_body") or message.get("body"):
        body += message["body"]
        if not message.get("more_body"):
            break
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    if path == "/seen":
        return await answer(send, 200, SEEN)
    SEEN["requests"].append(
        {"path": path, "headers": headers, "body": body.decode(errors="replace")}
    )
    if path == "/v1/models":
        return await answer(send, 200, {"object": "list", "data": [{"id": "llama"}]})
    if path == "/v2/models/resnet":
        return await answer(send, 200, {"name": "resnet", "versions": ["3"], "inputs": []})
    if path == "/v2/models/resnet/infer":
        length = headers["inference-header-content-length"]
        extra = [("inference-header-content-length", length), ("set-cookie", "a=b")]
        return await raw(send, 200, body, "application/octet-stream", extra)
    if path in ("/v1/completions", "/v1/chat/completions", "/v1/embeddings"):
        return await complete(json.loads(body), receive, send)
    return await answer(send, 404, {"error": {"message": f"nothing at {path}"}})


async def complete(asked: dict[str, Any], receive: Any, send: Any) -> None:
    prompt = str(asked.get("prompt", ""))
    if prompt.startswith("status "):
        status = int(prompt.split()[1])
        return await answer(send, status, {"error": {"message": f"as asked: {status}"}})
    if not asked.get("stream"):
        return await answer(send, 200, {"model": asked["model"], "usage": USAGE})
    pieces = 10_000 if prompt == "endless" else 3
    head = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    SEEN["streaming"] += 1
    gone = asyncio.ensure_future(receive())
    for number in range(pieces):
        event = f"data: {json.dumps({'piece': number, 'pad': 'x' * 200})}\n\n".encode()
        await send({"type": "http.response.body", "body": event, "more_body": True})
        await asyncio.sleep(0.002)
        if gone.done():
            SEEN["gone"] += 1
            return
        if prompt == "cut" and number == 1:
            raise RuntimeError("cut in the middle, as asked")
    gone.cancel()
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


async def answer(send: Any, status: int, document: Any) -> None:
    await raw(send, status, json.dumps(document).encode(), "application/json", [])


async def raw(send: Any, status: int, body: bytes, kind: str, extra: list[Any]) -> None:
    given = [("content-type", kind), ("content-length", str(len(body))), *extra]
    headers = [(name.encode(), value.encode()) for name, value in given]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    config = uvicorn.Config(app, log_level="critical", lifespan="off", access_log=False)
    asyncio.run(uvicorn.Server(config).serve([socket.socket(fileno=int(sys.argv[1]))]))
