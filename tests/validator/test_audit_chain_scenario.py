"""An audit with nothing but two URLs: a real chain's and a web server's with the records."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from tests.ledger.worlds import DOLLAR, AnvilWorld
from tests.validator.audited import SMALL

from isochrone.lab.invented import Invented, Settled, reader
from isochrone.ledger.anvil import Anvil, AnvilSpec
from isochrone.ledger.errors import WrongChain
from isochrone.records.store import Store
from isochrone.rules.roots import signing_digest, statement
from isochrone.rules.settlement import settle
from isochrone.schema import typed_data
from isochrone.schema.settlement import EpochInput
from isochrone.schema.settling import PublishedEpoch
from isochrone.schema.typed_data import NO_CONTRACT
from isochrone.validator.audit_chain import audit_urls
from isochrone.validator.checking import check

pytestmark = pytest.mark.processes


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing on the tests' output."""


class Town:
    """Bonded parties on a real chain, and one epoch of theirs, settled and posted."""

    def __init__(self, url: str, folder: Path) -> None:
        self.world = AnvilWorld(url)
        self.store = Store.open(folder)
        shape = msgspec.structs.replace(SMALL, validators=3)
        self.network = Invented(shape, self.world.deployment)
        self._bond()
        self._deposit()
        self.world.pass_epochs(3)
        self.epoch = self.world.epoch()
        self.world.pass_epochs(1)
        self.world.mine(3)

    def _bond(self) -> None:
        for bond in self.network.bonds():
            names = {self.network.key(label).address: label for label in self._labels()}
            account = self.network.key(names[bond.account])
            machines = [self.network.key(names[key]) for key in bond.keys]
            if bond.role == "validator":
                self.world.bond(account, "validator", 100, voting_key=machines[0])
                continue
            self.world.bond(account, bond.role, 100)
            bonds = self.world.contracts.bonds
            consents = [(key.address, bonds.consent(account.address, key)) for key in machines]
            bonds.add_keys(account, bond.role, consents)

    def _labels(self) -> list[str]:
        shape = self.network.shape
        named = [f"{role}-{n}" for role in ("provider", "operator") for n in range(2)]
        named += [f"node-{n}" for n in range(shape.nodes)]
        named += [f"{what}-{n}" for what in ("validator", "signing") for n in range(3)]
        return [*named, "controller-0", *(f"gateway-0-{n}" for n in range(shape.gateways))]

    def _deposit(self) -> None:
        spending = self.network.key("spending")
        for number in range(self.network.shape.tenants):
            tenant = self.network.key(f"tenant-{number}")
            service, _ = self.network.service(number)
            purpose = typed_data.purpose_of(service)
            self.world.deposit(tenant, purpose, 10)
            consent = typed_data.spending_consent(
                self.network.domain, tenant.address, purpose, spending.address
            )
            self.world.contracts.vault.allow(
                tenant, purpose, spending.address, DOLLAR, spending.sign(consent)
            )

    def settled(self) -> Settled:
        """Settle as a proposer does, with the chain's own snapshots, and post the root."""
        snapshots, chain = self.world.snapshots(), self.world.chain
        unpaid = replace(self.network.records(self.epoch), chain=snapshots.take(self.epoch))
        vouchers = self.network.paid(self.epoch, unpaid, settle(self._checked(unpaid))).vouchers
        for voucher in vouchers:
            self.world.contracts.vault.redeem(self.network.key("provider-0"), voucher)
        self.world.mine(3)
        paid = replace(unpaid, vouchers=vouchers, chain=snapshots.take(self.epoch, chain.final()))
        manifest = self.network.manifest(self.store, self.epoch, paid, "")
        settlement = settle(check(manifest, reader(self.store)))
        said = statement(settlement.books, manifest)
        digest = signing_digest(self.world.deployment, said)
        signatures = tuple(self.network.key(f"signing-{n}").sign(digest) for n in range(3))
        self.world.contracts.vault.post_root(self.network.key("provider-0"), said, signatures)
        self.world.mine(3)
        self.store.publish(PublishedEpoch(statement=said, signatures=signatures))
        return Settled(paid, manifest, settlement, said)

    def _checked(self, records: object) -> EpochInput:
        draft = self.network.manifest(self.store, self.epoch, records, "")  # type: ignore[arg-type]
        return check(draft, reader(self.store))


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    anvil = Anvil.start(AnvilSpec(state=folder / "chain" / "state.json", block_s=0))
    try:
        yield Town(anvil.url, folder / "store")
    finally:
        anvil.stop()


@pytest.fixture(scope="module")
def settled(town: Town) -> Settled:
    return town.settled()


@pytest.fixture(scope="module")
def records_url(town: Town) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=town.store.name)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_two_urls_are_enough(
    town: Town, settled: Settled, records_url: str, tmp_path: Path
) -> None:
    assert settled.statement.total_microusd > 0
    result = audit_urls([town.world.url], records_url, town.epoch, tmp_path)
    assert result.difference is None
    assert [epoch.root for epoch in result.epochs] == [settled.statement.root]
    assert result.assumed == "", "the first epoch of a network assumes nothing"


def test_a_lie_in_the_records_is_found_over_http(
    town: Town, settled: Settled, records_url: str, tmp_path: Path
) -> None:
    file = settled.manifest.files[0]
    path = Path(town.store.name) / "sha256" / file.sha256
    content = path.read_bytes()
    try:
        path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
        result = audit_urls([town.world.url], records_url, town.epoch, tmp_path)
    finally:
        path.write_bytes(content)
    assert result.exit_status == 1
    assert result.difference is not None
    assert file.sha256 in result.difference.published


def test_another_deployment_is_not_believed(
    town: Town, settled: Settled, records_url: str, tmp_path: Path
) -> None:
    elsewhere = msgspec.structs.replace(town.world.deployment, vault=NO_CONTRACT)
    with pytest.raises(WrongChain):
        audit_urls([town.world.url], records_url, town.epoch, tmp_path, deployment=elsewhere)
