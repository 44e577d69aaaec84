# pragma version 0.4.3
# pragma evm-version cancun
"""
@title The Merkle module's functions, to be called from tests
@license Apache-2.0
"""

from contracts.modules import merkle


@external
@pure
def leaf(account: address, cumulative: uint256) -> bytes32:
    return merkle._leaf(account, cumulative)


@external
@pure
def rebuilt(leaf: bytes32, proof: DynArray[bytes32, merkle.PROOF_HASHES_MAX]) -> bytes32:
    return merkle._rebuilt(leaf, proof)
