"""Both event loops that the project runs on, and what many tests of the byte path need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from isochrone.wire.certificate import Certificate, make_certificate
from isochrone.wire.channel import Channel, ChannelHandler, ChannelLimits
from isochrone.wire.http_server import App, HttpServer, Limits, serve

from .doubles import Meeting, Talker, plain_refusal


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Everything async in this directory runs on both loops."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    directory: Path = tmp_path_factory.mktemp("certificate")
    return make_certificate(directory)


@pytest.fixture
async def http() -> AsyncIterator[Callable[..., object]]:
    """``await http(app, **limits)`` → a running HttpServer, closed at the end."""
    servers: list[HttpServer] = []

    async def start(app: App, **limits: object) -> HttpServer:
        server = await serve(
            app,
            "127.0.0.1",
            0,
            Limits(**limits),  # type: ignore[arg-type]
            on_bad_request=plain_refusal,
        )
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.close()


@pytest.fixture
async def meet(certificate: Certificate) -> AsyncIterator[Callable[..., object]]:
    """``await meet(acceptor=…, dialler=…, limits=…)`` → a Meeting over real TLS."""
    meetings: list[Meeting] = []

    async def start(
        acceptor: Callable[[Channel], ChannelHandler],
        dialler: Callable[[Channel], ChannelHandler] | None = None,
        limits: ChannelLimits | None = None,
    ) -> Meeting:
        meeting = await Meeting.begin(certificate, acceptor, dialler, limits or ChannelLimits())
        meetings.append(meeting)
        return meeting

    yield start
    for meeting in meetings:
        await meeting.end()


@pytest.fixture
async def talk() -> AsyncIterator[Callable[[int], Awaitable[Talker]]]:
    """``await talk(port)`` → a raw client, hung up at the end."""
    talkers: list[Talker] = []

    async def start(port: int) -> Talker:
        talkers.append(await Talker.to(port))
        return talkers[-1]

    yield start
    for talker in talkers:
        await talker.hang_up()
