"""Who bonds in a world: its providers, an operator for each cell, its validators; and their keys.

Every account has a key file of its own in the world's folder, made when it is first asked for, so
the chain can know all of them before a process runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from isochrone.cell import parts
from isochrone.cell.cell import Cell
from isochrone.lab.bank import Bank
from isochrone.lab.world import World
from isochrone.schema.deployment import Role
from isochrone.schema.identity import PrivateKey


class Accounts:
    """The accounts of a world whose files lie in ``folder``."""

    def __init__(self, world: World, folder: Path) -> None:
        self._world = world
        self._folder = folder

    @property
    def providers(self) -> tuple[str, ...]:
        """Names of the providers."""
        return tuple(sorted({site.provider for site in self._world.node_sites}))

    def provider(self, name: str) -> PrivateKey:
        """The key of a provider's account."""
        return PrivateKey.load_or_create(self._folder / "providers" / f"{name}.key")

    def operator(self, cell: str) -> PrivateKey:
        """The key of the account that runs a cell."""
        return PrivateKey.load_or_create(self._folder / "operators" / f"{cell}.key")

    def validators(self) -> dict[tuple[str, int], PrivateKey]:
        """The validators' keys by cell and number; each is its own account."""
        return {
            (cell.name, number): PrivateKey.load_or_create(
                self._folder / f"cell-{cell.name}" / f"validator-{number}" / "validator.key"
            )
            for cell in self._world.cells
            for number in range(1, cell.validators + 1)
        }

    def validators_elsewhere(self, cell: str) -> tuple[str, ...]:
        """Addresses of the validators of other cells."""
        return tuple(key.address for (at, _), key in self.validators().items() if at != cell)

    def bonds(self) -> list[tuple[Role, PrivateKey]]:
        """Who bonds as what."""
        bonds: list[tuple[Role, PrivateKey]] = [
            ("provider", self.provider(name)) for name in self.providers
        ]
        bonds += [("operator", self.operator(cell.name)) for cell in self._world.cells]
        bonds += [("validator", key) for key in self.validators().values()]
        return bonds

    def sign_for_machines(self, bank: Bank, cells: Mapping[str, Cell]) -> None:
        """Gateways' and controllers' keys work for their operators, nodes' for their providers.

        Blocking.
        """
        for site in self._world.cells:
            config = cells[site.name].config
            machines = [parts.gateway_key(config, n + 1) for n in range(config.gateways)]
            machines += [parts.controller_key(config, n + 1) for n in range(config.controllers)]
            bank.sign_for("operator", self.operator(site.name), machines)
        for name in self.providers:
            own = [
                PrivateKey.load_or_create(self._folder / f"node-{site.name}" / "node.key")
                for site in self._world.node_sites
                if site.provider == name
            ]
            bank.sign_for("provider", self.provider(name), own)
