"""Validators tell each other what they hold, so that a record that one has, all have.

At the cut-off, and again while an epoch is not settled, each writes all it holds into one
content-addressed file and says its digest. Equal digests, equal holdings: nothing is fetched then,
which is the rule, since all hear the same fabric. What only one heard comes to the others by its
file. Only bonded validators are listened to; what they hand over is checked like everything else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from isochrone.fabric.connection import Fabric
from isochrone.records.store import Store
from isochrone.schema.documents import HELD_RECORDS, pack, seal, unpack, unseal
from isochrone.schema.errors import IsochroneError
from isochrone.schema.identity import PrivateKey
from isochrone.schema.settling import S_HELD, HeldRecords
from isochrone.validator.holdings import FILE_BYTES_MAX, Holdings, Mark

SEEN_MAX = 1024
"""Digests remembered: one an epoch and validator, and a few more."""

FETCH_WITHIN_S = 30.0
"""For one file of another validator's; who is slower is asked again later."""

log = logging.getLogger(__name__)


class Exchange:
    """One validator's side. ``is_peer(address)``: whether a bonded validator's key has it."""

    def __init__(
        self,
        fabric: Fabric,
        key: PrivateKey,
        holdings: Holdings,
        store: Store,
        url: Callable[[], str],
        is_peer: Callable[[str], bool],
    ) -> None:
        self._fabric = fabric
        self._key = key
        self._holdings = holdings
        self._store = store
        self._url = url
        self._is_peer = is_peer
        self._seen: dict[str, None] = {}
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._files: dict[str, int] = {}
        self.urls: dict[str, str] = {}

    async def listen(self) -> None:
        """Hear the others."""
        await self._fabric.subscribe(S_HELD, self._on_held)

    async def tell(self, epoch: int) -> Mark:
        """Write and say what is held for an epoch; the mark of it."""
        data, mark = await asyncio.to_thread(self._holdings.file, epoch)
        sha256 = await asyncio.to_thread(self._store.put, data)
        self._remember(sha256)
        self._files[sha256] = epoch
        told = HeldRecords(epoch=epoch, sha256=sha256, url=self._url())
        self._fabric.publish(S_HELD, pack(seal(HELD_RECORDS, told, self._key)))
        return mark

    async def forget_before(self, epoch: int) -> None:
        """Drop our own files of earlier epochs: their records stand in manifests."""
        for sha256 in [name for name, of in self._files.items() if of < epoch]:
            await asyncio.to_thread(self._store.discard, sha256)
            del self._files[sha256]

    async def close(self) -> None:
        """Stop fetching."""
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _on_held(self, _subject: str, data: bytes) -> None:
        try:
            told, signer = unseal(unpack(data), HELD_RECORDS, HeldRecords)
        except IsochroneError as error:
            log.debug("held records: %s", error.sentence())
            return
        if signer == self._key.address or not self._is_peer(signer):
            return
        self.urls[signer] = told.url
        if told.sha256 in self._seen or signer in self._fetching:
            return
        task = asyncio.get_running_loop().create_task(self._fetch(told))
        self._fetching[signer] = task
        task.add_done_callback(lambda _: self._fetching.pop(signer, None))

    async def _fetch(self, told: HeldRecords) -> None:
        try:
            data = await asyncio.to_thread(self._get, told)
            self._remember(told.sha256)
            await self._holdings.take_file(data)
        except IsochroneError as error:
            log.warning("records held at %s: %s", told.url, error.sentence())

    def _get(self, told: HeldRecords) -> bytes:
        return Store.open(told.url, timeout_s=FETCH_WITHIN_S, retries=0).get(
            told.sha256, FILE_BYTES_MAX
        )

    def _remember(self, sha256: str) -> None:
        self._seen[sha256] = None
        while len(self._seen) > SEEN_MAX:
            del self._seen[next(iter(self._seen))]
