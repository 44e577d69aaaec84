# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title Signatures collected off chain, checked once
@license Apache-2.0
@notice How bonds, vault and council take signatures and judge whether enough bond stands behind
    them. A signature is two words, (r, yParity << 255 | s) as in EIP-2098, so that one digest has
    exactly one valid signature a key and nine of them fit a cheap transaction. `bonds.weigh`
    turns a list of signatures into weight; the thresholds are judged here.
@dev Signers come strictly ascending by key, which makes a duplicate impossible without storage.
"""

MAX_SIGNERS: constant(uint256) = 64  # of one call; a larger quorum is concentrated in fewer keys

# Half of secp256k1's order. A larger s is the malleable twin of a valid signature (EIP-2).
_HALF_ORDER: constant(uint256) = (
    57896044618658097711785492504343953926418782139537452191302581570759080747168
)
_S_MASK: constant(uint256) = 2**255 - 1


@internal
@pure
def recover(digest: bytes32, signature: bytes32[2]) -> address:
    """
    @notice The key that signed a digest.
    @param signature (r, yParity << 255 | s).
    @return Its address, never zero; reverts for anything that is not a signature.
    """
    packed: uint256 = convert(signature[1], uint256)
    s: uint256 = packed & _S_MASK
    assert s <= _HALF_ORDER, "quorum: malleable signature"
    key: address = ecrecover(digest, 27 + (packed >> 255), convert(signature[0], uint256), s)
    assert key != empty(address), "quorum: invalid signature"
    return key


@internal
@pure
def reached(weight: uint256, total: uint256, numerator: uint256, denominator: uint256) -> bool:
    """
    @notice Whether `weight` is at least numerator/denominator of `total`. Nobody is no quorum.
    """
    return total != 0 and weight * denominator >= total * numerator


@internal
@pure
def exceeded(weight: uint256, total: uint256, numerator: uint256, denominator: uint256) -> bool:
    """
    @notice Whether `weight` is more than numerator/denominator of `total`.
    """
    return weight * denominator > total * numerator
