"""What the verbs about money share: which chain, which contracts, whose records, dollar amounts.

The deployment and the URLs come from options, else from the environment, else from what the gateway
tells about its cell's ledger. On a local chain (an anvil of one's own) ether and test dollars are
made where they are missing, and the verb says so; on any other chain they must be there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from isochrone.cli.context import gateway_url, public_admin
from isochrone.schema.deployment import Deployment
from isochrone.schema.errors import InvalidInput, NotFound
from isochrone.schema.identity import PrivateKey, is_address
from isochrone.schema.settling import LedgerView

if TYPE_CHECKING:
    from isochrone.ledger.contracts import Contracts
    from isochrone.records.store import Store

MICRO = 1_000_000
AMOUNT_MAX = 10**12
"""A million dollars: more is a slip of the finger."""

ETHER_WEI_MIN = 10**17
"""Below a tenth of an ether a local chain's account gets new ether before it acts."""


class Dollars(click.ParamType[int]):
    """US dollars with at most six decimals, as whole micro-dollars (int)."""

    name = "usd"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Micro-dollars from text; a usage error for anything else."""
        if isinstance(value, int):
            return value
        try:
            micro = Decimal(str(value).removeprefix("$")) * MICRO
        except InvalidOperation:
            self.fail(f"{value!r} is not an amount in US dollars.", param, ctx)
        if not micro.is_finite() or micro != micro.to_integral_value():
            self.fail(f"{value!r} has more than six decimals.", param, ctx)
        if not 0 < micro <= AMOUNT_MAX:
            self.fail(f"{value!r} is not between 0.000001 and {AMOUNT_MAX // MICRO:,}.", param, ctx)
        return int(micro)


DOLLARS = Dollars()


def dollars(microusd: int) -> str:
    """Whole micro-dollars as dollars, all six decimals: ``$0.000042``, ``-$1.500000``."""
    sign, value = ("-", -microusd) if microusd < 0 else ("", microusd)
    return f"{sign}${value // MICRO:,}.{value % MICRO:06d}"


def read_address(text: str) -> str:
    """An account's address as people write it, in lower case; raises InvalidInput."""
    if not is_address(text.lower()):
        raise InvalidInput(f"{text[:60]!r} is not an address.", fix="One is 0x and 40 hex digits.")
    return text.lower()


class Money:
    """The ledger that a verb works with; nothing is asked before it is needed."""

    def __init__(
        self, gateway: str | None, urls: tuple[str, ...], deployment: str | None, records: str = ""
    ) -> None:
        self._gateway = gateway
        self._urls = urls or tuple(filter(None, os.environ.get("ISOCHRONE_CHAIN", "").split(",")))
        self._file = deployment or os.environ.get("ISOCHRONE_DEPLOYMENT", "")
        self._records = records or os.environ.get("ISOCHRONE_RECORDS", "")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Money:
        """By a verb's options (``chain_options``, ``gateway_option``)."""
        return cls(options["gateway"], options["chain_urls"], options["deployment"])

    @cached_property
    def view(self) -> LedgerView:
        """What the gateway tells; raises Unavailable when it does not answer."""
        with public_admin(self._gateway) as client:
            return client.ledger()

    @cached_property
    def deployment(self) -> Deployment:
        """The contracts' addresses; raises InvalidInput where nothing is settled."""
        if self._file:
            from isochrone.ledger.deploy import read_deployment

            return read_deployment(Path(self._file))
        found = self.view.deployment
        if not found.settles:
            raise InvalidInput(
                f"The cell behind {gateway_url(self._gateway)} has no ledger: nothing is paid.",
                fix="Start one with `isochrone up`, or name another --gateway.",
                code="no_ledger",
            )
        return found

    @cached_property
    def urls(self) -> tuple[str, ...]:
        """The chain's JSON-RPC URLs."""
        found = self._urls or tuple(filter(None, (self.view.chain_url,)))
        if not found:
            raise InvalidInput(
                "No JSON-RPC URL of the chain is known.",
                fix="Give --chain URL (twice, to compare two servers).",
            )
        return found

    @cached_property
    def contracts(self) -> Contracts:
        """The contracts over the chain."""
        from isochrone.ledger.contracts import Contracts
        from isochrone.ledger.evm import EvmChain

        chain = EvmChain(self.urls, chain_id=self.deployment.chain_id)
        return Contracts(chain, self.deployment)

    @cached_property
    def records_url(self) -> str:
        """Where validators' records are read."""
        if self._records:
            return self._records
        if not self.view.records_urls:
            raise NotFound(
                "The gateway names no validator's records.", fix="Give --records URL or a folder."
            )
        return self.view.records_urls[0]

    @cached_property
    def store(self) -> Store:
        """The records."""
        from isochrone.records.store import Store

        return Store.open(self.records_url)

    def fuel(self, key: PrivateKey, microusd: int = 0) -> None:
        """On a local chain: make the ether and the test dollars that ``key`` lacks, and say so."""
        from isochrone.ledger.anvil import give_ether, is_local

        if not is_local(self.urls[0]):
            return
        chain, token = self.contracts.chain, self.contracts.token
        if chain.ether(key.address) < ETHER_WEI_MIN:
            give_ether(self.urls[0], key.address)
        lacking = microusd - token.balance_of(key.address)
        if lacking > 0:
            token.mint(key, key.address, lacking)
            click.echo(f"Local chain: made {dollars(lacking)} of test dollars.", err=True)


Command = Callable[..., Any]


def chain_options(command: Command) -> Command:
    """``--chain URL`` (several are compared) and ``--deployment FILE``."""
    command = click.option(
        "--deployment", metavar="FILE", help="The contracts' addresses (default: the gateway's)."
    )(command)
    return click.option(
        "--chain",
        "chain_urls",
        metavar="URL",
        multiple=True,
        help="JSON-RPC of the chain; given twice, both must agree (default: the gateway's).",
    )(command)


def records_option(command: Command) -> Command:
    """``--records URL``."""
    return click.option(
        "--records",
        "records_url",
        default="",
        metavar="URL",
        help="A validator's store, bucket or folder (default: the gateway's).",
    )(command)
