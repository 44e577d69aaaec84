"""The request machine's shell: ranks replicas, opens streams, retries, hedges, cuts.

Intuition: every request is a probe. It goes to the best legal replica; the first sign of trouble
(a refusal, a reset, a lost channel, the silence of its node, slowness) sends it to the next one,
at once and without the client noticing. ``flight`` decides the course, ``fleet`` knows the
replicas, this file performs the effects.

Rules: callbacks only, no task or future per request. A try that lost is reset, so that its engine
stops. One sweep (10 ms while few requests fly, 50 ms beyond) serves deadlines, hedges, held
requests and the nodes that fell silent; it stands still while nothing flies. Only what the fleet
offers is ever asked, and the fleet offers only what the masks of service and key admit.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final

from isochrone.gateway.answer_keeping import AnswerKeeper
from isochrone.gateway.answers import (
    Timing,
    answer_headers,
    timing_of_stream,
    timing_of_whole,
)
from isochrone.gateway.config import GatewayLimits
from isochrone.gateway.demand import Demand
from isochrone.gateway.fleet import Fleet
from isochrone.gateway.flight import Flight, may_hedge, may_spend, next_move, why_failed
from isochrone.gateway.holding import Holding, is_startable
from isochrone.gateway.numbers import Numbers
from isochrone.gateway.options import Option
from isochrone.gateway.tallies import Tallies
from isochrone.gateway.traffic import Traffic
from isochrone.gateway.tries import Try, Upload, refusal
from isochrone.rules.routing import hedge_after_ms
from isochrone.rules.tallying import CUT, DECLINED, REFUSED, REPLICA, outcome_of
from isochrone.schema.errors import IsochroneError, Overloaded, Unavailable
from isochrone.schema.frames import AnswerHeader, AnswerTrailer, Ask, pack

SWEEP_S: Final = 0.01
SWEEP_BUSY_S: Final = 0.05
BUSY_FLIGHTS: Final = 256
"""Up to here the fast sweep costs under 1 % of a core."""

HEDGES_MIN: Final = 16
HEDGE_SHARE: Final = 0.2
"""Second copies under way: at most this share of all requests (but some always), so that a fleet
that is slow because it is loaded is not loaded twice."""

# A replica's own 5xx answers that say "not here, not now" (Envoy's gateway-error list).
_ELSEWHERE_STATUSES: Final = frozenset({502, 503, 504})


FINISHED: Final = "finished"
_ANSWERED: Final = (FINISHED, "cancelled")
"""Ends of a try that say nothing against its node."""


class Dispatcher:
    """All requests in flight at this gateway."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fleet: Fleet,
        limits: GatewayLimits,
        traffic: Traffic,
        tallies: Tallies,
        numbers: Numbers,
        answers: AnswerKeeper,
        demand: Demand,
    ) -> None:
        self.loop = loop
        self.uploads: dict[Flight, Upload] = {}
        self._fleet = fleet
        self._limits = limits
        self._traffic = traffic
        self._tallies = tallies
        self._numbers = numbers
        self._answers = answers
        self._flights: dict[Flight, None] = {}
        self._demand = demand
        self.holding = Holding(limits, demand, traffic)
        self._hedges = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def in_flight(self) -> int:
        """Requests taken and not ended."""
        return len(self._flights)

    def submit(self, flight: Flight, upload: Upload | None = None) -> None:
        """Take a request; its reply is called once at least, perhaps before this returns.

        Raises Overloaded when the gateway or the key has too many requests in flight.
        """
        limits = self._limits
        if len(self._flights) >= limits.in_flight_max:
            raise Overloaded("The gateway has too many requests in flight.", fix="Try again soon.")
        if flight.caller.in_flight >= limits.in_flight_per_key_max:
            raise Overloaded(
                f"This key has {limits.in_flight_per_key_max} requests in flight, its limit.",
                fix="Wait for answers before asking more.",
                code="rate_limited",
                status=429,
                retry="here",
            )
        flight.caller.in_flight += 1
        self._flights[flight] = None
        if upload is not None:
            self.uploads[flight] = upload
        now_s = monotonic()
        self._demand.arrived(flight, now_s)
        if flight.service.route.answer_checks and not flight.only:
            self._answers.on_arrival(flight)
        self._advance(flight, now_s)
        if self._timer is None and self._flights:
            self._arm()

    def cancel(self, flight: Flight) -> None:
        """The client hung up: stop everything that was begun for it."""
        if not flight.over:
            self._traffic.cancelled()
            self._finish(flight, "cancelled")

    def go_on(self, flight: Flight) -> None:
        """The client reads again: the replica may send on."""
        for attempt in flight.live:
            if attempt.stream is not None:
                attempt.stream.resume()

    # -- sending ---------------------------------------------------------------------------------

    def _advance(self, flight: Flight, now_s: float) -> None:
        """Make the next move of an uncommitted request without a try under way."""
        move = next_move(flight, now_s, self._limits.attempts_max)
        if move == "wait":
            return
        if move == "send" and self._send_next(flight, now_s, hedge=False):
            return
        if move == "send" and self.holding.keep(flight, now_s):
            return
        self._fail(flight, self._why_failed(flight, now_s))

    def _why_failed(self, flight: Flight, now_s: float) -> IsochroneError:
        error = flight.error
        if is_startable(flight.service) and (error is None or error.retry == "elsewhere"):
            return self.holding.why_not(flight, now_s)
        return why_failed(flight, now_s)

    def _send_next(self, flight: Flight, now_s: float, *, hedge: bool) -> bool:
        """Ask the best replica that may be tried; False when there is none."""
        for option in self._fleet.options(flight, now_s):
            if self._send(flight, option, now_s, hedge=hedge):
                return True
        return False

    def _send(self, flight: Flight, option: Option, now_s: float, *, hedge: bool) -> bool:
        attempt = Try(self, flight, option, now_s, hedge=hedge)
        replica = option.replica
        ask = Ask(
            request_id=self._numbers.name(),
            service=flight.service.id,
            lease=replica.lease,
            lease_revision=replica.lease_revision,
            node=replica.node,
            operation=flight.operation,
            headers=flight.headers,
            timeout_ms=max(1, int((flight.deadline_s - now_s) * 1000)),
            relay=option.relay,
        )
        upload = self.uploads.get(flight) if self.uploads else None
        body = flight.body or b""
        try:
            attempt.stream = option.channel.open(
                pack(ask),
                body,
                end=upload is None,
                sink=attempt,
                window=option.via.window_bytes,
            )
        except IsochroneError as error:
            self._fleet.failed(option, error.code, now_s)
            flight.tried[replica.node] = now_s
            return False
        if not option.relay:
            attempt.tally = self._tallies.of(replica.lease)
            attempt.bytes_in = len(body)
        self._sent(flight, attempt, now_s)
        if flight.service.route.answer_checks:
            attempt.keeping = self._answers.begin(flight, option)
        if upload is not None and attempt.stream is not None:
            upload.attach(attempt.stream)
        return True

    def _sent(self, flight: Flight, attempt: Try, now_s: float) -> None:
        """Account for a try that is under way."""
        option = attempt.option
        flight.attempts += 1
        flight.live.append(attempt)
        flight.tried[option.replica.node] = now_s
        self._fleet.asked(option, attempt, now_s)
        if not flight.began_s:
            self._demand.began(flight, now_s)
        if self.holding:
            self.holding.release(flight, sent=True)
        if attempt.hedge:
            flight.hedged = True
            self._hedges += 1
            self._traffic.hedged()
        elif flight.error is not None:
            if flight.reroute_s < 0:
                flight.reroute_s = monotonic() - flight.error_s
            self._traffic.retried(flight.error.code)
        if flight.service.route.hedge and not flight.hedged and flight.body is not None:
            flight.hedge_at_s = now_s + hedge_after_ms(option) / 1000

    # -- what a try reports ----------------------------------------------------------------------

    def whole(
        self, attempt: Try, header: AnswerHeader, body: bytes, trailer: AnswerTrailer
    ) -> None:
        """A complete answer came: pass it on, or try elsewhere."""
        now_s = monotonic()
        if self._refused(attempt, header, now_s):
            return
        flight, option = attempt.flight, attempt.option
        latency_ms = (now_s - attempt.asked_s) * 1000
        self._fleet.answered(option, latency_ms, trailer, now_s)
        attempt.bytes_out = len(body)
        count = self._answered(attempt, header, now_s)
        attempt.tokens_in, attempt.tokens_out = trailer.tokens_in, trailer.tokens_out
        self._commit(attempt)
        total_ms = (now_s - flight.started_s - flight.waited_s) * 1000
        timing = timing_of_whole(total_ms, option.floor_ms, trailer)
        headers = self._passed_on(attempt, header, total_ms, timing, count)
        keeping, attempt.keeping = attempt.keeping, None
        self._finish(flight, "")
        flight.reply.whole(header.status, headers, body)
        if keeping is not None:
            keeping.head(header)
            keeping.add(body)
            keeping.end()

    def begin(self, attempt: Try, header: AnswerHeader) -> None:
        """A streamed answer began: pass it on, or try elsewhere."""
        now_s = monotonic()
        if self._refused(attempt, header, now_s):
            return
        flight, option = attempt.flight, attempt.option
        count = self._answered(attempt, header, now_s)
        self._commit(attempt)
        flight.last_data_s = now_s
        total_ms = (now_s - flight.started_s - flight.waited_s) * 1000
        timing = timing_of_stream(total_ms, option.floor_ms + option.beyond_ms, header)
        headers = self._passed_on(attempt, header, total_ms, timing, count)
        flight.reply.begin(header.status, headers)
        if attempt.keeping is not None:
            attempt.keeping.head(header)

    def ended(self, attempt: Try, trailer: AnswerTrailer) -> None:
        """A streamed answer is complete."""
        now_s = monotonic()
        flight = attempt.flight
        attempt.tokens_in, attempt.tokens_out = trailer.tokens_in, trailer.tokens_out
        self._fleet.answered(
            attempt.option, (now_s - attempt.asked_s) * 1000, trailer, now_s, streamed=True
        )
        keeping, attempt.keeping = attempt.keeping, None
        self._finish(flight, "")
        flight.reply.end()
        if keeping is not None:
            keeping.end()

    def failed(self, attempt: Try, error: IsochroneError) -> None:
        """A try died; before the first byte the request goes elsewhere, after it, it is cut."""
        now_s = monotonic()
        if error.code in DECLINED:
            attempt.outcome = REFUSED
        else:
            attempt.outcome = CUT if attempt.flight.committed else REPLICA
        self._fleet.failed(attempt.option, error.code, now_s)
        self._lost(attempt, error, now_s)

    def abandoned(self, attempt: Try, error: IsochroneError) -> None:
        """A try is given up because of its node, not because of its replica."""
        self._lost(attempt, error, monotonic())

    def _refused(self, attempt: Try, header: AnswerHeader, now_s: float) -> bool:
        """Handle an answer that is a refusal; False when it is an answer to pass on."""
        attempt.outcome = outcome_of(header.status, header.code)
        if header.status < 400:
            return False
        flight = attempt.flight
        if header.code:
            error = refusal(header)
            self._fleet.refused(attempt.option, header.code, now_s)
            if error.retry == "elsewhere":
                flight.refusals += 1
                self._lost(attempt, error, now_s)
            else:
                self._fail(flight, error)
            return True
        used_up = flight.body is None or not may_spend(flight, self._limits.attempts_max)
        last = used_up and len(flight.live) < 2
        if header.status not in _ELSEWHERE_STATUSES or last:
            return False
        error = Unavailable(
            f"The replica answered {header.status}.", code="engine_failed", status=header.status
        )
        self._fleet.failed(attempt.option, error.code, now_s)
        self._lost(attempt, error, now_s)
        return True

    def _answered(self, attempt: Try, header: AnswerHeader, now_s: float) -> str:
        """Note the time to an answer's first byte; the header that counts it for the tenant."""
        upload = self.uploads.get(attempt.flight) if self.uploads else None
        asked_s = attempt.asked_s if upload is None else max(attempt.asked_s, upload.ended_s)
        attempt.latency_ms = (now_s - asked_s) * 1000
        if attempt.tally is not None:
            return attempt.tally.told()
        return self._tallies.told_far(header.count, attempt.option.channel.peer.address)

    def _passed_on(
        self, attempt: Try, header: AnswerHeader, total_ms: float, timing: Timing | None, count: str
    ) -> list[tuple[str, str]]:
        """Account for an answer that goes to the client; the headers that go with it."""
        flight = attempt.flight
        if timing is not None and header.status < 400:
            self._demand.answered(flight, timing)
        self._traffic.answered(flight, header.status, total_ms, timing)
        return answer_headers(
            header,
            attempt.option.replica,
            flight.request_id,
            flight.attempts,
            flight.reroute_s,
            timing,
            count,
        )

    def _lost(self, attempt: Try, error: IsochroneError, now_s: float) -> None:
        """Drop a try, and do the next thing for its request."""
        flight = attempt.flight
        self._drop(attempt, error.code)
        if flight.over:
            return
        if flight.error is None:
            flight.error_s = now_s
        flight.error = error
        if flight.committed:
            self._traffic.cut()
            self._finish(flight, error.code)
            flight.reply.cut()
            return
        flight.tried[attempt.option.replica.node] = now_s
        self._advance(flight, now_s)

    def _commit(self, attempt: Try) -> None:
        """This try's answer goes to the client: the other one is called off."""
        flight = attempt.flight
        flight.committed = True
        if len(flight.live) > 1:
            for other in list(flight.live):
                if other is not attempt:
                    self._drop(other, "lost_race")

    def _drop(self, attempt: Try, code: str) -> None:
        """A try is over: reset its stream (a no-op when that is over too) and forget it."""
        flight = attempt.flight
        attempt.close()
        if attempt.keeping is not None:  # it was not completed
            attempt.keeping.drop()
            attempt.keeping = None
        stream, attempt.stream = attempt.stream, None  # no cycle stays for the collector
        if stream is not None:
            stream.reset(code)
        if attempt in flight.live:
            flight.live.remove(attempt)
            attempt.count(code)
            self._fleet.done(attempt.option, attempt)
            if code not in _ANSWERED:
                node = attempt.option.replica.node
                self._traffic.lost_try(flight, node, code, monotonic() - attempt.asked_s)
            if attempt.hedge:
                self._hedges -= 1

    # -- ends ------------------------------------------------------------------------------------

    def _fail(self, flight: Flight, error: IsochroneError) -> None:
        total_ms = (monotonic() - flight.started_s) * 1000
        self._traffic.failed(flight, error, total_ms)
        self._finish(flight, error.code)
        headers = [
            ("x-request-id", flight.request_id),
            ("isochrone-attempts", str(flight.attempts)),
        ]
        flight.reply.fail(error, headers)

    def _finish(self, flight: Flight, code: str) -> None:
        """Forget a request and whatever is still under way for it."""
        if flight.over:
            return
        flight.over = True
        for attempt in list(flight.live):
            self._drop(attempt, code or FINISHED)
        flight.caller.in_flight -= 1
        del self._flights[flight]
        if self.holding:
            self.holding.release(flight, sent=False)
        self._demand.ended(flight, monotonic())
        if self.uploads:
            self.uploads.pop(flight, None)

    # -- time ------------------------------------------------------------------------------------

    def _arm(self) -> None:
        few = len(self._flights) <= BUSY_FLIGHTS
        self._timer = self.loop.call_later(SWEEP_S if few else SWEEP_BUSY_S, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now_s = monotonic()
        self._fleet.judge(now_s)
        hedges_max = max(HEDGES_MIN, int(len(self._flights) * HEDGE_SHARE))
        for flight in list(self._flights):
            if flight.over:
                continue
            if flight.committed:
                self._check_idle(flight, now_s)
            elif now_s >= flight.deadline_s:
                self._fail(flight, self._why_failed(flight, now_s))
            elif flight in self.holding:
                self._advance(flight, now_s)
            elif self._hedges < hedges_max:
                self._hedge(flight, now_s)
        if self._flights:
            self._arm()

    def _hedge(self, flight: Flight, now_s: float) -> None:
        """Send a second copy when one is due; look again later when there is nowhere to send."""
        if may_hedge(flight, now_s, self._limits.attempts_max) and not self._send_next(
            flight, now_s, hedge=True
        ):
            flight.hedge_at_s = now_s + SWEEP_BUSY_S

    def _check_idle(self, flight: Flight, now_s: float) -> None:
        if now_s - flight.last_data_s < self._limits.stream_idle_ms / 1000:
            return
        self._traffic.cut()
        self._finish(flight, "timeout")
        flight.reply.cut()
