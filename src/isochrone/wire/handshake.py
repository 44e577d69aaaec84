"""The greeting as two pure machines: a frame in, what to say out, or whose fault it is.

``Acceptor`` (the side that was dialled) and ``Dialler``. Neither reads a clock or a socket; the
nonce is an argument. What the proof binds together: this protocol, the acceptor's fresh nonce (a
recorded Hello is worthless), the TLS certificate (a man in the middle would have another), role
and version (nobody can be talked into an older one).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from isochrone.schema.digests import UNREADABLE
from isochrone.schema.errors import (
    InvalidInput,
    IsochroneError,
    TheirFault,
    Unauthorized,
    Unavailable,
)
from isochrone.schema.frames import (
    CHANNEL_VERSIONS,
    Challenge,
    Hello,
    Refused,
    Welcome,
    pack,
    unpack_challenge,
    unpack_greeting_answer,
    unpack_hello,
)
from isochrone.schema.identity import PrivateKey, recover
from isochrone.wire import frames

Role = Literal["node", "gateway"]

Authorise = Callable[[Hello], tuple[object, Welcome]]
"""Who may come in: (what becomes ``Channel.peer.info``, the Welcome to send); its ``version`` is
filled in. Raises an IsochroneError to refuse. The proof has been checked before."""

NONCE_BYTES: Final = 32
_DOMAIN: Final = b"isochrone channel v1"


def proof_digest(nonce: bytes, fingerprint: str, role: str, version: int) -> bytes:
    """What the dialler signs; ``fingerprint`` in hex. The role is the only part of open length."""
    parts = (nonce, bytes.fromhex(fingerprint), role.encode(), version.to_bytes(4, "big"))
    return hashlib.sha256(_DOMAIN + b"".join(parts)).digest()


class Acceptor:
    """The side that was dialled: one challenge, one Hello, one verdict."""

    def __init__(
        self, nonce: bytes, fingerprint: str, gateway: str, cell: str, authorise: Authorise
    ) -> None:
        self._nonce = nonce
        self._fingerprint = fingerprint
        self._gateway = gateway
        self._cell = cell
        self._authorise = authorise

    def challenge(self) -> bytes:
        """The first frame."""
        message = Challenge(
            versions=CHANNEL_VERSIONS, nonce=self._nonce, gateway=self._gateway, cell=self._cell
        )
        return frames.frame(frames.CHALLENGE, pack(message))

    def receive(self, found: list[frames.Frame]) -> tuple[Hello, object, bytes]:
        """The Hello, what ``authorise`` knows of its sender, and the Welcome's frame.

        Raises: InvalidInput ``bad_frame`` (anything but one Hello), Unauthorized ``bad_proof``
        (wrong key, replay, other certificate), TheirFault ``no_common_version``, or whatever
        ``authorise`` raises.
        """
        if len(found) != 1 or found[0][0] != frames.HELLO:
            raise InvalidInput("Only a hello may come before the welcome.", code="bad_frame")
        try:
            hello = unpack_hello(found[0][3])
        except UNREADABLE as error:
            raise InvalidInput(f"Not a hello: {error}.", code="bad_frame") from None
        if hello.version not in CHANNEL_VERSIONS:
            raise TheirFault(
                f"Version {hello.version} of the channel is not spoken here.",
                fix=f"Spoken are {', '.join(map(str, CHANNEL_VERSIONS))}; upgrade the older side.",
                code="no_common_version",
            )
        digest = proof_digest(self._nonce, self._fingerprint, hello.role, hello.version)
        if recover(digest, hello.proof) != hello.address:
            raise Unauthorized(
                "The proof does not belong to the address it names.",
                fix="Sign this greeting's challenge with the address's own key.",
                code="bad_proof",
            )
        info, welcome = self._authorise(hello)
        welcome = msgspec.structs.replace(welcome, version=hello.version)
        return hello, info, frames.frame(frames.WELCOME, pack(welcome))


def refusal(error: IsochroneError) -> bytes:
    """The frame that tells the dialler why."""
    message = Refused(code=error.code, message=error.sentence()[:1000])
    return frames.frame(frames.REFUSED, pack(message))


class Dialler:
    """The side that dials: answers the challenge, then waits for the verdict."""

    def __init__(self, key: PrivateKey, role: Role, grant: bytes, fingerprint: str) -> None:
        self._key = key
        self._role: Role = role
        self._grant = grant
        self._fingerprint = fingerprint
        self._version = 0

    def receive(self, frame: frames.Frame) -> bytes | Welcome:
        """What to send next, or the Welcome.

        Raises Unauthorized (refused; the code is the acceptor's), Unavailable
        ``no_common_version``, or InvalidInput ``bad_frame``.
        """
        kind, _, _, payload = frame
        try:
            if kind == frames.CHALLENGE and not self._version:
                return self._answer(unpack_challenge(payload))
            if kind in (frames.WELCOME, frames.REFUSED):
                return self._verdict(kind, unpack_greeting_answer(payload))
        except UNREADABLE as error:
            raise InvalidInput(f"The other side's greeting: {error}.", code="bad_frame") from None
        raise InvalidInput("The other side does not greet as it should.", code="bad_frame")

    def _answer(self, challenge: Challenge) -> bytes:
        common = set(challenge.versions) & set(CHANNEL_VERSIONS)
        if not common or len(challenge.nonce) != NONCE_BYTES:
            raise Unavailable(
                "The gateway speaks no version of the channel that this program knows.",
                fix="Upgrade the older side.",
                code="no_common_version",
            )
        self._version = max(common)
        digest = proof_digest(challenge.nonce, self._fingerprint, self._role, self._version)
        hello = Hello(
            version=self._version,
            role=self._role,
            address=self._key.address,
            grant=self._grant,
            proof=self._key.sign(digest),
        )
        return frames.frame(frames.HELLO, pack(hello))

    def _verdict(self, kind: int, message: Welcome | Refused) -> Welcome:
        if isinstance(message, Refused):
            raise Unauthorized(
                f"The gateway refused this {self._role}: {message.message}",
                fix="Check the grant and the key, or ask the cell's operator.",
                code=message.code[:64] or "refused",
                retry="elsewhere",
            )
        if kind != frames.WELCOME or not self._version:
            raise InvalidInput("The welcome came too early.", code="bad_frame")
        return message
