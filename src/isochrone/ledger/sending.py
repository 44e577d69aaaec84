"""Transactions of one key: nonces, fees, repetition, until they are in a block for good.

Nonces are ours to give: the highest in flight plus one, or what the chain says. A transaction is
signed and journaled, then sent to every server, and again while it is in no block; after
``Pace.bump_s`` with a higher fee under the same nonce. What landed stays in the journal until its
block is final, so that a reorganisation only leads to sending the same bytes again.

Awkward cases. Another process uses the same key: our first sending is refused (nonce too low, or
underpriced) and gets a new nonce at once. Later, when some transaction of the key under our nonce
is *final* and none of our versions is in a block, ours is lost, and it gets a new nonce. Between
these two we wait: a receipt that a lagging server hides must not lead to doing a thing twice.

What it does not do: cancel. A call that has run out of time (ChainSlow) stays in flight, and the
same call again takes it over instead of sending another.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Final

import msgspec
from eth_account import Account

from isochrone.ledger.chain import Block
from isochrone.ledger.errors import ChainRewound, ChainSlow, Reverted
from isochrone.ledger.finality import Finality
from isochrone.ledger.gas import estimate, fees, raised
from isochrone.ledger.journal import Flight, Journal
from isochrone.ledger.landed import Landed, landed_or_none, place_of, reason_of
from isochrone.ledger.rpc import Rpc, RpcError, quantity
from isochrone.schema.errors import InvalidInput
from isochrone.schema.identity import PrivateKey, keccak256

TAKEN: Final = ("nonce too low", "replacement transaction underpriced", "already been used")
"""How servers say that a nonce belongs to another transaction of the key."""

TAKEN_TRIES: Final = 16
"""New nonces for one transaction: as many others of the key between two of our looks."""

KNOWN: Final = "already known"
"""A server that has these very bytes already."""

POOR: Final = ("insufficient funds", "insufficient balance")


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How patient a sender is, in seconds.

    ``resend_s``: between two sendings of the same bytes; harmless, and heals a dropped one.
    ``bump_s``: five Ethereum blocks without us mean that the fee was too low. Looks begin after
    ``poll_first_s`` (a local chain mines at once) and grow to ``poll_max_s``.
    """

    resend_s: float = 3.0
    bump_s: float = 60.0
    poll_first_s: float = 0.02
    poll_max_s: float = 1.0


