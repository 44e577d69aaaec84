"""A gateway's TLS certificate: self-signed, ECDSA P-256, kept on disk, known by its fingerprint.

No authority signs it and no name in it is checked: a dialler knows the fingerprint from the
presence digest or the grant's door, both of which came to it authenticated.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import ssl
from pathlib import Path
from typing import Final

import msgspec

from isochrone.schema.errors import Unavailable

_CERT_FILE: Final = "channel-cert.pem"
_KEY_FILE: Final = "channel-key.pem"
# Nobody checks the dates (the pin is the trust); TLS libraries only want them to be there.
_NOT_BEFORE: Final = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER: Final = datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC)


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """Files and the pin: lower-case hex SHA-256 of the certificate's DER bytes."""

    cert_path: Path
    key_path: Path
    fingerprint: str


def make_certificate(directory: Path) -> Certificate:
    """The certificate kept in ``directory``, made when there is none (key file mode 0600).

    Raises Unavailable when the files cannot be read or written.
    """
    cert_path, key_path = directory / _CERT_FILE, directory / _KEY_FILE
    try:
        if not (cert_path.exists() and key_path.exists()):
            directory.mkdir(parents=True, exist_ok=True)
            _create(cert_path, key_path)
        der = ssl.PEM_cert_to_DER_cert(cert_path.read_text())
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"The channel's certificate in {directory} cannot be used: {error}.",
            fix=f"Make the directory writable, or move {_CERT_FILE} and {_KEY_FILE} away.",
            code="no_certificate",
        ) from None
    return Certificate(
        cert_path=cert_path, key_path=key_path, fingerprint=hashlib.sha256(der).hexdigest()
    )


def _create(cert_path: Path, key_path: Path) -> None:
    # Imported here: 30 ms and 8 MB that only a process without a certificate pays, once.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "isochrone channel")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _replace(key_path, secret)
    _replace(cert_path, certificate.public_bytes(serialization.Encoding.PEM))


def _replace(path: Path, data: bytes) -> None:
    """Write a private file whole or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
