# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
# pragma nonreentrancy on
"""
@title Council: disputes, parameters and the pause
@license Apache-2.0
@notice
What nobody can prove to a machine, bonded accounts decide here, under rules that leave them as
little room as possible. There is no owner and no upgrade key: the three things below are all that
can be done, each needs signatures of bonded accounts, and none of them moves a deposit or a claim.
Jurors and voters sign with their *accounts* (wallets), never with the keys of machines.

DISPUTES. Anyone accuses a bonded account of damage that no automatic proof shows, and posts a
bond: at least `dispute_bond_microusd`, and a tenth of the claim, so that threatening much costs
much. One round of jurors decides; without a verdict by the deadline the accused is acquitted.
 - Guilty: twice the claim is slashed, as far as stake is there. The harmed account gets half of
   what was slashed, hence never more than the claim; the rest is burned, so that moving one's own
   stake out of reach through a friendly accuser costs as much as it saves. The opener's bond comes
   back, with nothing on top: accusing is no business.
 - Acquitted or expired: the opener's bond is burned. It does not go to the accused, or an accuser
   and an accused who are the same person could keep juries busy for nothing.

THE JURY is drawn by sortition: every account computes its own seats from the seed, so nobody has
to list or sort the bonded accounts on chain. With `w` the account's voting bond over all roles, `W`
everybody's without the parties (accused, opener, harmed), and `u` = keccak(seed, account) mod W:

    seats = (SEATS * w + u) // W          on average exactly SEATS * w / W

which is whole seats for whole shares and one more with the probability of the fraction. Splitting
a bond over many accounts changes the average by nothing. Guilty needs `VERDICT_SEATS` of the
`SEATS` expected (so: also that jurors take part). In the worst case (bonds in tiny accounts, the
number of seats is Poisson) a third of W convicts an innocent with probability 2e-10, two fifths
with 6e-6, and two thirds, unanimous, convict the guilty with 0.95; larger accounts vary less. Who
opens cannot push a bonded account out of the jury by naming it as harmed: one that votes must open
by itself. A contract's account cannot sign and has no say.

THE SEED is keccak(hash of block `opened + LOOKAHEAD`, prevrandao of the block that draws, dispute),
drawn by anyone, once, in one of the `DRAW_BLOCKS` blocks from two blocks after that. Who could
choose it?
 - The opener knows neither when opening. Bonds count as they voted in the epoch of opening, so no
   account can be made, topped up or moved to suit a seed.
 - Who builds block `opened + LOOKAHEAD` can try many hashes, but not against the prevrandao two
   blocks later, into which another proposer's secret is mixed.
 - Who draws can wait for another block, at most DRAW_BLOCKS tries (of 2e-10 each), and only until
   anybody else draws. A draw that is missed cannot be repeated: the dispute expires and the bond
   burns, so that each further set of tries costs a bond.
 - One who orders all transactions and all blocks alone (a rollup's sequencer) can choose; on such a
   chain the jury is as honest as its sequencer. Nothing automatic depends on a jury.

PARAMETERS are integers between limits that no vote can pass. A change needs support of more than
half of all voting bond of all roles, collected over any number of calls, then waits `timelock_s`,
longer than the longest thaw: who disagrees can take stake and work away before it counts. It holds
from the second epoch after its execution; what `parameter_at` once said of a running or past epoch
it says for ever. Proposals and disputes are named by the hash of what they say, so a signature can
not come to mean something else when the chain is reorganised.

THE PAUSE, signed by two thirds of the validators' voting bond, stops new deposits and new bonds
(the vault and the bonds ask `paused`), never withdrawals or claims. It ends by itself after
`PAUSE_EPOCHS`, and the next one can begin only after as many epochs of rest.

What this contract does not do: it never judges evidence (`evidence` is a digest of documents that
jurors read elsewhere), and holds no money but openers' bonds.
"""

from ethereum.ercs import IERC20

from contracts.interfaces import bonds as IBonds
from contracts.modules import quorum
from contracts.modules import typed_data

initializes: typed_data

interface Immutables:
    def token() -> address: view
    def genesis() -> uint256: view
    def epoch_s() -> uint256: view
    def thaw_s() -> uint256: view


event Opened:
    dispute: indexed(uint256)
    accused: indexed(address)
    role: uint8
    amount: uint256
    harmed: address
    evidence: bytes32
    opener: address
    bond: uint256
    deadline: uint256

