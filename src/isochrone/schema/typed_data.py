"""EIP-712: what wallets, nodes, gateways, validators and contracts sign about money.

One domain serves the whole network: name ``Isochrone``, version ``1``, the chain's id and the
address of the *bonds* contract, so a signature made for another chain, or another deployment on
the same chain, recovers to a stranger. Every struct that the contracts check is declared here
once; ``contracts/modules/typed_data.vy`` declares the same type strings, and a differential test
compares the digests.

Source: EIP-712 (typed structured data hashing and signing).
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from isochrone.schema.digests import keccak256

DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
NAME = "Isochrone"
VERSION = "1"
NO_CONTRACT = "0x" + "0" * 40

TALLY_HEAD_TYPE = "TallyHead(bytes32 chain,uint64 position,bytes32 head)"
TENANT_COUNT_TYPE = "TenantCount(bytes32 chain,uint64 requests)"
ROOT_TYPE = (
    "Root(uint64 epoch,uint32 round,bytes32 root,uint256 total,bytes32 manifest,bytes32 rules)"
)
VETO_TYPE = "Veto(uint64 epoch,uint32 round,bytes32 root)"
VOUCHER_TYPE = "Voucher(address tenant,bytes32 purpose,uint256 cumulative)"
KEY_CONSENT_TYPE = "KeyConsent(address account,address key)"
SPENDING_CONSENT_TYPE = "SpendingConsent(address tenant,bytes32 purpose,address key)"
VERDICT_TYPE = "Verdict(uint256 dispute,bool guilty)"
RESOLUTION_TYPE = "Resolution(uint256 proposal,bool support)"
PAUSE_TYPE = "Pause(uint64 epoch)"


class Domain(msgspec.Struct, frozen=True, kw_only=True):
    """Where signatures count: the chain's id and the bonds contract (0x, 40 hex digits).

    The default is the domain of a network without a chain: metering and signing go on in it.
    """

    chain_id: int = 0
    contract: str = NO_CONTRACT


def word(value: int | bytes | str | bool) -> bytes:
    """One 32-byte ABI word: an unsigned integer, bytes32, an address (``0x``…) or a bool."""
    if isinstance(value, str):
        return bytes(12) + bytes.fromhex(value[2:])
    if isinstance(value, bytes):
        if len(value) != 32:
            raise ValueError("bytes32 has 32 bytes")
        return value
    return int(value).to_bytes(32, "big")


@lru_cache(maxsize=64)
def type_hash(declaration: str) -> bytes:
    """Keccak-256 of a type's declaration, 32 bytes."""
    return keccak256(declaration.encode())


@lru_cache(maxsize=16)
def separator(domain: Domain) -> bytes:
    """The domain separator, 32 bytes."""
    return keccak256(
        type_hash(DOMAIN_TYPE)
        + keccak256(NAME.encode())
        + keccak256(VERSION.encode())
        + word(domain.chain_id)
        + word(domain.contract)
    )


def signing_digest(domain: Domain, declaration: str, *fields: int | bytes | str | bool) -> bytes:
    """The 32 bytes that are signed for a struct of atomic ``fields`` in declared order."""
    struct_hash = keccak256(type_hash(declaration) + b"".join(word(field) for field in fields))
    return keccak256(b"\x19\x01" + separator(domain) + struct_hash)


def tally_head(domain: Domain, chain: bytes, position: int, head: bytes) -> bytes:
    """Digest that gateway and node sign for a tally chain's ``position`` (from 1)."""
    return signing_digest(domain, TALLY_HEAD_TYPE, chain, position, head)


def tenant_count(domain: Domain, chain: bytes, requests: int) -> bytes:
    """Digest that a tenant signs: it has had ``requests`` answers of that chain so far."""
    return signing_digest(domain, TENANT_COUNT_TYPE, chain, requests)


def root(
    domain: Domain,
    epoch: int,
    round_: int,
    root: bytes,
    total_microusd: int,
    manifest: bytes,
    rules: bytes,
) -> bytes:
    """Digest that validators sign for an epoch's books."""
    return signing_digest(domain, ROOT_TYPE, epoch, round_, root, total_microusd, manifest, rules)


def veto(domain: Domain, epoch: int, round_: int, root: bytes) -> bytes:
    """Digest that providers sign against a pending root."""
    return signing_digest(domain, VETO_TYPE, epoch, round_, root)


def voucher(domain: Domain, tenant: str, purpose: bytes, cumulative_microusd: int) -> bytes:
    """Digest that a spending key signs: so much of that purpose's deposit is spent in all."""
    return signing_digest(domain, VOUCHER_TYPE, tenant, purpose, cumulative_microusd)


def key_consent(domain: Domain, account: str, key: str) -> bytes:
    """Digest that a node's, gateway's or validator's key signs: it works for that account."""
    return signing_digest(domain, KEY_CONSENT_TYPE, account, key)


def spending_consent(domain: Domain, tenant: str, purpose: bytes, key: str) -> bytes:
    """Digest that a spending key signs: it agrees to sign that tenant's vouchers."""
    return signing_digest(domain, SPENDING_CONSENT_TYPE, tenant, purpose, key)


def verdict(domain: Domain, dispute: int, guilty: bool) -> bytes:
    """Digest that a juror signs."""
    return signing_digest(domain, VERDICT_TYPE, dispute, guilty)


def resolution(domain: Domain, proposal: int, support: bool) -> bytes:
    """Digest that a bonded account signs about a change of a parameter."""
    return signing_digest(domain, RESOLUTION_TYPE, proposal, support)


def pause(domain: Domain, epoch: int) -> bytes:
    """Digest that a validator's key signs: no new deposits and bonds from ``epoch`` on."""
    return signing_digest(domain, PAUSE_TYPE, epoch)


def purpose_of(service: str) -> bytes:
    """The deposit purpose of a service (its network-wide id): Keccak-256, 32 bytes."""
    return keccak256(service.encode())
