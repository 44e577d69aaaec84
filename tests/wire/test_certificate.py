"""The certificate is made once, kept privately, and known by its fingerprint."""

from __future__ import annotations

import hashlib
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from isochrone.schema.errors import Unavailable
from isochrone.wire.certificate import make_certificate


def test_it_is_made_once_and_kept(tmp_path: Path):
    first = make_certificate(tmp_path / "new" / "place")
    assert make_certificate(tmp_path / "new" / "place") == first
    assert make_certificate(tmp_path / "other").fingerprint != first.fingerprint
    der = ssl.PEM_cert_to_DER_cert(first.cert_path.read_text())
    assert first.fingerprint == hashlib.sha256(der).hexdigest()
    assert stat.S_IMODE(first.key_path.stat().st_mode) == 0o600
    assert sorted(p.name for p in first.cert_path.parent.iterdir()) == [
        "channel-cert.pem",
        "channel-key.pem",
    ]


def test_unusable_files_say_what_to_do(tmp_path: Path):
    certificate = make_certificate(tmp_path)
    certificate.cert_path.write_text("not a certificate")
    with pytest.raises(Unavailable) as caught:
        make_certificate(tmp_path)
    assert caught.value.code == "no_certificate"
    assert "move" in caught.value.fix


def test_a_kept_certificate_needs_no_cryptography(tmp_path: Path):
    make_certificate(tmp_path)
    program = (
        "import sys; from pathlib import Path; "
        "from isochrone.wire.certificate import make_certificate; "
        "make_certificate(Path(sys.argv[1])); "
        "sys.exit('cryptography' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=30)
