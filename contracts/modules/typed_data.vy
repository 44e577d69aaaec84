# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title EIP-712 digests of everything that is signed about money
@license Apache-2.0
@notice One domain serves the network: name "Isochrone", version "1", the chain's id and the address
    of the bonds contract. Bonds, vault and council all initialise this module with that address, so
    a signature counts in each of them and nowhere else. `isochrone.schema.typed_data` declares the
    same type strings; a differential test compares the digests.
@dev The separator is kept from the deployment and computed again when the chain's id has changed
    since (a fork must not replay signatures).
"""

DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
NAME: constant(bytes32) = keccak256("Isochrone")
VERSION: constant(bytes32) = keccak256("1")

TALLY_HEAD_TYPE: constant(bytes32) = keccak256(
    "TallyHead(bytes32 chain,uint64 position,bytes32 head)"
)
ROOT_TYPE: constant(bytes32) = keccak256(
    "Root(uint64 epoch,uint32 round,bytes32 root,uint256 total,bytes32 manifest,bytes32 rules)"
)
VETO_TYPE: constant(bytes32) = keccak256("Veto(uint64 epoch,uint32 round,bytes32 root)")
VOUCHER_TYPE: constant(bytes32) = keccak256(
    "Voucher(address tenant,bytes32 purpose,uint256 cumulative)"
)
KEY_CONSENT_TYPE: constant(bytes32) = keccak256("KeyConsent(address account,address key)")
SPENDING_CONSENT_TYPE: constant(bytes32) = keccak256(
    "SpendingConsent(address tenant,bytes32 purpose,address key)"
)
VERDICT_TYPE: constant(bytes32) = keccak256("Verdict(uint256 dispute,bool guilty)")
RESOLUTION_TYPE: constant(bytes32) = keccak256("Resolution(uint256 proposal,bool support)")
PAUSE_TYPE: constant(bytes32) = keccak256("Pause(uint64 epoch)")

VERIFYING: immutable(address)
CHAIN_ID: immutable(uint256)
SEPARATOR: immutable(bytes32)


@deploy
def __init__(verifying: address):
    """
    @param verifying The bonds contract's address (bonds itself passes `self`).
    """
    VERIFYING = verifying
    CHAIN_ID = chain.id
    SEPARATOR = keccak256(abi_encode(DOMAIN_TYPE, NAME, VERSION, chain.id, verifying))


@internal
@view
def separator() -> bytes32:
    """
    @return The domain separator on this chain.
    """
    if chain.id == CHAIN_ID:
        return SEPARATOR
    return keccak256(abi_encode(DOMAIN_TYPE, NAME, VERSION, chain.id, VERIFYING))


@internal
@view
def _digest(struct_hash: bytes32) -> bytes32:
    return keccak256(concat(b"\x19\x01", self.separator(), struct_hash))


@internal
@view
def tally_head(tally: bytes32, position: uint64, head: bytes32) -> bytes32:
    """
    @notice What gateway and node sign for a tally chain's position.
    """
    return self._digest(keccak256(abi_encode(TALLY_HEAD_TYPE, tally, position, head)))


@internal
@view
def root(
    epoch: uint64, round: uint32, root_: bytes32, total: uint256, manifest: bytes32, rules: bytes32
) -> bytes32:
    """
    @notice What validators sign for an epoch's books.
    """
    return self._digest(
        keccak256(abi_encode(ROOT_TYPE, epoch, round, root_, total, manifest, rules))
    )


@internal
@view
def veto(epoch: uint64, round: uint32, root_: bytes32) -> bytes32:
    """
    @notice What providers sign against a pending root.
    """
    return self._digest(keccak256(abi_encode(VETO_TYPE, epoch, round, root_)))


@internal
@view
def voucher(tenant: address, purpose: bytes32, cumulative: uint256) -> bytes32:
    """
    @notice What a spending key signs: so much of that purpose's deposit is spent in all.
    """
    return self._digest(keccak256(abi_encode(VOUCHER_TYPE, tenant, purpose, cumulative)))


@internal
@view
def key_consent(account: address, key: address) -> bytes32:
    """
    @notice What a node's, gateway's or validator's key signs: it works for that account.
    """
    return self._digest(keccak256(abi_encode(KEY_CONSENT_TYPE, account, key)))


@internal
@view
def spending_consent(tenant: address, purpose: bytes32, key: address) -> bytes32:
    """
    @notice What a spending key signs: it agrees to sign that tenant's vouchers.
    """
    return self._digest(keccak256(abi_encode(SPENDING_CONSENT_TYPE, tenant, purpose, key)))


@internal
@view
def verdict(dispute: uint256, guilty: bool) -> bytes32:
    """
    @notice What a juror signs.
    """
    return self._digest(keccak256(abi_encode(VERDICT_TYPE, dispute, guilty)))


@internal
@view
def resolution(proposal: uint256, support: bool) -> bytes32:
    """
    @notice What a bonded account signs about a change of a parameter.
    """
    return self._digest(keccak256(abi_encode(RESOLUTION_TYPE, proposal, support)))


@internal
@view
def pause(epoch: uint64) -> bytes32:
    """
    @notice What a validator's key signs: no new deposits and bonds from `epoch` on.
    """
    return self._digest(keccak256(abi_encode(PAUSE_TYPE, epoch)))