class Sender:
    """The transactions of one key. Several threads may use it at once."""

    def __init__(
        self,
        rpc: Rpc,
        finality: Finality,
        chain_id: int,
        key: PrivateKey,
        *,
        journal: Path | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._pace = pace or Pace()
        self._rpc = rpc
        self._finality = finality
        self._chain_id = chain_id
        self._key = key
        self._journal = Journal(journal)
        self._sent_at: dict[int, tuple[float, float]] = {}
        self._lock = threading.RLock()

    def submit(self, to: str, data: bytes, what: str) -> Flight:
        """Send a call (``to`` empty: a deployment), or take over the same one that is loose.

        Raises Reverted when it would be refused now, InvalidInput (``no_ether``) when the key
        cannot pay for gas.
        """
        with self._lock:
            for flight in self._journal.flights:
                if flight.loose and not flight.done and (flight.to, flight.data) == (to, data):
                    flight.loose = False
                    return flight
            try:
                gas = estimate(self._rpc, self._key.address, to, data)
            except RpcError as error:
                raise self._refused(error, what) from error
            fee_wei, tip_wei = fees(self._rpc)
            flight = Flight(
                to=to,
                data=data,
                nonce=self._fresh_nonce(),
                gas=gas,
                fee_wei=fee_wei,
                tip_wei=tip_wei,
            )
            self._journal.flights.append(flight)
            self._sign(flight)
            for _ in range(TAKEN_TRIES):
                refusal = self._broadcast(flight)
                if not any(word in refusal for word in TAKEN):
                    break
                flight.nonce = max(flight.nonce + 1, self._count("pending"))
                self._sign(flight, anew=True)
            if refusal and KNOWN not in refusal:
                self._forget(flight)  # no server took it, so it is nowhere
                raise self._refused(RpcError(0, refusal), what)
            return flight

    def wait(self, flight: Flight, *, final: bool, within_s: float, what: str) -> Landed:
        """Until it is in a block (``final``: in a final one). Raises Reverted or ChainSlow."""
        try:
            landed = self._wait(flight, final=final, within_s=within_s, what=what)
        except Reverted:
            self._done(flight)
            raise
        except BaseException:
            flight.loose = True
            raise
        self._done(flight)
        return landed

    def tend(self) -> None:
        """Look after everything in flight: resend, raise fees, forget what is final.

        Waiting does it too; a process that lives long calls it now and then, so that what a
        reorganisation threw out comes back.
        """
        with self._lock:
            for flight in list(self._journal.flights):
                landed = self._look(flight)
                if landed is None:
                    self._tend(flight)
                elif self._is_final(landed):
                    self._forget(flight)

    def _wait(self, flight: Flight, *, final: bool, within_s: float, what: str) -> Landed:
        deadline = time.monotonic() + within_s
        pause = self._pace.poll_first_s
        while True:
            landed = self._look(flight)
            if landed is not None and (not final or self._is_final(landed)):
                if landed.succeeded:
                    return landed
                raise Reverted(what, self._why(flight, landed))
            self.tend()
            if time.monotonic() > deadline:
                state = f"in block {landed.block}, which is not final" if landed else "in no block"
                raise ChainSlow(
                    f"After {within_s:g} s the transaction of {what} is {state}.",
                    fix="It stays on its way; the same call again waits for it.",
                )
            time.sleep(pause)
            pause = min(self._pace.poll_max_s, pause * 1.5)

    # --- nonces and fees -------------------------------------------------------------------------

    def _fresh_nonce(self) -> int:
        ours = max((flight.nonce + 1 for flight in self._journal.flights), default=0)
        return max(ours, self._count("pending"))

    def _count(self, when: str) -> int:
        return self._rpc.ask(quantity, "eth_getTransactionCount", self._key.address, when)

    def _refused(self, error: RpcError, what: str) -> Reverted | InvalidInput:
        if any(word in error.message.lower() for word in POOR):
            return InvalidInput(
                f"{self._key.address} has not enough ether to pay for {what}.",
                fix="Send it some; a local chain gives it away.",
                code="no_ether",
            )
        return Reverted(what, reason_of(error))

    # --- sending ---------------------------------------------------------------------------------

    def _sign(self, flight: Flight, *, anew: bool = False) -> None:
        """Add a version and write it down. ``anew``: under a new nonce, older versions are void."""
        transaction = {
            "type": 2,
            "chainId": self._chain_id,
            "nonce": flight.nonce,
            "gas": flight.gas,
            "maxFeePerGas": flight.fee_wei,
            "maxPriorityFeePerGas": flight.tip_wei,
            "to": bytes.fromhex(flight.to[2:]),
            "value": 0,
            "data": flight.data,
        }
        raw = bytes(Account.sign_transaction(transaction, self._key.secret).raw_transaction)
        if anew:
            flight.versions.clear()
            flight.hashes.clear()
        flight.versions.append(raw)
        flight.hashes.append("0x" + keccak256(raw).hex())
        self._journal.save()

    def _broadcast(self, flight: Flight) -> str:
        """Send the newest version once to every server; what they say when they all refuse it.

        Only the first sending of new bytes may be judged by that: later the other transaction
        under this nonce may be ours.
        """
        now = time.monotonic()
        _, born = self._sent_at.get(id(flight), (now, now))
        self._sent_at[id(flight)] = (now, born)
        return self._rpc.tell("eth_sendRawTransaction", "0x" + flight.versions[-1].hex()).lower()

    def _tend(self, flight: Flight) -> None:
        now = time.monotonic()
        sent, born = self._sent_at.get(id(flight), (0.0, now))
        if now - sent < self._pace.resend_s:
            return
        if self._lost_for_good(flight):
            flight.nonce = self._fresh_nonce()
            self._sign(flight, anew=True)
        elif now - born > self._pace.bump_s:
            flight.fee_wei = raised(flight.fee_wei)
            flight.tip_wei = raised(flight.tip_wei)
            self._sign(flight)
            self._sent_at[id(flight)] = (now, now)
        self._broadcast(flight)

    def _lost_for_good(self, flight: Flight) -> bool:
        final = self._finality.final()
        used = self._count_at(final)
        return used > flight.nonce and self._look(flight) is None

    def _count_at(self, block: Block) -> int:
        try:
            return self._rpc.agreed(
                quantity, "eth_getTransactionCount", self._key.address, hex(block.number)
            )
        except RpcError:
            return 0  # a server without that state: never take a transaction for lost

    def _done(self, flight: Flight) -> None:
        with self._lock:
            flight.done = True
            self._journal.save()

    def _forget(self, flight: Flight) -> None:
        self._journal.flights = [other for other in self._journal.flights if other is not flight]
        self._sent_at.pop(id(flight), None)
        self._journal.save()

    # --- looking ---------------------------------------------------------------------------------

    def _look(self, flight: Flight) -> Landed | None:
        for hash_ in reversed(flight.hashes):
            landed = self._rpc.ask(landed_or_none, "eth_getTransactionReceipt", hash_)
            if landed is not None and landed.transaction == hash_:
                return landed
        return None

    def _is_final(self, landed: Landed) -> bool:
        """Whether its block is final, and every server says that it is there."""
        if self._finality.final().number < landed.block:
            return False
        try:
            if self._finality.block(landed.block).hash != landed.block_hash:
                return False
        except ChainRewound:
            return False
        place = self._rpc.agreed(place_of, "eth_getTransactionReceipt", landed.transaction)
        return place == landed.place

    def _why(self, flight: Flight, landed: Landed) -> str:
        call = {"from": self._key.address, "data": "0x" + flight.data.hex(), "to": flight.to}
        try:
            self._rpc.ask(str, "eth_call", call, hex(max(0, landed.block - 1)))
        except RpcError as error:
            return reason_of(error)
        return ""
