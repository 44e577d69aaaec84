"""secp256k1 identities: every account, node and gateway is an address that its key proves.

An address is Ethereum's: the last 20 bytes of Keccak-256 of the uncompressed public key, written
``0x`` and 40 lower-case hex digits, so that the same key can hold money on an EVM chain later.
Signatures are 65 bytes ``r || s || v`` (v is 0 or 1), recoverable, over a 32-byte digest.
"""

from __future__ import annotations

import os
from pathlib import Path

from coincurve import PrivateKey as _CoincurveKey
from coincurve import PublicKey as _CoincurvePublicKey

from isochrone.schema.digests import keccak256 as keccak256
from isochrone.schema.errors import InvalidInput, Unauthorized

SIGNATURE_BYTES = 65
# Half of the group order: signatures with a larger s are malleable copies (EIP-2) and are refused.
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


def _address_of(public_key: _CoincurvePublicKey) -> str:
    return "0x" + keccak256(public_key.format(compressed=False)[1:])[-20:].hex()


class PrivateKey:
    """A secp256k1 private key and its address. ``repr`` shows the address only."""

    __slots__ = ("_key", "address")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32:
            raise InvalidInput("A private key has 32 bytes.")
        try:
            self._key = _CoincurveKey(secret)
        except ValueError as error:
            raise InvalidInput("These bytes are not a secp256k1 private key.") from error
        self.address: str = _address_of(self._key.public_key)

    def __repr__(self) -> str:
        return f"PrivateKey({self.address})"

    @property
    def secret(self) -> bytes:
        """The 32 secret bytes, to be written to a key file only."""
        return self._key.secret

    def sign(self, digest32: bytes) -> bytes:
        """Sign a 32-byte digest; returns 65 bytes ``r || s || v``. Deterministic (RFC 6979)."""
        if len(digest32) != 32:
            raise InvalidInput("Only 32-byte digests are signed.")
        return self._key.sign_recoverable(digest32, hasher=None)

    @classmethod
    def generate(cls) -> PrivateKey:
        """A new key from the operating system's randomness."""
        return cls(_CoincurveKey().secret)

    @classmethod
    def load_or_create(cls, path: Path) -> PrivateKey:
        """Read a key file (64 hex digits); create it (mode 0600) when it does not exist.

        Raises InvalidInput for a file that holds something else.
        """
        try:
            text = path.read_text(errors="replace").strip()
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            key = cls.generate()
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(key.secret.hex() + "\n")
            return key
        try:
            return cls(bytes.fromhex(text))
        except ValueError as error:
            raise InvalidInput(
                f"{path} is not a key file.", fix="It must hold 64 hex digits; move it away."
            ) from error


def recover(digest32: bytes, signature: bytes) -> str:
    """The address whose key signed ``digest32``; raises Unauthorized for an invalid signature."""
    if len(signature) != SIGNATURE_BYTES or len(digest32) != 32:
        raise Unauthorized("The signature has the wrong length.")
    if int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        raise Unauthorized("The signature is malleable (high s).")
    try:
        public_key = _CoincurvePublicKey.from_signature_and_message(
            signature, digest32, hasher=None
        )
    except Exception as error:  # coincurve raises bare Exception and ValueError
        raise Unauthorized("The signature is not valid.") from error
    return _address_of(public_key)


def compact(signature: bytes) -> tuple[bytes, bytes]:
    """The form that the contracts take: ``r`` and ``v << 255 | s``, 32 bytes each.

    ``v`` may be 0 or 1, or 27 or 28. Raises InvalidInput for anything but 65 such bytes.
    Source: EIP-2098.
    """
    parity = signature[64] % 27 if len(signature) == SIGNATURE_BYTES else 2
    if parity > 1 or signature[32] >= 0x80:
        raise InvalidInput("The signature has no compact form.")
    return signature[:32], bytes([parity << 7 | signature[32]]) + signature[33:64]


def is_address(text: str) -> bool:
    """Whether ``text`` is ``0x`` and 40 lower-case hex digits."""
    return (
        len(text) == 42 and text.startswith("0x") and all(c in "0123456789abcdef" for c in text[2:])
    )