event Drawn:
    dispute: indexed(uint256)
    seed: bytes32

event Decided:
    dispute: indexed(uint256)
    guilty: bool

event Proposed:
    proposal: indexed(uint256)
    name: indexed(bytes32)
    value: uint256
    epoch: uint64

event Supported:
    proposal: indexed(uint256)
    account: indexed(address)
    weight: uint256

event Passed:
    proposal: indexed(uint256)
    executable_from: uint256

event Set:
    name: indexed(bytes32)
    value: uint256
    from_epoch: uint64

event Paused:
    from_epoch: uint64
    until_epoch: uint64


struct Dispute:
    accused: address
    role: uint8
    amount: uint256
    harmed: address
    opener: address
    bond: uint256
    epoch: uint64  # bonds count as they voted in it
    total: uint256  # everybody's voting bond without the parties
    hash_block: uint256
    deadline: uint256
    seed: bytes32
    closed: bool

struct Proposal:
    name: bytes32
    value: uint256
    epoch: uint64
    total: uint256
    support: uint256
    deadline: uint256
    passed_at: uint256
    executed: bool

struct Bound:
    minimum: uint256
    maximum: uint256

struct Setting:
    from_epoch: uint64
    value: uint256


SEATS: public(constant(uint256)) = 256
VERDICT_SEATS: public(constant(uint256)) = 150
ACCOUNTS_MAX: constant(uint256) = 256  # signatures of one call
LOOKAHEAD: public(constant(uint256)) = 8
DRAW_BLOCKS: public(constant(uint256)) = 32
PAUSE_EPOCHS: public(constant(uint64)) = 72
PROVIDER: constant(uint8) = 0
OPERATOR: constant(uint8) = 1
VALIDATOR: constant(uint8) = 2
BOND_NAME: constant(bytes32) = 0x646973707574655f626f6e645f6d6963726f7573640000000000000000000000
BURNED: constant(address) = 0x000000000000000000000000000000000000dEaD  # some tokens refuse zero

bonds: public(immutable(IBonds))
token: public(immutable(IERC20))
genesis: public(immutable(uint256))
epoch_s: public(immutable(uint256))
dispute_s: public(immutable(uint256))
timelock_s: public(immutable(uint256))

disputes: public(HashMap[uint256, Dispute])
proposals: public(HashMap[uint256, Proposal])
has_supported: public(HashMap[uint256, HashMap[address, bool]])
bounds: public(HashMap[bytes32, Bound])
changes: public(HashMap[bytes32, uint256])
history: public(HashMap[bytes32, HashMap[uint256, Setting]])
pause_ends: public(uint64)


@deploy
def __init__(bonds_: address, dispute_s_: uint256, timelock_s_: uint256, values: uint256[13]):
    """
    @param bonds_ The bonds, which tell token, clock and thaw.
    @param dispute_s_ From opening to deadline of a dispute, and of the support for a proposal.
    @param timelock_s_ From a proposal's passing to its execution; longer than the thaw.
    @param values The parameters from epoch 0 on, in the order below.
    """
    typed_data.__init__(bonds_)
    bonds = IBonds(bonds_)
    token = IERC20(staticcall Immutables(bonds_).token())
    genesis = staticcall Immutables(bonds_).genesis()
    epoch_s = staticcall Immutables(bonds_).epoch_s()
    dispute_s = dispute_s_
    timelock_s = timelock_s_
    assert dispute_s_ != 0, "council: no time to decide"
    assert timelock_s_ > staticcall Immutables(bonds_).thaw_s(), "council: timelock within thaw"
    self._bound(b"rules_version", 1, 1_000_000, values[0])
    self._bound(b"fee_bps", 0, 200, values[1])
    self._bound(b"validator_share_bps", 0, 10_000, values[2])
    self._bound(b"hold_bps", 0, 5_000, values[3])
    self._bound(b"hold_epochs", 0, 48, values[4])
    self._bound(b"relay_nanousd_per_request", 0, 10_000, values[5])
    self._bound(b"standby_microusd_per_core_hour", 0, 100_000, values[6])
    self._bound(b"samples_min", 10, 100_000, values[7])
    self._bound(b"consistency_max_x100", 200, 100_000, values[8])
    self._bound(b"consistency_credit_bps", 0, 10_000, values[9])
    self._bound(b"newcomer_hold_bps", 0, 9_000, values[10])
    self._bound(b"newcomer_epochs", 0, 168, values[11])
    self._bound(b"dispute_bond_microusd", 1_000_000, 1_000_000_000, values[12])


