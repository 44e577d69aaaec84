"""Whatever is sent, however it is cut up and whatever the lab does meanwhile: the same bytes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.lab.link_control import LinksProcess, start_links
from isochrone.lab.link_messages import LinkSpec

pytestmark = pytest.mark.processes

DEADLINE_S = 15.0

Network = tuple[LinksProcess, socket.socket, int]

actions = st.sampled_from(["", "", "", "slow", "fast", "cut", "restore"])
pieces = st.lists(st.tuples(st.binary(min_size=1, max_size=70_000), actions), max_size=6)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(DEADLINE_S)
        spec = LinkSpec(
            name="link",
            rtt_ms=2.0,
            target_port=server.getsockname()[1],
            window_bytes=20_000,  # small, so that back-pressure takes part
        )
        with start_links([spec], tmp_path_factory.mktemp("links")) as links:
            yield links, server, links.ports["link"]


def _act(links: LinksProcess, action: str) -> None:
    match action:
        case "slow":
            links.control.set("link", rtt_ms=6.0)
        case "fast":
            links.control.set("link", rtt_ms=0.5)
        case "cut":
            links.control.cut(["link"])
        case "restore":
            links.control.restore(["link"])


def _send(peer: socket.socket, content: list[bytes]) -> None:
    for piece in content:
        peer.sendall(piece)
    peer.shutdown(socket.SHUT_WR)


@settings(max_examples=25)
@given(up=pieces, down=pieces)
def test_bytes_and_their_order_are_kept(
    network: Network, up: list[tuple[bytes, str]], down: list[tuple[bytes, str]]
) -> None:
    links, server, port = network
    client = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
    target, _ = server.accept()
    target.settimeout(DEADLINE_S)
    received: dict[str, bytes] = {}

    def read(name: str, peer: socket.socket) -> None:
        parts = []
        while part := peer.recv(1 << 16):
            parts.append(part)
        received[name] = b"".join(parts)

    with client, target:
        threads = [
            threading.Thread(target=read, args=("up", target), daemon=True),
            threading.Thread(target=read, args=("down", client), daemon=True),
            threading.Thread(target=_send, args=(client, [p for p, _ in up]), daemon=True),
            threading.Thread(target=_send, args=(target, [p for p, _ in down]), daemon=True),
        ]
        for thread in threads:
            thread.start()
        for _, action in (*up, *down):
            _act(links, action)
        links.control.restore(["link"])
        for thread in threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive()
    assert received["up"] == b"".join(piece for piece, _ in up)
    assert received["down"] == b"".join(piece for piece, _ in down)
