"""``isochrone keys``: identities (private key files) and the API keys that tenants hand out."""

from __future__ import annotations

import re
import secrets
import time
from pathlib import Path
from typing import get_args

import click
import msgspec

from isochrone.cli.context import (
    ROLES,
    admin,
    gateway_option,
    home,
    key_path,
    load_key,
    output_option,
)
from isochrone.cli.tables import area, print_json, print_table
from isochrone.schema import apikey
from isochrone.schema.errors import Forbidden, InvalidInput, NotFound
from isochrone.schema.identity import PrivateKey
from isochrone.schema.place import Evidence
from isochrone.schema.service import Residency

NONCE_BYTES = 12
KEY_ID = re.compile(r"[0-9a-f]{32}")


class StoredKey(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of a minted key; never the key itself. The last word on an id counts."""

    id: str
    services: tuple[str, ...]
    residency: Residency
    expires_unix_s: int
    note: str
    revoked: bool = False


@click.group("keys")
def command() -> None:
    """Make, list and revoke keys."""


@command.command("init")
@click.argument("role", type=click.Choice(ROLES), default="tenant")
@output_option
def init(role: str, output: str) -> None:
    """Make the private key of a role (kept when there is one) and print its address."""
    path = key_path(role)
    existed = path.exists()
    key = PrivateKey.load_or_create(path)
    if output == "json":
        print_json({"role": role, "address": key.address, "made": not existed, "path": str(path)})
        return
    click.echo(f"{role} {key.address} ({'kept' if existed else 'made'}: {path})")


@command.command("create")
@click.option(
    "--service", "services", multiple=True, required=True, help="A service of yours; repeat it."
)
@click.option(
    "--residency",
    "allow",
    multiple=True,
    help="Country or bloc where calls may go; repeat it. Default: what all the services allow.",
)
@click.option(
    "--evidence",
    type=click.Choice(get_args(Evidence)),
    help="With --residency: how places must be known. Default: as the services ask.",
)
@click.option(
    "--days",
    type=click.IntRange(0, 3650),
    default=90,
    show_default=True,
    help="Valid for so long; 0: no end.",
)
@click.option("--note", default="", help="For your own list.")
@gateway_option
@output_option
def create(
    services: tuple[str, ...],
    allow: tuple[str, ...],
    evidence: Evidence | None,
    days: int,
    note: str,
    gateway: str | None,
    key: str | None,
    output: str,
) -> None:
    """Make an API key for some of your services. Its residency lies inside each service's."""
    tenant = load_key("tenant", key)
    residency = _checked_residency(services, allow, evidence, gateway, key)
    grant = apikey.ApiGrant(
        services=services,
        residency=residency,
        expires_unix_s=int(time.time()) + days * 86400 if days else 0,
        nonce=secrets.token_bytes(NONCE_BYTES),
    )
    text = apikey.mint(grant, tenant)
    stored = StoredKey(
        id=apikey.read(text, time.time()).id,
        services=services,
        residency=residency,
        expires_unix_s=grant.expires_unix_s,
        note=note,
    )
    _remember(stored)
    if output == "json":
        print_json({"key": text, "id": stored.id})
    else:
        click.echo(text)


def _checked_residency(
    services: tuple[str, ...],
    allow: tuple[str, ...],
    evidence: Evidence | None,
    gateway: str | None,
    key: str | None,
) -> Residency:
    """The key's residency; raises NotFound or Forbidden when a service is missing or narrower.

    It asks for no more evidence than its services do, unless told to.
    """
    from isochrone.atlas.blocs import blocs
    from isochrone.rules.residency import inside, intersect, strongest

    with admin(gateway, key=key) as client:
        views = {view.name: view for view in client.services() if not view.deleted}
    missing = [name for name in services if name not in views]
    if missing:
        raise NotFound(
            f"You have no service {missing[0]!r} at this gateway.",
            fix=f"Yours: {', '.join(sorted(views)) or 'none yet; `isochrone apply` one'}.",
        )
    world = blocs()
    if not allow:
        common = views[services[0]].residency
        for name in services[1:]:
            common = intersect(common, views[name].residency, world)
        return common
    asked = evidence or strongest([views[name].residency for name in services], world)
    wanted = Residency(allow=allow, evidence=asked)
    for name in services:
        if not inside(wanted, views[name].residency, world):
            raise Forbidden(
                f"A key for {', '.join(allow)} ({asked}) would reach outside "
                f"{name}'s residency ({area(views[name].residency)}).",
                fix="Name a narrower --residency, or leave it out.",
            )
    return wanted


@command.command("list")
@output_option
def list_keys(output: str) -> None:
    """List the API keys made on this machine (their ids; the keys are not kept)."""
    keys = list(_stored().values())
    if output == "json":
        print_json(keys)
        return
    print_table(
        ("ID", "SERVICES", "RESIDENCY", "STATE", "EXPIRES", "NOTE"),
        [
            (
                k.id,
                ",".join(k.services),
                area(k.residency),
                _state(k),
                time.strftime("%Y-%m-%d", time.gmtime(k.expires_unix_s))
                if k.expires_unix_s
                else "never",
                k.note,
            )
            for k in keys
        ],
        "No API keys were made here; make one with `isochrone keys create --service NAME`.",
    )


@command.command("revoke")
@click.argument("key_or_id")
@gateway_option
@output_option
def revoke(key_or_id: str, gateway: str | None, key: str | None, output: str) -> None:
    """Make an API key void, by its id or by the key itself."""
    key_id = _key_id(key_or_id)
    with admin(gateway, key=key) as client:
        accepted = client.revoke(key_id)
    stored = _stored().get(key_id)
    if stored is not None:
        _remember(msgspec.structs.replace(stored, revoked=True))
    if output == "json":
        print_json(accepted)
        return
    click.echo(f"Revoked {accepted.key_id} (kept on {', '.join(accepted.kept)}).")


def _key_id(text: str) -> str:
    """The id of a key, an id, or the beginning of one that was made here."""
    if text.startswith(apikey.PREFIX):
        return apikey.read(text, 0).id
    if KEY_ID.fullmatch(text):
        return text
    ids = [key_id for key_id in _stored() if text and key_id.startswith(text)]
    if len(ids) != 1:
        raise InvalidInput(
            f"{text[:60]!r} is {'the beginning of several ids' if ids else 'no key and no id'}.",
            fix="`isochrone keys list` shows the ids of keys made here.",
        )
    return ids[0]


def _state(key: StoredKey) -> str:
    if key.revoked:
        return "revoked"
    return "expired" if key.expires_unix_s and key.expires_unix_s <= time.time() else "valid"


def _stored() -> dict[str, StoredKey]:
    """The keys made here, by id."""
    path = _list_path()
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
        keys = [msgspec.json.decode(line, type=StoredKey) for line in lines if line.strip()]
    except msgspec.DecodeError as error:
        raise InvalidInput(f"{path} cannot be read: {error}.", fix="Mend or remove it.") from error
    return {key.id: key for key in keys}


def _remember(key: StoredKey) -> None:
    home().mkdir(parents=True, exist_ok=True)
    with _list_path().open("ab") as file:
        file.write(msgspec.json.encode(key) + b"\n")


def _list_path() -> Path:
    return home() / "api_keys.jsonl"