# --- disputes ------------------------------------------------------------------------------------


@external
def open(
    accused: address, role: uint8, amount: uint256, harmed: address, evidence: bytes32
) -> uint256:
    """
    @notice Accuse `accused` of damage worth `amount` to `harmed`. Takes `bond_for(amount)`.
    @param role The bond that answers for it: 0 provider, 1 operator, 2 validator.
    @param harmed Who is made whole; the dead address, if it was the network. An account whose bond
        votes must open itself.
    @param evidence Digest of the documents that jurors are to read.
    @return the dispute's name, a hash of what it says
    """
    assert amount != 0 and amount <= convert(max_value(uint128), uint256), "council: amount"
    assert harmed != empty(address), "council: nobody harmed"
    assert accused not in [msg.sender, harmed], "council: accuses itself"
    assert staticcall bonds.stake_of(accused, role) != 0, "council: nothing at stake"
    epoch: uint64 = self._epoch()
    dispute: uint256 = convert(
        keccak256(abi_encode(msg.sender, accused, role, amount, harmed, evidence, epoch)), uint256
    )
    assert self.disputes[dispute].deadline == 0, "council: already open"

    assert harmed == msg.sender or self._voice(harmed, epoch) == 0, "council: the harmed votes"
    total: uint256 = (
        self._total_voice(epoch) - self._voice(accused, epoch) - self._voice(msg.sender, epoch)
    )
    assert total != 0, "council: no jury"

    bond: uint256 = self._bond_for(amount)
    deadline: uint256 = block.timestamp + dispute_s
    self.disputes[dispute] = Dispute(
        accused=accused,
        role=role,
        amount=amount,
        harmed=harmed,
        opener=msg.sender,
        bond=bond,
        epoch=epoch,
        total=total,
        hash_block=block.number + LOOKAHEAD,
        deadline=deadline,
        seed=empty(bytes32),
        closed=False,
    )
    held: uint256 = staticcall token.balanceOf(self)
    assert extcall token.transferFrom(
        msg.sender, self, bond, default_return_value=True
    ), "council: not paid"
    assert staticcall token.balanceOf(self) == held + bond, "council: not paid whole"
    log Opened(
        dispute=dispute,
        accused=accused,
        role=role,
        amount=amount,
        harmed=harmed,
        evidence=evidence,
        opener=msg.sender,
        bond=bond,
        deadline=deadline,
    )
    return dispute


@external
def draw(dispute: uint256):
    """
    @notice Draw the jury's seed, once. Anyone; see the title for when and why.
    """
    hash_block: uint256 = self.disputes[dispute].hash_block
    assert hash_block != 0, "council: no such dispute"
    assert self.disputes[dispute].seed == empty(bytes32), "council: already drawn"
    assert block.number >= hash_block + 2, "council: too early to draw"
    assert block.number < hash_block + 2 + DRAW_BLOCKS, "council: too late to draw"
    seed: bytes32 = keccak256(abi_encode(blockhash(hash_block), block.prevrandao, dispute))
    self.disputes[dispute].seed = seed
    log Drawn(dispute=dispute, seed=seed)


