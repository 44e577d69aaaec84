"""Ports: kept between starts, chosen anew when taken, never replaced when a person chose them."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from isochrone.cell.ports import Ports, is_free
from isochrone.schema.errors import Unavailable

HOST = "127.0.0.1"


def test_a_chosen_port_is_kept(tmp_path: Path) -> None:
    first = Ports(tmp_path).take("http", HOST)
    assert first > 0
    assert Ports(tmp_path).take("http", HOST) == first


def test_a_kept_port_that_somebody_took_is_chosen_anew(tmp_path: Path) -> None:
    port = Ports(tmp_path).take("http", HOST)
    with socket.create_server((HOST, port)):
        assert Ports(tmp_path).take("http", HOST) != port


def test_a_configured_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        assert not is_free(HOST, port)
        with pytest.raises(Unavailable, match=f"Port {port} on {HOST} is in use") as caught:
            Ports(tmp_path).take("gateway HTTP", HOST, port)
    assert "choose another" in caught.value.fix
    assert Ports(tmp_path).take("gateway HTTP", HOST, port) == port


def test_a_damaged_file_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text("{")
    assert Ports(tmp_path).take("http", HOST) > 0
