# pragma version 0.4.3
"""
@title  Merkle proofs of accounts' cumulative amounts
@license Apache-2.0
@notice A leaf is keccak(keccak(abi.encode(account, cumulative))): hashed twice, so that an inner
        node (64 bytes under one hash) is never taken for a leaf. Inner nodes hash their children
        in rising order, so a proof names no sides; a node without a partner moves up as it is.
        `isochrone.rules.merkle` builds the same trees; a differential test compares them.
"""

# Enough for 2^32 accounts.
PROOF_HASHES_MAX: constant(uint256) = 32


@internal
@pure
def _leaf(account: address, cumulative: uint256) -> bytes32:
    """
    @notice The leaf of an account that may have `cumulative` units in all.
    """
    return keccak256(keccak256(abi_encode(account, cumulative)))


@internal
@pure
def _rebuilt(leaf: bytes32, proof: DynArray[bytes32, PROOF_HASHES_MAX]) -> bytes32:
    """
    @notice The root that a leaf and its proof lead to.
    """
    node: bytes32 = leaf
    for sibling: bytes32 in proof:
        if convert(node, uint256) <= convert(sibling, uint256):
            node = keccak256(concat(node, sibling))
        else:
            node = keccak256(concat(sibling, node))
    return node
