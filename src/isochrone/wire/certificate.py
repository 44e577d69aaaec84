"""A gateway's TLS certificate: self-signed, ECDSA P-256, kept on disk, known by its fingerprint."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """Files and the pin: lower-case hex SHA-256 of the certificate's DER bytes."""

    cert_path: Path
    key_path: Path
    fingerprint: str


def make_certificate(directory: Path) -> Certificate:
    """The certificate kept in ``directory``, made when there is none (key file mode 0600).

    Raises Unavailable when the files cannot be read or written.
    """
    raise NotImplementedError
