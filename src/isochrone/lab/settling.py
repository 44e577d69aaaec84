"""The demonstration's last act: an epoch is settled, people are paid, and a stranger checks it.

Nothing here computes money. The validators settle by themselves; tenant, provider and auditor run
the same ``isochrone`` verbs as anybody. What is not as in real life is said: epochs are seconds
long, and the chain's clock is moved past the challenge.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from isochrone.lab.faults import Kill
from isochrone.lab.network import Network
from isochrone.lab.story import Story
from isochrone.lab.tenant import Tenant
from isochrone.schema.errors import OurFault, Timeout

EPOCH_S = 40
"""Long enough for ten tallies of a replica, short enough to wait for."""

DEPOSIT_USD = "5"
ROOT_WITHIN_S = 120.0
"""From now until the kill's epoch has its root: the epoch's rest, cut-off, a round or two."""

POLL_S = 0.5

_TWO = ("--epochs", "2")
"""A kill near an epoch's end shows in the next one's books too."""


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What the act showed. Amounts in micro-US-dollars that really moved on the chain."""

    epochs_settled: int
    claim_paid: int
    credit_paid: int
    credit_for_killed: int
    watches_opened: int
    audit_agrees: bool
    epochs_behind: int


class Settling:
    """Deposits at the start, everything else at the end."""

    def __init__(self, story: Story, network: Network, tenant: Tenant, folder: Path) -> None:
        self._story = story
        self._network = network
        self._tenant = tenant
        self._folder = folder

    async def deposit(self, names: Iterable[str]) -> None:
        """The tenant pays into a deposit for each service, and lets the cell's key spend it."""
        for name in names:
            await self._tenant.run("deposit", DEPOSIT_USD, "--service", name)
        self._story.say(f"$ isochrone deposit {DEPOSIT_USD} --service NAME, for each service")
        self._story.say(await self._tenant.run("deposit"))

    async def settle(self, killed: Kill) -> Settled:
        """Wait for the books of the epoch in which a node was killed; claim, credit, audit."""
        bank = self._network.bank
        assert bank is not None
        epoch = bank.deployment.epoch_at(int(killed.at_unix_s * 1000))
        self._story.chapter(f"Epoch {epoch}, in which the node was killed, is settled")
        self._story.say(
            f"Epochs last {EPOCH_S} s here, and the chain's clock is moved past the challenge; a "
            "real network's last an hour and six. Ether and dollars are the local chain's."
        )
        await self._wait_for_root(epoch)
        await asyncio.to_thread(bank.advance, 2 * EPOCH_S)
        await self._wait_until_final(epoch)
        progress = msgspec.json.decode(await self._tenant.run("settle", "-o", "json"))
        self._story.say(await self._tenant.run("settle"))
        claim_paid = await self._claim(await self._richest_provider(epoch))
        for_killed = await self._credit_for(killed, epoch)
        self._story.say(
            f"The killed node {killed.site} had promised the whole epoch: for what it did not "
            f"serve of it the tenant gets {for_killed / 1e6:.6f} dollars, out of its earnings."
        )
        credit_paid = await self._credit()
        opened = await self._watch(epoch)
        return Settled(
            epochs_settled=len(progress["roots"]),
            claim_paid=claim_paid,
            credit_paid=credit_paid,
            credit_for_killed=for_killed,
            watches_opened=opened,
            audit_agrees=await self._audit(epoch, min(row["epoch"] for row in progress["roots"])),
            epochs_behind=progress["behind"],
        )

    async def _wait_for_root(self, epoch: int) -> None:
        assert self._network.bank is not None
        vault = self._network.bank.contracts.vault
        deadline_s = time.monotonic() + ROOT_WITHIN_S
        while await asyncio.to_thread(vault.root_of, epoch) is None:
            if time.monotonic() > deadline_s:
                raise Timeout(
                    f"Epoch {epoch} has no root after {ROOT_WITHIN_S:g} s.",
                    fix="The validators' logs say what they wait for.",
                )
            await asyncio.sleep(POLL_S)

    async def _wait_until_final(self, epoch: int) -> None:
        assert self._network.bank is not None
        vault = self._network.bank.contracts.vault
        deadline_s = time.monotonic() + ROOT_WITHIN_S
        while (final := await asyncio.to_thread(vault.final_epoch)) is None or final < epoch:
            if time.monotonic() > deadline_s:
                raise Timeout(f"The root of epoch {epoch} did not become final.")
            await asyncio.sleep(POLL_S)

    async def _richest_provider(self, epoch: int) -> str:
        """The provider whom the final books owe most; raises OurFault when they owe nobody."""
        accounts = self._network.accounts
        owed = await asyncio.to_thread(_books_of, await self._records_url(), epoch)
        amounts = {
            name: owed.get(accounts.provider(name).address, 0) for name in accounts.providers
        }
        best = max(sorted(amounts), key=lambda name: amounts[name])
        if not amounts[best]:
            raise OurFault(f"The books of epoch {epoch} owe no provider anything.")
        return best

    async def _claim(self, provider: str) -> int:
        """A provider looks at its earnings and claims them; what was paid."""
        someone = Tenant(self._folder / "provider", self._tenant.gateway_url, self._tenant.resolve)
        key = someone.home / "keys" / "provider.key"
        key.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._folder / "providers" / f"{provider}.key", key)
        self._story.say(f"$ isochrone earnings   # as provider {provider}")
        costs = ("--power-w", "60", "--kwh-price", "0.3", "--hardware-price", "600")
        self._story.say(await someone.run("earnings", *costs))
        self._story.say("$ isochrone claim")
        paid = await self._paid(someone, "provider")
        self._story.say(f"The vault paid {paid / 1e6:.6f} dollars to provider {provider}.")
        return paid

    async def _credit_for(self, killed: Kill, epoch: int) -> int:
        """The tenant's credits for the replicas of the killed node, from that epoch's records."""
        leases = f"SELECT lease FROM leases WHERE node = '{killed.node}' AND epoch = {epoch}"
        rows = await self._tenant.run("records", str(epoch), "--sql", leases, "-o", "json")
        lost = {row["lease"] for row in msgspec.json.decode(rows)}
        told = await self._tenant.run("earnings", "--role", "tenant", "-o", "json", *_TWO)
        sources = msgspec.json.decode(told)["earnings"]["sources"]
        return sum(
            row["amount_microusd"]
            for row in sources
            if row["why"] == "credit" and row["lease"].split("@")[0] in lost
        )

    async def _credit(self) -> int:
        """The tenant takes its credits; what was paid."""
        self._story.say("$ isochrone earnings --role tenant")
        self._story.say(await self._tenant.run("earnings", "--role", "tenant", *_TWO))
        paid = await self._paid(self._tenant, "tenant")
        self._story.say(f"$ isochrone claim --role tenant   # paid {paid / 1e6:.6f} dollars")
        return paid

    async def _paid(self, who: Tenant, role: str) -> int:
        """What a claim really added to the account on the chain."""
        bank = self._network.bank
        assert bank is not None
        token, account = bank.contracts.token, who.key(role).address
        before = await asyncio.to_thread(token.balance_of, account)
        await who.run("claim", "--role", role)
        return await asyncio.to_thread(token.balance_of, account) - before

    async def _watch(self, epoch: int) -> int:
        """What validators reported of this epoch's watch; how many opened their reports."""
        asked = (
            "SELECT count(*) AS opened, coalesce(sum(reports), 0) AS reports FROM watches "
            f"WHERE kind = 'watch-opening' AND page = 0 AND epoch = {epoch}"
        )
        told = await self._tenant.run("records", str(epoch), "--sql", asked, "-o", "json")
        (row,) = msgspec.json.decode(told)
        self._story.say(
            f"{row['opened']} validators had committed to what they measured in watch {epoch}, and "
            f"opened {row['reports']} reports about nodes."
        )
        return int(row["opened"])

    async def _audit(self, epoch: int, first: int) -> bool:
        """A stranger in an empty folder, with two URLs, recomputes every epoch."""
        bank = self._network.bank
        assert bank is not None
        stranger = Tenant(self._folder / "stranger", "http://127.0.0.1:9", {})
        urls = ("--chain", bank.url, "--records", await self._records_url())
        self._story.say(f"$ isochrone audit {epoch} --from {first} --chain URL --records URL")
        try:
            self._story.say(await stranger.run("audit", str(epoch), "--from", str(first), *urls))
        except OurFault as error:
            self._story.say(error.message)
            return False
        return True

    async def _records_url(self) -> str:
        """A validator's store, as the gateway tells it."""
        with self._tenant.admin() as client:
            return (await asyncio.to_thread(client.ledger)).records_urls[0]


def _books_of(records_url: str, epoch: int) -> dict[str, int]:
    """What each account may have claimed by the published books after an epoch. Blocking."""
    from isochrone.records.store import Store
    from isochrone.records.tables import BOOKS

    store = Store.open(records_url)
    return BOOKS.read(store.get(store.published(epoch).books), 1).accounts
