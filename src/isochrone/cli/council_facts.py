"""What the council's disputes and proposals are at, read from the chain for the verbs about them.

Numbers of disputes and proposals are 256-bit hashes: people see and type the first hex digits, as
with commits. A state is one word and one sentence, with the time or block when it changes.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from isochrone.cli.chain_context import Money
from isochrone.cli.tables import utc
from isochrone.ledger.chain import Event
from isochrone.schema.deployment import ROLES, Role
from isochrone.schema.errors import InvalidInput, NotFound
from isochrone.schema.identity import recover
from isochrone.schema.parameters import PARAMETERS

SHOWN_HEX = 12
"""Digits of a number in tables: 48 bits do not collide by chance."""


class DisputeRow(msgspec.Struct, frozen=True, kw_only=True):
    """One dispute as ``dispute`` shows it. ``state``: waiting, drawable, judging, expired (all
    four still to be ended), guilty, acquitted; ``next``: what can happen now, or when."""

    dispute: str
    accused: str
    role: Role
    amount_microusd: int
    harmed: str
    opener: str
    bond_microusd: int
    evidence: str
    deadline_unix_s: int
    state: str
    next: str


class ProposalRow(msgspec.Struct, frozen=True, kw_only=True):
    """One proposal. ``state``: voting, timelocked, executable, executed, failed, lapsed."""

    proposal: str
    name: str
    value: int
    support_microusd: int
    total_microusd: int
    state: str
    next: str


class ParameterRow(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter: its value now, in two epochs (what has been decided), and its limits."""

    name: str
    value: int
    decided: int
    minimum: int
    maximum: int


def disputes(money: Money) -> list[DisputeRow]:
    """All disputes ever opened, the newest first."""
    contracts = money.contracts
    events = _events(money)
    verdicts = {e.args["dispute"]: e.args["guilty"] for e in events if e.name == "Decided"}
    return [
        _dispute_row(money, event, verdicts.get(event.args["dispute"]))
        for event in reversed(events)
        if event.name == "Opened" and event.contract == contracts.council.contract
    ]


def _dispute_row(money: Money, event: Event, verdict: bool | None) -> DisputeRow:
    args = event.args
    state, following = _dispute_state(money, args["dispute"], verdict)
    return DisputeRow(
        dispute=f"{args['dispute']:064x}",
        accused=args["accused"],
        role=ROLES[args["role"]],
        amount_microusd=args["amount"],
        harmed=args["harmed"],
        opener=args["opener"],
        bond_microusd=args["bond"],
        evidence=args["evidence"].hex(),
        deadline_unix_s=args["deadline"],
        state=state,
        next=following,
    )


def _dispute_state(money: Money, dispute: int, verdict: bool | None) -> tuple[str, str]:
    if verdict is not None:
        return ("guilty" if verdict else "acquitted"), ""
    case = money.contracts.council.dispute(dispute)
    head, (first, last) = money.contracts.chain.head(), draw_blocks(money, case.hash_block)
    if head.timestamp_s > case.deadline:
        return "expired", "`isochrone dispute close`: acquitted"
    if any(case.seed):
        return "judging", f"verdict until {utc(case.deadline)}"
    # A transaction sent now is in the next block at the earliest.
    if head.number + 1 < first:
        return "waiting", f"draw in block {first:,} to {last:,}; now {head.number:,}"
    if head.number + 1 <= last:
        return "drawable", f"`isochrone dispute draw` until block {last:,}"
    return "expired", "its draw was missed; `isochrone dispute close`: acquitted"


def draw_blocks(money: Money, hash_block: int) -> tuple[int, int]:
    """The first and the last block that may draw a jury."""
    contract = money.contracts.council.contract
    window = int(money.contracts.chain.view(contract, "DRAW_BLOCKS"))
    return hash_block + 2, hash_block + 1 + window


def proposals(money: Money) -> list[ProposalRow]:
    """All proposals ever made, the newest first."""
    rows = []
    for event in reversed(_events(money)):
        if event.name == "Proposed":
            number = event.args["proposal"]
            found = money.contracts.council.proposal(number)
            state, following = _proposal_state(money, found.deadline, found.passed_at)
            rows.append(
                ProposalRow(
                    proposal=f"{number:064x}",
                    name=event.args["name"].rstrip(b"\0").decode(errors="replace"),
                    value=event.args["value"],
                    support_microusd=found.support,
                    total_microusd=found.total,
                    state="executed" if found.executed else state,
                    next="" if found.executed else following,
                )
            )
    return rows


def _proposal_state(money: Money, deadline: int, passed_at: int) -> tuple[str, str]:
    now_s, timelock_s = (
        money.contracts.chain.head().timestamp_s,
        money.contracts.council.timelock_s(),
    )
    if not passed_at:
        if now_s > deadline:
            return "failed", ""
        return "voting", f"more than half by {utc(deadline)}"
    if now_s < passed_at + timelock_s:
        return "timelocked", f"executable from {utc(passed_at + timelock_s)}"
    if now_s <= passed_at + 2 * timelock_s:
        return "executable", f"`isochrone council execute` by {utc(passed_at + 2 * timelock_s)}"
    return "lapsed", ""


def parameters(money: Money) -> list[ParameterRow]:
    """All parameters."""
    council = money.contracts.council
    epoch = epoch_now(money)
    return [
        ParameterRow(
            name=parameter.name,
            value=council.parameter_at(parameter.name, epoch),
            decided=council.parameter_at(parameter.name, epoch + 2),
            minimum=parameter.minimum,
            maximum=parameter.maximum,
        )
        for parameter in PARAMETERS
    ]


def epoch_now(money: Money) -> int:
    """The epoch of the chain's newest block."""
    return money.deployment.epoch_at(money.contracts.chain.head().timestamp_s * 1000)


def find_number(known: Iterable[str], text: str, noun: str) -> int:
    """The one dispute or proposal whose hex number begins with ``text``."""
    prefix = text.lower().removeprefix("0x")
    found = [number for number in known if prefix and number.startswith(prefix)]
    if len(found) > 1:
        raise InvalidInput(f"{text[:64]} begins {len(found)} {noun}s.", fix="Give more digits.")
    if not found:
        raise NotFound(
            f"There is no {noun} {text[:64]!r}.",
            fix=f"`isochrone {'council' if noun == 'proposal' else noun}` lists them.",
        )
    return int(found[0], 16)


def written(address: str, signature: bytes) -> str:
    """A signature as it is passed on: ``ADDRESS:HEX``."""
    return f"{address}:{signature.hex()}"


def read_signature(digest: bytes, text: str) -> bytes:
    """A signature (65 bytes) that ``written`` made for ``digest``; raises InvalidInput.

    One under anything else would recover to a stranger and count nothing, so it is refused here,
    where somebody can ask for the right one.
    """
    address, _, word = text.partition(":")
    try:
        signature = bytes.fromhex(word)
    except ValueError:
        signature = b""
    if len(signature) != 65:
        raise InvalidInput(f"{text[:60]!r} is not ADDRESS:HEX.", fix="Give what `sign` printed.")
    if recover(digest, signature) != address.lower():
        raise InvalidInput(
            f"{address[:42]} has not signed this.",
            fix="Was it signed for another number, another verdict, or another network?",
        )
    return signature


def _events(money: Money) -> list[Event]:
    chain, council = money.contracts.chain, money.contracts.council
    return chain.events([council.contract], money.deployment.block, chain.head())
