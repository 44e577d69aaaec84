"""A burst of probes: what both sides agree on, and how its transcript is checked (pure).

Intuition: light needs a millisecond of round trip for 149.896 km, so who answers quickly is near.
A *vantage* asks a *subject* for a burst. The subject draws a secret and commits to it, dials a
plain connection to the vantage, and answers each random nonce with a keyed digest. Afterwards it
opens the secret and signs what it saw; the vantage recomputes every answer.

The wire, in this order: the subject writes the 16 bytes of ``greeting(burst)``; then, as often as
the vantage likes, 16 bytes of nonce come and 16 bytes of ``answer`` go. Who closes ends it. What
the subject writes is made of digests: whoever orders a burst cannot choose a byte of what arrives
at the door that is dialled.

The cheapest lie that this catches: a box near the vantage that passes probes on, or answers them
without the burst's secret: it has to wait for the subject, or guesses 128 bits. The cheapest that
it misses: the subject hands the *secret* to a box near the vantage, which answers in its place
while the subject's key stays far away. So it proves where somebody answers whom the key has
trusted with the secret; it says nothing about where data goes.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from isochrone.schema.documents import unpack, unseal
from isochrone.schema.errors import TheirFault
from isochrone.schema.probing import PROBE_TRANSCRIPT, Transcript

BURST_BYTES: Final = 16
SECRET_BYTES: Final = 32
NONCE_BYTES: Final = 16
ANSWER_BYTES: Final = 16
GREETING_BYTES: Final = 16

PROBES: Final = 16
"""In a burst: the fastest of so many has met neither queue nor scheduler, mostly."""

PROBES_MAX: Final = 64
"""More a subject does not answer for one order."""

BURST_S: Final = 5.0
"""A burst's probes together: 16 of 300 ms, the longest way round the Earth."""

DIAL_S: Final = 5.0
"""From the order to the dialled connection's greeting."""

TRANSCRIPT_BYTES_MAX: Final = 4096
"""Of a packed transcript: some 600 bytes are needed."""

_DOMAIN: Final = b"isochrone probe v1"


class Sample(NamedTuple):
    """One probe: what was sent, what came back, how long that took (ns), by whose clock."""

    nonce: bytes
    answer: bytes
    rtt_ns: int
    kernel: bool


def greeting(burst: bytes) -> bytes:
    """What the subject writes first, 16 bytes; nobody who has not heard the order knows it."""
    return hashlib.sha256(_DOMAIN + burst).digest()[:GREETING_BYTES]


def commitment_of(secret: bytes) -> bytes:
    """SHA-256 of the secret: what the subject says before it sees the first nonce."""
    return hashlib.sha256(secret).digest()


def answer(secret: bytes, nonce: bytes) -> bytes:
    """Keyed BLAKE2b-128 of a nonce (RFC 7693)."""
    return hashlib.blake2b(nonce, digest_size=ANSWER_BYTES, key=secret).digest()


def digest_of(pairs: Iterable[tuple[bytes, bytes]]) -> str:
    """SHA-256 hex over nonces and answers in order: what a transcript signs."""
    digest = hashlib.sha256()
    for nonce, answered in pairs:
        digest.update(nonce)
        digest.update(answered)
    return digest.hexdigest()


def fastest(samples: Sequence[Sample]) -> Sample:
    """The probe that proves the most; ``samples`` holds one at least."""
    return min(samples, key=lambda sample: sample.rtt_ns)


def check_transcript(
    packed: bytes,
    *,
    subject: str,
    vantage: str,
    burst: bytes,
    commitment: bytes,
    samples: Sequence[Sample],
) -> Transcript:
    """The subject's word on a burst, held against what the vantage saw of it.

    ``commitment``: as told before the first nonce. Raises TheirFault ``bad_transcript`` (another
    burst, another signer, other numbers, a secret that does not open the commitment),
    ``wrong_answer`` (an answer that the secret does not give), or what ``unseal`` raises.
    """
    if not packed or len(packed) > TRANSCRIPT_BYTES_MAX:
        raise TheirFault("The subject signed no transcript.", code="bad_transcript")
    said, signer = unseal(unpack(packed), PROBE_TRANSCRIPT, Transcript)
    seen = digest_of((sample.nonce, sample.answer) for sample in samples)
    expected = (subject, vantage, burst.hex(), commitment.hex(), len(samples), seen)
    told = (signer, said.vantage, said.burst, said.commitment, said.probes, said.digest)
    secret = _secret(said.secret)
    if told != expected or commitment_of(secret) != commitment:
        raise TheirFault("The transcript is of another burst.", code="bad_transcript")
    for sample in samples:
        if not hmac.compare_digest(answer(secret, sample.nonce), sample.answer):
            raise TheirFault("A probe was answered wrongly.", code="wrong_answer")
    return said


def _secret(text: str) -> bytes:
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise TheirFault("The transcript opens no secret.", code="bad_transcript")
    return secret
