"""The configuration file and the papers: what is wrong is said, with what to do."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from isochrone.node.config import read_config, read_key, read_papers
from isochrone.schema.documents import NODE_GRANT, pack, seal
from isochrone.schema.errors import InvalidInput
from isochrone.schema.identity import PrivateKey

from .test_hardware import config, grant


def write(folder: Path, **changes: object) -> Path:
    path = folder / "config.json"
    path.write_bytes(msgspec.json.encode(config(**changes)))
    return path


def test_a_written_configuration_is_read_back(tmp_path: Path) -> None:
    path = write(tmp_path, resolve={"gw:7000": "127.0.0.1:9000"})
    read = read_config(path)
    assert read.dial_address("gw", 7000) == ("127.0.0.1", 9000)
    assert read.dial_address("gw", 7001) == ("gw", 7001)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{", "wrong"),
        (b'{"key_path": "k"}', "missing required field"),
        (b'{"nonsense": 1}', "unknown field"),
    ],
)
def test_a_wrong_configuration_is_refused_with_the_field(
    tmp_path: Path, text: bytes, said: str
) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text)
    with pytest.raises(InvalidInput) as caught:
        read_config(path)
    assert said in caught.value.message


def test_a_missing_configuration_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_config(tmp_path / "absent.json")
    assert "isochrone join" in caught.value.fix


def test_a_resolve_entry_that_is_no_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="resolve"):
        read_config(write(tmp_path, resolve={"gw:7000": "nowhere"}))


def test_papers_must_be_for_this_key(tmp_path: Path) -> None:
    node, provider = PrivateKey.generate(), PrivateKey.generate()
    signed = seal(NODE_GRANT, msgspec.structs.replace(grant(), node=node.address), provider)
    (tmp_path / "grant").write_bytes(pack(signed))
    settings = config(grant_path=str(tmp_path / "grant"), key_path=str(tmp_path / "absent"))
    assert read_papers(settings, node).provider == provider.address
    with pytest.raises(InvalidInput, match="is for node"):
        read_papers(settings, provider)
    with pytest.raises(InvalidInput) as caught:
        read_key(settings)
    assert "isochrone join" in caught.value.fix


def test_a_damaged_grant_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "grant").write_bytes(b"not a document")
    with pytest.raises(InvalidInput) as caught:
        read_papers(config(grant_path=str(tmp_path / "grant")), PrivateKey.generate())
    assert "isochrone join" in caught.value.fix
