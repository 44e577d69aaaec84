"""Where a person's keys and settings lie, and the options that every verb shares.

Home: ``$ISOCHRONE_HOME``, else ``~/.isochrone``: ``config.json`` (gateway URL), ``keys/`` (one
file a role), ``cell/`` (what ``up`` runs). The gateway is ``--gateway``, else
``$ISOCHRONE_GATEWAY``, else the configured one. ``$ISOCHRONE_RESOLVE`` may name a JSON file
{announced "host:port": "host:port" to dial}.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from isochrone.client.admin import AdminClient
from isochrone.schema.admin import ServiceView
from isochrone.schema.errors import InvalidInput, NotFound
from isochrone.schema.identity import PrivateKey
from isochrone.schema.service import Service

ROLES = ("tenant", "provider", "operator", "validator")
DEFAULT_GATEWAY = "http://127.0.0.1:8080"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """``config.json``: what `up` and the user set once."""

    gateway: str = ""


def home() -> Path:
    """The folder of this person's keys and settings."""
    return Path(os.environ.get("ISOCHRONE_HOME") or Path.home() / ".isochrone")


def settings() -> Settings:
    """The stored settings; empty ones when there are none."""
    path = home() / "config.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Settings)
    except FileNotFoundError:
        return Settings()
    except msgspec.DecodeError as error:
        raise InvalidInput(
            f"{path} cannot be read: {error}.", fix="Mend it or remove it."
        ) from error


def save_settings(new: Settings) -> None:
    """Write ``config.json``."""
    home().mkdir(parents=True, exist_ok=True)
    (home() / "config.json").write_bytes(msgspec.json.encode(new) + b"\n")


def key_path(role: str) -> Path:
    """The key file of a role."""
    return home() / "keys" / f"{role}.key"


def load_key(role: str, path: str | None = None) -> PrivateKey:
    """The key of a role; raises InvalidInput when there is none yet."""
    if path and not Path(path).is_file():
        raise InvalidInput(f"There is no key file {path}.", fix="Check what --key names.")
    place = Path(path) if path else key_path(role)
    if not place.exists():
        raise InvalidInput(
            f"There is no {role} key at {place}.",
            fix=f"Make one with `isochrone keys init {role}`.",
        )
    return PrivateKey.load_or_create(place)


def gateway_url(option: str | None) -> str:
    """The gateway to talk to."""
    return option or os.environ.get("ISOCHRONE_GATEWAY") or settings().gateway or DEFAULT_GATEWAY


def resolve_map() -> dict[str, str]:
    """The address overrides, if a file of them is named."""
    path = os.environ.get("ISOCHRONE_RESOLVE")
    if not path:
        return {}
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError) as error:
        raise InvalidInput(
            f"ISOCHRONE_RESOLVE: {path} cannot be read ({error}).",
            fix="It names a JSON file of host names and addresses; unset it to use DNS.",
        ) from error


def admin(gateway: str | None, role: str = "tenant", key: str | None = None) -> AdminClient:
    """An admin client signing as ``role``."""
    return AdminClient(gateway_url(gateway), load_key(role, key), resolve=resolve_map())


def public_admin(gateway: str | None) -> AdminClient:
    """An admin client for public calls only."""
    return AdminClient(gateway_url(gateway), resolve=resolve_map())


def any_admin(gateway: str | None, key: str | None = None, first: str = "operator") -> AdminClient:
    """An admin client signing with a key that this person has: ``first``, else any other.

    Verbs that show everything there is ask as the operator; those about one service, whose name
    is the signer's, ask as the tenant.
    """
    if key:
        return admin(gateway, key=key)
    for role in (first, "operator", "tenant", "provider"):
        if key_path(role).exists():
            return admin(gateway, role)
    return admin(gateway)


def require_service(client: AdminClient, name: str) -> ServiceView:
    """The signer's living service of that name or id; raises NotFound with the nearest names."""
    views = {view.name: view for view in client.services() if not view.deleted}
    views |= {view.service: view for view in views.values()}
    if name in views:
        return views[name]
    names = sorted({view.name for view in views.values()})
    near = difflib.get_close_matches(name, names, 3)
    yours = f"Yours: {', '.join(names)}." if names else "Declare one with `isochrone apply`."
    raise NotFound(
        f"You have no service {name[:80]!r} at this gateway.",
        fix=f"Did you mean {', '.join(near)}?" if near else yours,
    )


def next_revision(client: AdminClient, service: Service) -> Service:
    """A declaration as the gateway takes it: the next revision, at home where it is already."""
    home_cell = client.door().cell
    known = [view for view in client.services() if view.name == service.name]
    revision = max((view.revision for view in known), default=0) + 1
    kept_home = next((view.home_cell for view in known if not view.deleted), home_cell)
    return msgspec.structs.replace(service, revision=revision, home_cell=kept_home)


Command = Callable[..., Any]


def gateway_option(command: Command) -> Command:
    """``--gateway URL`` and ``--key FILE``."""
    command = click.option("--key", metavar="FILE", help="Key file to sign with.")(command)
    return click.option("--gateway", metavar="URL", help="Gateway to talk to.")(command)


def output_option(command: Command) -> Command:
    """``-o table|json``."""
    return click.option(
        "-o",
        "output",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="Table for people, JSON for programs.",
    )(command)
