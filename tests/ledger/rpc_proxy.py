"""A JSON-RPC server in front of anvil that drops, lags, lies and forgets, as it is told."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Alter = Callable[[list[Any], Any], Any]


class Unanswered(Exception):
    """Raised by a fault: the connection is closed without an answer."""


class Refused(Exception):
    """Raised by a fault: an error answer with this text."""


class RpcProxy:
    """``faults``: by method, what becomes of parameters and the true result.

    ``swallow``: methods that are answered as if they had been done, and are not forwarded.
    ``down``: no call is answered. ``calls``: methods asked for, in order.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.faults: dict[str, Alter] = {}
        self.swallow: dict[str, Callable[[list[Any]], Any]] = {}
        self.down = False
        self.calls: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                try:
                    answer = proxy.answer(body)
                except Unanswered:
                    self.close_connection = True
                    return
                raw = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        method, params = body["method"], body["params"]
        self.calls.append(method)
        if self.down:
            raise Unanswered
        head = {"jsonrpc": "2.0", "id": body["id"]}
        if method in self.swallow:
            return head | {"result": self.swallow[method](params)}
        answer = self._forward(body)
        if method in self.faults and "result" in answer:
            try:
                answer["result"] = self.faults[method](params, answer["result"])
            except Refused as refusal:
                return head | {"error": {"code": -32000, "message": str(refusal)}}
        return answer

    def _forward(self, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            self.upstream, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.load(reply)

    def honest(self) -> None:
        """From now on it only forwards."""
        self.faults.clear()
        self.swallow.clear()
        self.down = False

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
