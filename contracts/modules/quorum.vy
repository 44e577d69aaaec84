# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title Signatures collected off chain, checked once
@license Apache-2.0
@notice How bonds, vault and council take signatures and judge whether enough bond stands behind
    them. A signature is two words, (r, yParity << 255 | s) as in EIP-2098, so that one digest has
    exactly one valid signature a key and nine of them fit a cheap transaction. `signers` makes keys
    of them, `bonds.weigh` says what bond the keys have, and the thresholds are judged here again.
@dev Signers come strictly ascending by key, which makes a duplicate impossible without storage.
"""

MAX_SIGNERS: constant(uint256) = 64  # of one call; a larger quorum is concentrated in fewer keys

# Half of secp256k1's order, 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0.
# A larger s is the malleable twin of a valid signature (EIP-2).
HALF_ORDER: constant(uint256) = (
    57896044618658097711785492504343953926418782139537452191302581570759080747168
)
S_MASK: constant(uint256) = 2**255 - 1


@internal
@pure
def recover(digest: bytes32, signature: bytes32[2]) -> address:
    """
    @notice The key that signed a digest.
    @param signature (r, yParity << 255 | s).
    @return Its address, never zero; reverts for anything that is not a signature.
    """
    packed: uint256 = convert(signature[1], uint256)
    s: uint256 = packed & S_MASK
    assert s <= HALF_ORDER, "quorum: malleable signature"
    v: uint256 = unsafe_add(27, packed >> 255)
    key: address = ecrecover(digest, v, convert(signature[0], uint256), s)
    assert key != empty(address), "quorum: invalid signature"
    return key


@internal
@pure
def signers(
    digest: bytes32, signatures: DynArray[bytes32[2], MAX_SIGNERS]
) -> DynArray[address, MAX_SIGNERS]:
    """
    @notice The keys that signed a digest, for `bonds.weigh`.
    @param signatures As for `recover`, strictly ascending by key; reverts otherwise.
    """
    keys: DynArray[address, MAX_SIGNERS] = []
    last: uint256 = 0
    for signature: bytes32[2] in signatures:
        # `recover` written out, which saves 100 gas a signer.
        packed: uint256 = convert(signature[1], uint256)
        s: uint256 = packed & S_MASK
        assert s <= HALF_ORDER, "quorum: malleable signature"
        key: address = ecrecover(
            digest, unsafe_add(27, packed >> 255), convert(signature[0], uint256), s
        )
        # Zero, for what is no signature, never ascends.
        assert convert(key, uint256) > last, "quorum: signers not ascending"
        last = convert(key, uint256)
        keys.append(key)
    return keys


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
