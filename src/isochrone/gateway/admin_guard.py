"""Who may use the administration API: signed requests, each good once and for a few minutes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection

from isochrone.schema.admin import REQUEST_WINDOW_S, read_authorisation
from isochrone.schema.errors import Forbidden, Overloaded, Unauthorized

NONCES_MAX = 200_000
"""Remembered nonces: 600 s at 300 requests a second; beyond it requests are refused."""

NONCE_BYTES_MIN = 12


class Guard:
    """Checks signed requests. ``tenants`` empty: any account; ``admins`` see everything."""

    def __init__(
        self,
        tenants: Collection[str],
        admins: Collection[str],
        now_unix_s: Callable[[], float],
    ) -> None:
        self._tenants = frozenset(tenants)
        self._admins = frozenset(admins)
        self._now_unix_s = now_unix_s
        self._nonces: OrderedDict[tuple[str, bytes], float] = OrderedDict()

    def signer(self, method: str, target: str, authorization: str | None) -> str:
        """The account that signed this request; raises Unauthorized or Forbidden."""
        request, signer = read_authorisation(authorization or "")
        if request.method != method or request.path != target:
            raise Unauthorized("The signature is for another request.")
        now_s = self._now_unix_s()
        away_s = abs(now_s - request.at_unix_ms / 1000)
        if away_s > REQUEST_WINDOW_S:
            raise Unauthorized(
                f"The request was signed {away_s:.0f} s away from the gateway's clock.",
                fix="Check this machine's clock, and sign the request again.",
                code="clock_skew",
            )
        self._once(signer, request.nonce, now_s)
        self.check_tenant(signer)
        return signer

    def check_tenant(self, account: str) -> None:
        """Raises Forbidden when this operator does not serve the account."""
        if self._tenants and account not in self._tenants and account not in self._admins:
            raise Forbidden(
                f"This operator does not serve the account {account}.",
                fix="Ask the operator to add it, or use another cell.",
            )

    def may_see(self, account: str, tenant: str) -> bool:
        """Whether an account may see a tenant's things."""
        return account == tenant or account in self._admins

    def _once(self, signer: str, nonce: bytes, now_s: float) -> None:
        if len(nonce) < NONCE_BYTES_MIN or len(nonce) > 64:
            raise Unauthorized("The request's nonce has a wrong length.")
        while self._nonces:
            oldest, until_s = next(iter(self._nonces.items()))
            if until_s > now_s:
                break
            del self._nonces[oldest]
        if (signer, nonce) in self._nonces:
            raise Unauthorized("The request was used already.", code="replayed")
        if len(self._nonces) >= NONCES_MAX:
            raise Overloaded("The gateway has seen too many signed requests.", fix="Wait a minute.")
        # Good from window before to window after its time: remember it for both.
        self._nonces[(signer, nonce)] = now_s + 2 * REQUEST_WINDOW_S
