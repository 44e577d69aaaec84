"""The shell of ``rounds``: hears, carries out effects, feeds their outcome back.

Every effect that takes time runs as a task; the machine is stepped on the event loop only. What is
signed goes through the journal first. What fails is said once and tried again by the machine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import lru_cache
from typing import Any

import msgspec

from isochrone.fabric.connection import Fabric
from isochrone.rules.proposer import proposer
from isochrone.rules.roots import signing_digest
from isochrone.schema.deployment import Deployment
from isochrone.schema.digests import decode
from isochrone.schema.errors import IsochroneError
from isochrone.schema.identity import PrivateKey, recover
from isochrone.schema.settlement import RootStatement
from isochrone.schema.settling import S_ROOT, SignedRoot
from isochrone.validator import rounds
from isochrone.validator.journal import Journal
from isochrone.validator.recomputing import Computed
from isochrone.validator.reviewing import Refused
from isochrone.validator.rounds import Event, Standing, State

log = logging.getLogger(__name__)


@lru_cache(maxsize=1024)
def proposer_of(standing: Standing, round_: int) -> str:
    """The voting key whose turn a round is."""
    weights = {peer.key: peer.weight for peer in standing.peers}
    return proposer(standing.epoch, round_, standing.previous, weights)


class Hands(msgspec.Struct, frozen=True, kw_only=True):
    """What the agreement has done by others: make, judge, post, accuse."""

    propose: Callable[[int, int], Awaitable[Computed]]
    review: Callable[[SignedRoot, str], Awaitable[Computed]]
    post: Callable[[RootStatement, tuple[bytes, ...]], Awaitable[None]]
    accuse: Callable[[SignedRoot, SignedRoot], Awaitable[None]]


class Agreement:
    """One validator's part in the rounds of the epoch that is next."""

    def __init__(
        self,
        fabric: Fabric,
        deployment: Deployment,
        key: PrivateKey,
        journal: Journal,
        round_ms: int,
        url: Callable[[], str],
        unix_ms: Callable[[], int],
        hands: Hands,
    ) -> None:
        self._fabric = fabric
        self._deployment = deployment
        self._key = key
        self._journal = journal
        self._url = url
        self._unix_ms = unix_ms
        self._hands = hands
        self._tasks: set[asyncio.Task[None]] = set()
        self._said: dict[str, str] = {}
        self.urls: dict[str, str] = {}
        self.state = State(me=key.address, round_ms=round_ms)

    async def listen(self) -> None:
        """Hear the others' signatures."""
        await self._fabric.subscribe(S_ROOT, self._on_root)

    async def see(self, event: rounds.Seen) -> None:
        """The chain was read; what this key signed before for a new epoch is taken up again."""
        before = self.state.standing
        self.take(event)
        if before is None or before.epoch != event.standing.epoch:
            for signed in await asyncio.to_thread(self._journal.signed, event.standing.epoch):
                self.take(rounds.Signed(msgspec.structs.replace(signed, url=self._url())))

    def take(self, event: Event) -> None:
        """One event; its effects are begun."""
        self.state, effects = rounds.step(self.state, event, self._unix_ms(), proposer_of)
        for effect in effects:
            self._carry_out(effect)

    def votes(self, manifest: str) -> tuple[SignedRoot, ...]:
        """The signatures heard for a manifest, by signer."""
        heard = self.state.votes
        votes = (heard[place] for place in sorted(heard))
        return tuple(vote for vote in votes if vote.statement.manifest == manifest)

    async def close(self) -> None:
        """Stop what is under way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_root(self, _subject: str, data: bytes) -> None:
        try:
            signed = decode(data, SignedRoot, "signed root")
            signer = recover(signing_digest(self._deployment, signed.statement), signed.signature)
        except (IsochroneError, ValueError, OverflowError) as error:
            log.debug("a signed root: %s", error)
            return
        if signer != self._key.address:
            self.take(rounds.Heard(signed, signer))
            if (signed.statement.round, signer) in self.state.votes:
                self.urls[signer] = signed.url

    def _carry_out(self, effect: rounds.Effect) -> None:
        if isinstance(effect, rounds.Say):
            self._fabric.publish(S_ROOT, msgspec.json.encode(effect.signed))
        elif isinstance(effect, rounds.Propose):
            self._begin(self._propose(effect))
        elif isinstance(effect, rounds.Review):
            self._begin(self._review(effect))
        elif isinstance(effect, rounds.Sign):
            self._begin(self._sign(effect.statement))
        elif isinstance(effect, rounds.Post):
            self._begin(self._try("posting", self._hands.post(effect.statement, effect.signatures)))
        else:
            log.error("two roots of one round are signed by one key: %s", effect.one.statement)
            self._begin(self._try("accusing", self._hands.accuse(effect.one, effect.other)))

    async def _propose(self, effect: rounds.Propose) -> None:
        try:
            computed = await self._hands.propose(effect.epoch, effect.round)
        except IsochroneError as error:
            self._say("proposing", error.sentence())
            self.take(rounds.NotMade(effect.epoch, effect.round))
            return
        except BaseException:
            self.take(rounds.NotMade(effect.epoch, effect.round))
            raise
        self._say("proposing", "")
        self.take(rounds.Made(computed.statement))

    async def _review(self, effect: rounds.Review) -> None:
        said = effect.signed.statement
        standing = self.state.standing
        turn = proposer_of(standing, said.round) if standing is not None else ""
        try:
            computed = await self._hands.review(effect.signed, turn)
        except Refused as error:
            log.warning(
                "epoch %d, round %d, proposed by %s is not signed: %s",
                said.epoch,
                said.round,
                turn,
                error.sentence(),
            )
            self.take(rounds.Judged(said, right=False))
        except IsochroneError as error:
            self._say("reviewing", error.sentence())
            self.take(rounds.Judged(said, right=False, final=False))
        except BaseException:
            self.take(rounds.Judged(said, right=False, final=False))
            raise
        else:
            self._say("reviewing", "")
            self.take(rounds.Judged(computed.statement, right=True))

    async def _sign(self, statement: RootStatement) -> None:
        signature = self._key.sign(signing_digest(self._deployment, statement))
        signed = SignedRoot(statement=statement, signature=signature, url=self._url())
        try:
            await asyncio.to_thread(self._journal.claim, signed)
        except IsochroneError as error:
            self._say("signing", error.sentence())
            return
        self.take(rounds.Signed(signed))

    async def _try(self, what: str, work: Awaitable[None]) -> None:
        try:
            await work
        except IsochroneError as error:
            self._say(what, error.sentence())
        else:
            self._say(what, "")

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception:
                log.exception("epoch %s", self.state.standing and self.state.standing.epoch)

        task = asyncio.get_running_loop().create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def problems(self) -> tuple[str, ...]:
        """What does not work now, in words."""
        return tuple(f"{what}: {text}" for what, text in sorted(self._said.items()) if text)

    def _say(self, what: str, text: str) -> None:
        """Say a problem once."""
        if text and text != self._said.get(what):
            log.warning("%s: %s", what, text)
        self._said[what] = text
