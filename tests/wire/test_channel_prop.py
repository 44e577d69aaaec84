"""Two channels joined by a pipe that cuts bytes anywhere: all arrives, whole and in order."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.schema.errors import TheirFault
from isochrone.wire import frames
from isochrone.wire.channel import Channel, ChannelLimits, Peer
from isochrone.wire.frames import FrameReader

from .doubles import Keeper, Sink, echo


class Pipe(asyncio.Transport):
    """One direction: bytes wait here until somebody carries them over."""

    def __init__(self, high: int) -> None:
        super().__init__()
        self.held = bytearray()
        self.high = high
        self.most = 0
        self.full = False
        self.writer: Channel | None = None
        self.open = True

    def write(self, data) -> None:
        self.held += data
        self.most = max(self.most, len(self.held))
        if len(self.held) > self.high and not self.full and self.writer is not None:
            self.full = True
            self.writer.pause_writing()

    def take(self, size: int) -> bytes:
        data = bytes(self.held[:size])
        del self.held[:size]
        if self.full and len(self.held) <= self.high // 4 and self.writer is not None:
            self.full = False
            self.writer.resume_writing()
        return data

    def set_write_buffer_limits(self, high=None, low=None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return len(self.held)

    def is_closing(self) -> bool:
        return not self.open

    def close(self) -> None:
        self.open = False

    abort = close


def pair(limits: ChannelLimits, high: int) -> list[tuple[Channel, Pipe, Keeper]]:
    ends = []
    for dialled in (True, False):
        pipe = Pipe(high)
        peer = Peer(role="node", address="x")
        channel = Channel(pipe, FrameReader(), peer, limits, dialled=dialled)
        pipe.writer = channel
        ends.append((channel, pipe, Keeper(echo)))
    return ends


async def carry(ends, chance: random.Random, sinks: list[Sink]) -> None:
    """Carry random portions to and fro until every stream is over."""
    for _ in range(200_000):
        if all(sink.over for sink in sinks):
            return
        for n, (channel, _, _) in enumerate(ends):
            pipe = ends[1 - n][1]
            if pipe.held and chance.random() < 0.7:
                size = chance.choice((1, 7, 100, 5000, 70_000, 1 << 20))
                channel.data_received(pipe.take(chance.randint(1, size)))
        await asyncio.sleep(0)
    raise AssertionError("streams are stuck")


def run(coroutine) -> None:
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(coroutine)
    finally:
        loop.close()


def test_turns_go_on_by_themselves_while_the_transport_takes_all():
    """No frame comes in and the transport never fills: only the outbox can keep itself going."""

    async def scene() -> None:
        limits = ChannelLimits(window=1_000_000, write_high_water=1000)
        (near, sent, _), (far, answers, keeper) = pair(limits, high=1 << 30)
        for channel in (near, far):
            channel.begin(keeper, [])
        keeper.answer = lambda opened: opened.stream.answer(b"", b"x" * 900_000, end=True)
        near.open(b"", sink=Sink())
        near.outbox.flush()
        far.data_received(sent.take(1 << 30))
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(answers.held) > 900_000
        for channel in (near, far):
            channel.close("bye")

    run(scene())


BODY = st.one_of(st.integers(0, 300), st.integers(0, 400_000))


@settings(max_examples=40)
@given(
    bodies=st.lists(st.tuples(BODY, st.booleans(), st.booleans()), min_size=1, max_size=12),
    high=st.sampled_from([1000, 50_000, 1_000_000]),
    window=st.sampled_from([1, 1000, 65_536, 1_000_000]),
    seed=st.integers(0, 1000),
)
def test_all_streams_arrive_whole_and_in_order(bodies, high, window, seed):
    chance = random.Random(seed)

    async def scene() -> None:
        limits = ChannelLimits(window=max(window, 200), write_high_water=high)
        ends = pair(limits, high)
        for channel, _, keeper in ends:
            channel.begin(keeper, [])
        sinks, sent = [], []
        for n, (size, far, whole) in enumerate(bodies):
            body = chance.randbytes(size)
            sink = Sink()
            stream = ends[int(far)][0].open(b"%d" % n, body, end=whole, sink=sink)
            if not whole:
                stream.write(b"tail")
                stream.finish(b"bye")
                body += b"tail"
            sinks.append(sink)
            sent.append((n, body, whole))
        await carry(ends, chance, sinks)
        for sink, (n, body, whole) in zip(sinks, sent, strict=True):
            assert sink.reset is None
            assert sink.heads == [b"%d" % n]
            assert sink.data == body
            assert sink.trailer in ((b"done", b"") if whole else (b"bye",))
        for channel, pipe, _ in ends:
            # Two buffers, one turn, and the small frames that no window governs.
            assert pipe.most <= 2 * high + 64 * 1024 + 4096 * len(bodies)
            assert channel.streams_open == 0
            assert channel.snapshot()["backlog_bytes"] == 0
            assert not channel.closed
            channel.close("bye")

    run(scene())


@settings(max_examples=200)
@given(
    noise=st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.builds(
                lambda kind, stream, payload: (
                    frames.prefix(kind, 0, stream, len(payload)) + payload
                ),
                st.integers(1, 13),
                st.integers(0, 4),
                st.binary(max_size=20),
            ),
            st.builds(
                lambda stream, body, end: frames.open_frame(stream, 9, b"h", body, end=end),
                st.integers(1, 4),
                st.binary(max_size=20),
                st.booleans(),
            ),
            st.builds(
                lambda stream, body: frames.last_data_frame(stream, body, b""),
                st.integers(1, 4),
                st.binary(max_size=20),
            ),
        ),
        max_size=12,
    )
)
def test_a_hostile_peer_can_only_lose_its_channel(noise):
    reported: list[dict[str, object]] = []

    async def scene() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, c: reported.append(c))
        channel, _, keeper = pair(ChannelLimits(), 1000)[1]
        channel.begin(keeper, [])
        sink = Sink()
        channel.open(b"ours", b"body", sink=sink)
        for data in noise:
            channel.data_received(data)
            await asyncio.sleep(0)
        if channel.closed:
            assert len(keeper.lost) == 1
            assert isinstance(keeper.lost[0], TheirFault) or keeper.lost[0].code
            assert sink.over
        channel.close("bye")
        assert channel.streams_open == 0
        assert len(keeper.lost) == 1
        await asyncio.sleep(0)

    run(scene())
    assert not reported
