"""What can go wrong between us and a chain.

``ChainUnreachable``, ``ChainSlow`` and ``ChainRewound`` pass by themselves: settlement waits and
catches up. ``ChainDisagrees`` and ``WrongChain`` need a person: somebody lies or is misconfigured.
``Reverted`` is the contract's own no.
"""

from __future__ import annotations

from isochrone.schema.errors import InvalidInput, OurFault, Retry, TheirFault, Timeout, Unavailable


class ChainUnreachable(Unavailable):
    """No RPC server gave an answer before the deadline."""

    code = "chain_unreachable"
    retry: Retry = "here"


class ChainSlow(Timeout):
    """A transaction is not in a block (or not final) within its time; it may still get there."""

    code = "chain_slow"
    retry: Retry = "here"


class ChainRewound(OurFault):
    """A block that was final is gone, or the block that was read at has been replaced: do again."""

    code = "chain_rewound"
    status = 503
    retry: Retry = "here"


class ChainDisagrees(OurFault):
    """Two RPC servers, or a server's logs and its state, tell different facts about money."""

    code = "chain_disagrees"
    status = 502


class WrongChain(InvalidInput):
    """The URL leads to another chain, or other contracts, than the deployment says."""

    code = "wrong_chain"


class Reverted(TheirFault):
    """The contract refused. ``reason``: its own words, as ``vault: not final``; may be empty."""

    code = "reverted"
    status = 409

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"The chain refused {what}: {reason or 'no reason given'}.")
        self.reason = reason


class NoState(Unavailable):
    """The server has forgotten the state of so old a block (it is no archive)."""

    code = "no_state"
