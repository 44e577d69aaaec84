"""A service that nobody calls: it goes to zero, its first callers wake it, and it goes back.

The callers are plain HTTP clients without retries: what they see is what the gateway did for them.
Their request is one that the service's engine answers, so an answer means that a replica really
started.
"""

from __future__ import annotations

import asyncio
import http.client
import time
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import yaml

from isochrone.lab.script import APPLY_WAIT_S, EXAMPLES
from isochrone.lab.tenant import Tenant
from isochrone.schema.errors import OurFault

NAME = "sleeper"
IDLE = "4s"
CALLERS = 8
ASLEEP_S = 40.0
"""Until it is at zero: idle time, the rule's own patience, draining."""

TIMEOUT_S = 30.0
REQUEST = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 8], "data": [0.0] * 8}]}


class Woken(msgspec.Struct, frozen=True, kw_only=True):
    """What the first callers of a sleeping service saw.

    ``woken_answered`` of ``woken_callers`` got their answer, the last of them after ``woken_ms``.
    ``slept_again``: it went back to zero when they had gone.
    """

    woken_callers: int
    woken_answered: int
    woken_ms: float
    slept_again: bool


async def declare(tenant: Tenant, folder: Path) -> str:
    """Declare the service; returns its API key."""
    declared = yaml.safe_load((EXAMPLES / "fraud-scorer.yaml").read_text())
    declared["model"]["path"] = str((EXAMPLES / declared["model"]["path"]).resolve())
    declared |= {"name": NAME, "replicas": "0..2", "scaling": {"idle": IDLE, "hold": "20s"}}
    path = folder / f"{NAME}.yaml"
    path.write_text(yaml.safe_dump(declared))
    await tenant.run("apply", "-y", "--wait", APPLY_WAIT_S, "-f", str(path))
    return (await tenant.run("keys", "create", "--service", NAME)).strip()


async def wake(tenant: Tenant, url: str, api_key: str) -> Woken:
    """Wait until it sleeps, call it from several callers at once, see it go back to sleep."""
    if not await _asleep(tenant):
        raise OurFault(f"{NAME} had not gone to zero replicas after {ASLEEP_S:g} s.")
    calls = [asyncio.to_thread(_call, url, api_key) for _ in range(CALLERS)]
    answers = await asyncio.gather(*calls)
    return Woken(
        woken_callers=CALLERS,
        woken_answered=sum(status == 200 for status, _ in answers),
        woken_ms=round(max(ms for _, ms in answers), 1),
        slept_again=await _asleep(tenant),
    )


async def _asleep(tenant: Tenant) -> bool:
    """Whether the service comes to have no replica in time."""
    deadline_s = time.monotonic() + ASLEEP_S
    with tenant.admin() as client:
        while time.monotonic() < deadline_s:
            replicas = await asyncio.to_thread(client.replicas, NAME)
            if all(replica.state == "ended" for replica in replicas):
                return True
            await asyncio.sleep(0.5)
    return False


def _call(url: str, api_key: str) -> tuple[int, float]:
    """One request: status (0: no answer) and how long it took, milliseconds."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    headers = {"Authorization": f"Bearer {api_key}", "content-type": "application/json"}
    body = msgspec.json.encode(REQUEST)
    begun_s = time.monotonic()
    try:
        connection.request("POST", f"/v2/models/{NAME}/infer", body=body, headers=headers)
        answer = connection.getresponse()
        answer.read()
        status = answer.status
    except (OSError, http.client.HTTPException):
        status = 0
    finally:
        connection.close()
    return status, (time.monotonic() - begun_s) * 1000
