"""The cell's own chain as a part of it: its process, and the contracts and bonds on it.

Without anvil, or when the chain cannot be brought up, the cell starts all the same: it serves and
meters, settles nothing, and says why. A deployment that was made before is kept in ``chain.json``
and used even then, so that what is metered meanwhile can be settled when the chain is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from pathlib import Path

import msgspec

from isochrone.cell import parts
from isochrone.cell.chain import ChainConfig
from isochrone.cell.child import ChildSpec
from isochrone.cell.config import CellConfig, OwnChain
from isochrone.cell.founding import PAST_EPOCHS, Bonding, FoundingConfig
from isochrone.cell.ports import Ports
from isochrone.schema.deployment import NO_CHAIN, Deployment
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.errors import Timeout, Unavailable

FOUNDED_WITHIN_S = 60.0
"""Contracts and bonds take two seconds on an idle machine, web3's import one."""

CHAIN_GRACE_S = 12.0
"""Longer than anvil has for writing its state."""


def deployment_file(data_dir: Path) -> Path:
    """Where the addresses of the contracts on a cell's own chain stand."""
    return data_dir / "chain" / "chain.json"


def known_deployment(data_dir: Path) -> Deployment:
    """The deployment of a cell's earlier start; NO_CHAIN when there is none."""
    try:
        return msgspec.json.decode(deployment_file(data_dir).read_bytes(), type=Deployment)
    except (OSError, *UNREADABLE):
        return NO_CHAIN


def chain_part(config: CellConfig, own: OwnChain, ports: Ports) -> ChildSpec:
    """The chain's process."""
    folder = config.folder / "chain"
    told = ChainConfig(
        state=str(folder / "state.json"),
        port=ports.take("chain", parts.LOOPBACK, own.port),
        block_s=own.block_s,
        genesis_unix_s=_genesis_unix_s(folder, own),
        ready_file=str(folder / "ready.json"),
    )
    spec = parts.python_part("chain", folder, "isochrone.cell.chain", told)
    return msgspec.structs.replace(spec, grace_s=CHAIN_GRACE_S)


def _genesis_unix_s(folder: Path, own: OwnChain) -> int:
    """When epoch 0 began: written down at the first start, in the past (see ``founding``)."""
    path = folder / "genesis"
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    genesis = int(time.time()) - PAST_EPOCHS * own.epoch_s
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{genesis}\n")
    return genesis


async def founded(config: CellConfig, own: OwnChain, url: str) -> Deployment:
    """Contracts and bonds are there; the deployment. Raises Unavailable or Timeout with why not."""
    folder = config.folder / "chain"
    path = folder / "founding.json"
    told = FoundingConfig(
        url=url,
        deployment_file=str(deployment_file(config.folder)),
        deployer_key=str(folder / "deployer.key"),
        genesis_unix_s=_genesis_unix_s(folder, own),
        epoch_s=own.epoch_s,
        bonds=_bonds(config, own),
    )
    path.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "isochrone.cell.founding", str(path)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(FOUNDED_WITHIN_S):
            _, words = await process.communicate()
    except TimeoutError as error:
        raise Timeout(f"The contracts were not there within {FOUNDED_WITHIN_S:.0f} s.") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    deployment = known_deployment(config.folder)
    if process.returncode or not deployment.settles:
        last = words.decode(errors="replace").strip().splitlines()[-1:]
        raise Unavailable(f"The contracts cannot be used: {' '.join(last) or 'without a word'}")
    return deployment


def _bonds(config: CellConfig, own: OwnChain) -> tuple[Bonding, ...]:
    """Who is bonded here: the operator, the validators, and the local node's provider."""
    folder = config.folder
    gateways = [folder / f"gateway-{n + 1}" / "gateway.key" for n in range(config.gateways)]
    controllers = [
        folder / f"controller-{n + 1}" / "controller.key" for n in range(config.controllers)
    ]
    bonds = [
        Bonding(
            role="operator",
            account=own.operator_key or str(folder / "operator.key"),
            machines=tuple(map(str, (*gateways, *controllers))),
        )
    ]
    for number in range(1, config.validators + 1):
        account = folder / f"validator-{number}" / "validator.key"
        bonds.append(Bonding(role="validator", account=str(account)))
    if config.node is not None:
        provider = config.node.provider_key or str(folder / "provider.key")
        node = folder / "node-1" / "node.key"
        bonds.append(Bonding(role="provider", account=provider, machines=(str(node),)))
    return tuple(bonds)
