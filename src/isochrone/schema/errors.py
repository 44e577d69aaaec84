"""Every error the network tells anybody about: whose fault, which code, what to do next.

Two families under one root. ``TheirFault`` is caused by the other side (a client, a tenant, a
node, a peer): it is answered, counted against them, and disturbs nobody else. ``OurFault`` is
ours: answered too, and worth an operator's attention. Each error has a stable ``code`` (for
programs), an HTTP ``status``, a ``retry`` hint (where the same request may be tried again), a
``message`` (what happened) and a ``fix`` (what to do next). Foreign exceptions are mapped to one
of these once, at the adapter that meets them.
"""

from __future__ import annotations

from typing import Literal

Retry = Literal["here", "elsewhere", "never"]


class IsochroneError(Exception):
    """Root of all errors of the project; never raised itself.

    ``code``: stable, lower-case words joined by ``_``. ``status``: HTTP status, 400-599.
    ``retry``: ``here`` (same place, later), ``elsewhere`` (another replica or gateway) or
    ``never`` (the request itself must change). ``fix`` may be empty when the message says all.
    ``retry_after_s``: whole seconds after which it is worth while; 0: nothing is known of that.
    """

    code: str = "internal"
    status: int = 500
    retry: Retry = "never"
    retry_after_s: int = 0

    def __init__(
        self,
        message: str,
        *,
        fix: str = "",
        code: str | None = None,
        status: int | None = None,
        retry: Retry | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status
        if retry is not None:
            self.retry = retry

    def sentence(self) -> str:
        """What a person reads: what happened, then what to do."""
        return f"{self.message} {self.fix}".strip()


class OurFault(IsochroneError):
    """Something of ours failed."""


class TheirFault(IsochroneError):
    """The other side did something it must change."""

    code = "bad_request"
    status = 400


class InvalidInput(TheirFault):
    """A document, body, frame or argument that cannot be understood or is out of range."""

    code = "invalid_input"


class Unauthorized(TheirFault):
    """No key, an unknown key, or a signature that does not match."""

    code = "unauthorized"
    status = 401


class Forbidden(TheirFault):
    """A valid key that may not do this."""

    code = "forbidden"
    status = 403


class NotFound(TheirFault):
    """A name that nothing here has."""

    code = "not_found"
    status = 404


class Conflict(TheirFault):
    """A compare-and-set lost: somebody wrote a newer revision. Read again and plan anew."""

    code = "conflict"
    status = 409
    retry: Retry = "here"


class Stale(TheirFault):
    """An order from an epoch or revision that has been superseded (fencing)."""

    code = "stale"
    status = 409


class TooLarge(TheirFault):
    """Beyond a stated limit."""

    code = "too_large"
    status = 413


class Misdirected(TheirFault):
    """This place may not serve the request (residency); the fix names a legal one."""

    code = "misdirected"
    status = 421
    retry: Retry = "elsewhere"


class Overloaded(OurFault):
    """No capacity now; ``Retry-After`` says when."""

    code = "overloaded"
    status = 503
    retry: Retry = "elsewhere"


class Unavailable(OurFault):
    """A part that is needed does not answer (node lost, engine down, fabric away)."""

    code = "unavailable"
    status = 503
    retry: Retry = "elsewhere"


class Timeout(OurFault):
    """A stated deadline passed."""

    code = "timeout"
    status = 504
    retry: Retry = "elsewhere"
