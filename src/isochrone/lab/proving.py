"""The demonstration's act about places: who is proven to be in the European Union, and who is not.

Nothing here measures. Gateways and validators of the world do, over their emulated links, from the
moment that nodes join; tenant and operator read the result with the verb that anybody has. Nodes in
the city of three validators are proven; those in other cities are as honest, and no vantage is near
enough to show it: a service that must stay in the Union runs only on the former.
"""

from __future__ import annotations

import asyncio
import importlib.util
import time
from pathlib import Path

from isochrone.atlas.blocs import bloc_members
from isochrone.lab.network import Network, NodeProcess
from isochrone.lab.story import Story
from isochrone.lab.tenant import Tenant
from isochrone.schema.errors import Timeout
from isochrone.schema.place import Evidence

PROVEN_WITHIN_S = 60.0
"""Vantages measure newcomers at once; a machine at its limit takes several bursts."""

POLL_S = 0.5
UNION = "EU"


class Proving:
    """``wait`` until the nodes beside the validators are proven, then ``tell``."""

    def __init__(self, story: Story, network: Network, operator: Tenant, metro: str) -> None:
        """``metro``: where enough validators stand to prove something."""
        self._story = story
        self._network = network
        self._operator = operator
        self._metro = metro

    async def wait(self) -> float:
        """Seconds until every node of the metro is proven inside the Union; raises Timeout."""
        began_s = time.monotonic()
        near = self._near()
        while True:
            found = {node.site.name: await self.evidence(node) for node in near}
            late = sorted(name for name, evidence in found.items() if evidence != "physical")
            if not late:
                return time.monotonic() - began_s
            if time.monotonic() - began_s > PROVEN_WITHIN_S:
                raise Timeout(
                    f"Not proven after {PROVEN_WITHIN_S:g} s: {', '.join(late)}.",
                    fix="On a busy machine the emulated links are late, and lateness is distance.",
                )
            await asyncio.sleep(POLL_S)

    async def evidence(self, node: NodeProcess) -> Evidence:
        """The class of evidence by which the gateway knows that a node is inside the Union."""
        with self._operator.admin("operator") as client:
            view = await asyncio.to_thread(client.place, node.address)
        return view.evidence.get(UNION, "declared")

    async def tell(self, folder: Path) -> int:
        """Say what is known of every node of the Union; how many are proven.

        Draws one node's discs into ``folder`` where matplotlib is installed.
        """
        proven = 0
        inside = bloc_members(UNION)
        for node in self._network.world_nodes.values():
            if node.site.place.country not in inside:
                continue
            evidence = await self.evidence(node)
            proven += evidence == "physical"
            self._story.say(f"{node.site.name} ({node.site.metro}): {evidence}")
        near = self._near()[0]
        image = folder / "place.png"
        drawn = importlib.util.find_spec("matplotlib") is not None
        options = ("--map", str(image)) if drawn else ()
        self._story.say(f"$ isochrone place {near.address[:10]} {' '.join(options)}")
        self._story.say(await self._operator.run("place", near.address, *options))
        return proven

    def _near(self) -> list[NodeProcess]:
        nodes = self._network.world_nodes.values()
        return [node for node in nodes if node.site.metro == self._metro]
