"""Identities: known addresses, key files, and signatures that must not be taken."""

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.schema.errors import InvalidInput, Unauthorized
from isochrone.schema.identity import PrivateKey, is_address, keccak256, recover

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
secrets = st.integers(1, ORDER - 1).map(lambda number: number.to_bytes(32, "big"))


def test_addresses_are_ethereums() -> None:
    """The address of the secret 1, as every Ethereum wallet shows it."""
    key = PrivateKey(bytes(31) + b"\x01")
    assert key.address == "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"
    assert is_address(key.address)


def test_keccak_is_not_sha3() -> None:
    empty = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak256(b"").hex() == empty


@given(secrets, st.binary(min_size=32, max_size=32))
def test_a_signature_names_its_signer(secret: bytes, digest: bytes) -> None:
    key = PrivateKey(secret)
    signature = key.sign(digest)
    assert recover(digest, signature) == key.address
    assert key.sign(digest) == signature


@given(secrets, st.binary(min_size=32, max_size=32))
def test_the_malleable_copy_of_a_signature_is_refused(secret: bytes, digest: bytes) -> None:
    signature = PrivateKey(secret).sign(digest)
    mirrored = (ORDER - int.from_bytes(signature[32:64], "big")).to_bytes(32, "big")
    with pytest.raises(Unauthorized, match="malleable"):
        recover(digest, signature[:32] + mirrored + bytes([signature[64] ^ 1]))


@pytest.mark.parametrize("length", [0, 64, 66])
def test_a_signature_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(Unauthorized):
        recover(bytes(32), bytes(length))


def test_a_key_shows_its_address_and_never_its_secret() -> None:
    key = PrivateKey(b"\x07" * 32)
    assert key.address in repr(key)
    assert key.secret.hex() not in repr(key)


@pytest.mark.parametrize("secret", [b"", bytes(32), b"\xff" * 32, bytes(33)])
def test_what_is_no_secret_is_refused(secret: bytes) -> None:
    with pytest.raises(InvalidInput):
        PrivateKey(secret)


def test_a_key_file_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "key"
    first = PrivateKey.load_or_create(path)
    assert PrivateKey.load_or_create(path).address == first.address
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_another_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("my diary")
    with pytest.raises(InvalidInput, match="not a key file"):
        PrivateKey.load_or_create(path)
    assert path.read_text() == "my diary"


@pytest.mark.parametrize("text", ["", "0x", "0x" + "G" * 40, "0X" + "a" * 40, "0x" + "A" * 40])
def test_what_is_no_address(text: str) -> None:
    assert not is_address(text)
