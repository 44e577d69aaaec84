"""Ports: kept between starts, chosen anew when taken, never replaced when a person chose them."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from isochrone.cell.ports import Ports, free_ports, free_run, is_free
from isochrone.schema.errors import InvalidInput, Unavailable

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


def test_ports_come_from_the_range_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOCHRONE_PORTS", "30100-30119")
    assert set(free_ports(3)) <= set(range(30_100, 30_120))
    run = free_run(3)
    assert run == list(range(run[0], run[0] + 3))
    assert 30_100 <= run[0] <= 30_119


@pytest.mark.parametrize("told", ["8080", "9-", "x-y", "300-200", "0-9", "65000-70000"])
def test_a_range_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    monkeypatch.setenv("ISOCHRONE_PORTS", told)
    with pytest.raises(InvalidInput, match="no range of ports"):
        free_ports(1)
