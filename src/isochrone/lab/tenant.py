"""A tenant (or operator) of the lab: runs the same ``isochrone`` command as anybody."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from isochrone.client.admin import AdminClient
from isochrone.lab.network import environment
from isochrone.schema.errors import OurFault
from isochrone.schema.identity import PrivateKey

COMMAND_S = 120.0


class Tenant:
    """Someone in a city with keys of their own, calling one gateway through their own links.

    ``resolve``: the links of their city (announced address -> port to dial).
    """

    def __init__(self, home: Path, gateway_url: str, resolve: dict[str, str]) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.gateway_url = gateway_url
        self.resolve = resolve
        path = home / "resolve.json"
        path.write_bytes(msgspec.json.encode(resolve))
        self._environment = environment(home, gateway_url, path)

    async def run(self, *arguments: str) -> str:
        """Run ``isochrone ARGUMENTS``; returns its output, raises OurFault with what it said."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "isochrone.cli",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(COMMAND_S):
                out, err = await process.communicate()
        except BaseException:
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            said = err.decode(errors="replace").strip()
            raise OurFault(f"`isochrone {' '.join(arguments)}` failed: {said}")
        return out.decode()

    def key(self, role: str) -> PrivateKey:
        """This person's key of a role."""
        return PrivateKey.load_or_create(self.home / "keys" / f"{role}.key")

    def admin(self, role: str = "tenant", gateway_url: str = "") -> AdminClient:
        """The SDK's client with this person's key."""
        return AdminClient(gateway_url or self.gateway_url, self.key(role), resolve=self.resolve)