@external
def decide(dispute: uint256, guilty: bool, signatures: DynArray[bytes32[2], ACCOUNTS_MAX]):
    """
    @notice Carry out the jury's verdict: `Verdict(dispute, guilty)` signed by accounts that hold
        `VERDICT_SEATS` together, in rising order of their addresses (so none counts twice).
        Signatures of accounts without a seat count nothing.
    """
    case: Dispute = self.disputes[dispute]
    assert case.seed != empty(bytes32), "council: no jury drawn"
    assert not case.closed, "council: closed"
    assert block.timestamp <= case.deadline, "council: past the deadline"
    digest: bytes32 = typed_data.verdict(dispute, guilty)
    seats: uint256 = 0
    last: address = empty(address)
    for signature: bytes32[2] in signatures:
        juror: address = quorum.recover(digest, signature)
        assert convert(juror, uint160) > convert(last, uint160), "council: signers not rising"
        last = juror
        seats += self._seats(case, juror)
    assert seats >= VERDICT_SEATS, "council: too few seats"

    self.disputes[dispute].closed = True
    log Decided(dispute=dispute, guilty=guilty)
    if not guilty:
        self._pay(BURNED, case.bond)
        return
    taken: uint256 = min(2 * case.amount, staticcall bonds.stake_of(case.accused, case.role))
    extcall bonds.slash_decided(case.accused, case.role, taken, case.harmed, taken // 2)
    self._pay(case.opener, case.bond)


@external
def close(dispute: uint256):
    """
    @notice End a dispute without verdict (its deadline is over, or its draw was missed): acquitted.
    """
    case: Dispute = self.disputes[dispute]
    assert case.deadline != 0, "council: no such dispute"
    assert not case.closed, "council: closed"
    undrawn: bool = (
        case.seed == empty(bytes32) and block.number >= case.hash_block + 2 + DRAW_BLOCKS
    )
    assert undrawn or block.timestamp > case.deadline, "council: still open"
    self.disputes[dispute].closed = True
    log Decided(dispute=dispute, guilty=False)
    self._pay(BURNED, case.bond)


@external
@view
def seats_of(dispute: uint256, account: address) -> uint256:
    """
    @notice The account's seats in the jury; 0 for the parties, and before the draw for everybody.
    """
    case: Dispute = self.disputes[dispute]
    if case.seed == empty(bytes32):
        return 0
    return self._seats(case, account)


@external
@view
def bond_for(amount: uint256) -> uint256:
    """
    @notice What opening a dispute about `amount` takes, in units of the token.
    """
    return self._bond_for(amount)


# --- parameters ----------------------------------------------------------------------------------


@external
def propose(name: bytes32, new_value: uint256) -> uint256:
    """
    @notice Propose `new_value` for a parameter. Anyone; a proposal that nobody supports ends by itself.
    @return the proposal's name, a hash of what it says and of the epoch
    """
    bound: Bound = self.bounds[name]
    assert bound.maximum != 0, "council: no such parameter"
    assert new_value >= bound.minimum and new_value <= bound.maximum, "council: out of bounds"
    epoch: uint64 = self._epoch()
    proposal: uint256 = convert(keccak256(abi_encode(name, new_value, epoch)), uint256)
    assert self.proposals[proposal].deadline == 0, "council: already proposed"
    total: uint256 = self._total_voice(epoch)
    assert total != 0, "council: nobody votes"
    self.proposals[proposal] = Proposal(
        name=name,
        value=new_value,
        epoch=epoch,
        total=total,
        support=0,
        deadline=block.timestamp + dispute_s,
        passed_at=0,
        executed=False,
    )
    log Proposed(proposal=proposal, name=name, value=new_value, epoch=epoch)
    return proposal


@external
def support(proposal: uint256, signatures: DynArray[bytes32[2], ACCOUNTS_MAX]):
    """
    @notice Count accounts that signed `Resolution(proposal, true)`, weighed by their voting bond
        of all roles in the epoch of the proposal. May be called again with others. A signature
        that was counted before, or whose account has no bond, counts nothing and disturbs nobody.
    """
    motion: Proposal = self.proposals[proposal]
    assert motion.deadline != 0, "council: no such proposal"
    assert motion.passed_at == 0, "council: passed"
    assert block.timestamp <= motion.deadline, "council: past the deadline"
    digest: bytes32 = typed_data.resolution(proposal, True)
    gained: uint256 = motion.support
    for signature: bytes32[2] in signatures:
        account: address = quorum.recover(digest, signature)
        weight: uint256 = self._voice(account, motion.epoch)
        if weight == 0 or self.has_supported[proposal][account]:
            continue
        self.has_supported[proposal][account] = True
        gained += weight
        log Supported(proposal=proposal, account=account, weight=weight)
    self.proposals[proposal].support = gained
    if quorum.exceeded(gained, motion.total, 1, 2):
        self.proposals[proposal].passed_at = block.timestamp
        log Passed(proposal=proposal, executable_from=block.timestamp + timelock_s)


@external
def execute(proposal: uint256):
    """
    @notice Set a parameter after the timelock, from the second epoch after this one. Anyone, until
        as much time as the timelock has passed again: an old decision does not lie in wait.
    """
    motion: Proposal = self.proposals[proposal]
    assert motion.passed_at != 0, "council: not passed"
    assert not motion.executed, "council: executed"
    assert block.timestamp >= motion.passed_at + timelock_s, "council: timelocked"
    assert block.timestamp <= motion.passed_at + 2 * timelock_s, "council: lapsed"
    self.proposals[proposal].executed = True
    self._set(motion.name, motion.value, self._epoch() + 2)


@external
@view
def parameter(name: bytes32) -> uint256:
    """
    @notice The value that holds in the running epoch.
    """
    return self._parameter_at(name, self._epoch())


@external
@view
def parameter_at(name: bytes32, epoch: uint64) -> uint256:
    """
    @notice The value that holds, or held, in an epoch.
    """
    return self._parameter_at(name, epoch)


# --- the pause -----------------------------------------------------------------------------------


@external
def pause(epoch: uint64, signatures: DynArray[bytes32[2], 64]):
    """
    @notice Stop new deposits and bonds for `PAUSE_EPOCHS`: `Pause(epoch)` for the running epoch,
        signed by validators' keys with two thirds of their voting bond.
    """
    assert epoch == self._epoch(), "council: not this epoch"
    if self.pause_ends != 0:
        assert epoch >= self.pause_ends + PAUSE_EPOCHS, "council: paused too recently"
    weight: uint256 = 0
    total: uint256 = 0
    weight, total = staticcall bonds.weigh(
        VALIDATOR, epoch, quorum.signers(typed_data.pause(epoch), signatures)
    )
    assert quorum.reached(weight, total, 2, 3), "council: no quorum"
    self.pause_ends = epoch + PAUSE_EPOCHS
    log Paused(from_epoch=epoch, until_epoch=epoch + PAUSE_EPOCHS)


@external
@view
def paused() -> bool:
    """
    @notice Whether new deposits and new bonds are refused now.
    """
    return self._epoch() < self.pause_ends


# --- inside --------------------------------------------------------------------------------------


@internal
@view
def _epoch() -> uint64:
    return convert((block.timestamp - genesis) // epoch_s, uint64)


@internal
@view
def _voice(account: address, epoch: uint64) -> uint256:
    """
    @notice An account's voting bond over all roles.
    """
    return (
        staticcall bonds.voting_bond(account, PROVIDER, epoch)
        + staticcall bonds.voting_bond(account, OPERATOR, epoch)
        + staticcall bonds.voting_bond(account, VALIDATOR, epoch)
    )


@internal
@view
def _total_voice(epoch: uint64) -> uint256:
    return (
        staticcall bonds.total_voting(PROVIDER, epoch)
        + staticcall bonds.total_voting(OPERATOR, epoch)
        + staticcall bonds.total_voting(VALIDATOR, epoch)
    )


@internal
@view
def _seats(case: Dispute, account: address) -> uint256:
    if account in [case.accused, case.opener, case.harmed]:
        return 0
    bond: uint256 = self._voice(account, case.epoch)
    if bond == 0:
        return 0
    ticket: uint256 = convert(keccak256(abi_encode(case.seed, account)), uint256)
    return (SEATS * bond + ticket % case.total) // case.total


@internal
@view
def _bond_for(amount: uint256) -> uint256:
    return max(self._parameter_at(BOND_NAME, self._epoch()), amount // 10)


@internal
def _pay(to: address, amount: uint256):
    assert extcall token.transfer(to, amount, default_return_value=True), "council: not paid"


@internal
@view
def _parameter_at(name: bytes32, epoch: uint64) -> uint256:
    """
    @notice The newest change that begins by `epoch`, found by halving: changes begin in rising
        epochs, the first one in epoch 0.
    """
    low: uint256 = 0
    high: uint256 = self.changes[name]
    assert high != 0, "council: no such parameter"
    for _: uint256 in range(64):
        if high - low <= 1:
            break
        middle: uint256 = (low + high) // 2
        if self.history[name][middle].from_epoch <= epoch:
            low = middle
        else:
            high = middle
    return self.history[name][low].value


@internal
def _bound(text: Bytes[32], minimum: uint256, maximum: uint256, initial: uint256):
    name: bytes32 = convert(text, bytes32)
    assert initial >= minimum and initial <= maximum, "council: out of bounds"
    self.bounds[name] = Bound(minimum=minimum, maximum=maximum)
    self._set(name, initial, 0)


@internal
def _set(name: bytes32, new_value: uint256, from_epoch: uint64):
    index: uint256 = self.changes[name]
    self.history[name][index] = Setting(from_epoch=from_epoch, value=new_value)
    self.changes[name] = index + 1
    log Set(name=name, value=new_value, from_epoch=from_epoch)
