"""The process that hosts emulated links: ``python -m isochrone.lab.links CONFIG.json``.

One process holds every link of a world, so that distances cost one process instead of one per
pair. It reads a ``LinksConfig``, listens, writes the ready file, and obeys control requests (see
``link_messages``) until SIGTERM, SIGINT, or the end of its standard input when so configured.

It knows nothing of cities: names and round trips are given (``lab.world`` makes them).
"""

from __future__ import annotations

import asyncio
import gc
import hmac
import json
import os
import secrets
import signal
import sys
from pathlib import Path

import msgspec

from isochrone.lab.link_messages import (
    Add,
    Cut,
    LinksConfig,
    LinkSpec,
    List,
    Ready,
    Remove,
    Reply,
    Request,
    Restore,
    Set,
)
from isochrone.lab.link_relay import Link
from isochrone.lab.timers import PreciseLoop, new_loop
from isochrone.schema.digests import decode
from isochrone.schema.errors import Conflict, InvalidInput, IsochroneError, NotFound

RTT_MS_MAX = 60_000.0
"""Longest emulated round trip: a minute; anything longer is a typing error or a cut."""

LINE_BYTES_MAX = 1 << 20
"""Longest control request: a thousand names fit."""

COLLECT_EVERY = 50_000
"""Allocations between garbage collections: there is little garbage, and pauses cost accuracy."""


class LinkHost:
    """All links of a process by name, and what can be asked of them."""

    def __init__(self, loop: PreciseLoop) -> None:
        self.loop = loop
        self.links: dict[str, Link] = {}

    async def add(self, spec: LinkSpec) -> int:
        """Start a link; returns its port.

        Raises InvalidInput for values out of range, Conflict for a name or port in use.
        """
        _check(spec)
        if spec.name in self.links:
            raise Conflict(f"There is a link named {spec.name} already.", fix="Remove it first.")
        link = Link(spec, self.loop)
        port = await link.start()
        self.links[spec.name] = link
        return port

    def link(self, name: str) -> Link:
        """The link of that name; raises NotFound."""
        if name not in self.links:
            raise NotFound(f"There is no link named {name[:80]!r}.", fix="Ask for the list.")
        return self.links[name]

    async def obey(self, request: Request) -> Reply:
        """Carry out one control request; nothing is half-done when it raises."""
        match request:
            case List():
                return Reply(links=tuple(link.report() for link in self.links.values()))
            case Add(link=spec):
                return Reply(port=await self.add(spec))
            case Set():
                self._set(request)
            case Cut(names=names, how=how, way=way):
                for link in [self.link(name) for name in names]:
                    link.set_cut(how, way)
            case Restore(names=names):
                for link in [self.link(name) for name in names]:
                    link.restore()
            case Remove(name=name):
                self.link(name).stop()
                del self.links[name]
        return Reply()

    def _set(self, request: Set) -> None:
        link = self.link(request.name)
        if request.rtt_ms is not None:
            _check_rtt(request.rtt_ms)
        if request.target_port is not None:
            _check_port(request.target_port)
            link.target_port = request.target_port
        if request.rtt_ms is not None:
            link.set_rtt(request.rtt_ms)

    def stop(self) -> None:
        """Stop every link."""
        for link in self.links.values():
            link.stop()


class _Control:
    """The control port: authenticates, reads a request a line, writes a reply a line."""

    def __init__(self, host: LinkHost, token: str) -> None:
        self.host = host
        self.token = token
        self.writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        try:
            hello = await reader.readline()
            if not hmac.compare_digest(hello.strip(), self.token.encode()):
                return
            while line := await reader.readline():
                writer.write(msgspec.json.encode(await self._answer(line)) + b"\n")
                await writer.drain()
        except (OSError, ValueError):
            pass  # the caller went away, or sent a line beyond the limit: hang up
        except asyncio.CancelledError:
            pass  # the process ends; Python 3.11 tells of cancelled handlers as if they had failed
        finally:
            self.writers.discard(writer)
            writer.close()

    async def _answer(self, line: bytes) -> Reply:
        try:
            # mypy cannot see that a union of structs is a type msgspec decodes
            request: Request = decode(line, Request, "request")  # type: ignore[arg-type]
            return await self.host.obey(request)
        except IsochroneError as error:
            return Reply(error=error.sentence())


def _check(spec: LinkSpec) -> None:
    _check_rtt(spec.rtt_ms)
    for port in (spec.target_port, spec.listen_port):
        _check_port(port)
    if spec.window_bytes < 1:
        raise InvalidInput(f"Link {spec.name}: window_bytes must be at least 1.")
    if spec.bytes_per_s is not None and not spec.bytes_per_s > 0:
        raise InvalidInput(f"Link {spec.name}: bytes_per_s must be above 0.")


def _check_rtt(rtt_ms: float) -> None:
    if not 0 <= rtt_ms <= RTT_MS_MAX:
        raise InvalidInput(f"A round trip of {rtt_ms} ms is not between 0 and {RTT_MS_MAX:.0f}.")


def _check_port(port: int) -> None:
    if not 0 <= port <= 65_535:
        raise InvalidInput(f"{port} is not a port.", fix="Ports are 0-65535.")


def raise_file_limit() -> None:
    """Allow as many sockets as the system lets us have (the soft limit is often 1,024)."""
    try:
        import resource
    except ImportError:  # pragma: no cover - no such limit outside Unix
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def run(config: LinksConfig) -> None:
    """Host the links until told to stop. Raises an IsochroneError if one cannot listen."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, PreciseLoop)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    host = LinkHost(loop)
    control = _Control(host, secrets.token_hex(16))
    server = await asyncio.start_server(control.serve, "127.0.0.1", 0, limit=LINE_BYTES_MAX)
    try:
        for spec in config.links:
            await host.add(spec)
        if config.exit_with_stdin:
            _watch_stdin(loop, stopping)
        _write_ready(Path(config.ready_path), host, control, server)
        gc.freeze()
        gc.set_threshold(COLLECT_EVERY)
        await stopping.wait()
    finally:
        server.close()
        host.stop()
        for writer in control.writers:
            writer.close()
        await asyncio.sleep(0)  # lets the transports close their sockets


def _watch_stdin(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    def readable() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            stopping.set()

    loop.add_reader(0, readable)


def _write_ready(path: Path, host: LinkHost, control: _Control, server: asyncio.Server) -> None:
    address = server.sockets[0].getsockname()
    ready = Ready(
        pid=os.getpid(),
        control_host=address[0],
        control_port=address[1],
        token=control.token,
        ports={name: link.port for name, link in host.links.items()},
    )
    partial = path.with_name(path.name + ".partial")
    partial.touch(mode=0o600)
    partial.write_bytes(msgspec.json.encode(ready))
    partial.replace(path)


def main(arguments: list[str]) -> int:
    """Run the process; returns its exit status."""
    if len(arguments) != 1:
        print("usage: python -m isochrone.lab.links CONFIG.json", file=sys.stderr)
        return 2
    try:
        config = decode(Path(arguments[0]).read_bytes(), LinksConfig, "links configuration")
        raise_file_limit()
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(run(config))
    except IsochroneError as error:
        print(json.dumps({"error": error.code, "message": error.sentence()}), file=sys.stderr)
        return 1
    except OSError as error:
        print(json.dumps({"error": "os", "message": str(error)}), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
