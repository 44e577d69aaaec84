"""The channel over real TLS: streams, flow control, ends, and what a bad peer gets."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator

import pytest

from isochrone.schema.errors import NotFound, OurFault, Overloaded, Unavailable
from isochrone.schema.frames import Doors, GatewayDoor
from isochrone.wire import frames
from isochrone.wire.channel import ChannelLimits, Stream

from .doubles import Keeper, Opened, Sink, echo, until

BIG = os.urandom(3 * 1024 * 1024)


async def test_small_request_is_one_frame_each_way(meet):
    meeting = await meet(lambda _c: Keeper(echo))
    before = meeting.far.frames_in, meeting.near.frames_in
    meeting.near.ping_interval_s = meeting.far.ping_interval_s = 1000.0
    sink = Sink()
    stream = meeting.near.open(b"header", b"body", sink=sink)
    await sink.done()
    assert (sink.heads, sink.data, sink.trailer) == ([b"header"], b"body", b"done")
    assert stream.dead
    assert meeting.near.streams_open == meeting.far.streams_open == 0
    opened = meeting.far_keeper.opened[0]
    assert (opened.header, opened.body, opened.ended) == (b"header", b"body", True)
    pings = 2  # at most: those that each side sent when the channel began, and their pongs
    assert meeting.far.frames_in - before[0] <= 1 + pings
    assert meeting.near.frames_in - before[1] <= 1 + pings


async def test_who_is_at_the_other_end(meet):
    meeting = await meet(lambda _c: Keeper())
    assert (meeting.near.peer.role, meeting.near.peer.address) == ("gateway", "gw-1")
    assert meeting.near.peer.info.cell == "c-1"
    assert (meeting.far.peer.role, meeting.far.peer.address) == ("node", meeting.key.address)
    assert (meeting.far.peer.info, meeting.far.peer.host) == ("known", "127.0.0.1")


@pytest.mark.parametrize("end", [True, False])
async def test_big_bodies_cross_whole_and_in_order(meet, end):
    meeting = await meet(lambda _c: Keeper(echo))
    sink = Sink()
    stream = meeting.near.open(b"h", BIG, end=end, sink=sink)
    if not end:
        stream.write(b"and more")
        stream.finish(b"trailer")
    await sink.done()
    assert sink.data == BIG + (b"" if end else b"and more")
    assert sink.trailer == (b"" if end else b"trailer")
    assert meeting.near.snapshot()["backlog_bytes"] == 0
    assert meeting.far.snapshot()["backlog_bytes"] == 0


async def test_a_thousand_concurrent_streams(meet):
    waiting: list[Opened] = []
    meeting = await meet(lambda _c: Keeper(waiting.append))
    sinks = [Sink() for _ in range(1000)]
    for n, sink in enumerate(sinks):
        meeting.near.open(b"%d" % n, b"x" * (n % 100), sink=sink)
    await until(lambda: len(waiting) == 1000)
    assert meeting.near.streams_open == meeting.far.streams_open == 1000
    for opened in reversed(waiting):
        opened.stream.answer(opened.header, opened.body * 2, end=True)
    await until(lambda: all(sink.over for sink in sinks))
    for n, sink in enumerate(sinks):
        assert (sink.heads, len(sink.data)) == ([b"%d" % n], 2 * (n % 100))
    assert meeting.far.streams_open == 0


async def test_a_big_transfer_does_not_starve_small_requests(meet):
    meeting = await meet(lambda _c: Keeper(echo))
    big, small = Sink(), Sink()
    meeting.near.open(b"big", BIG * 4, sink=big)
    meeting.near.open(b"small", b"quick", sink=small)
    await small.done()
    assert not big.over
    await big.done()
    assert len(big.data) == 4 * len(BIG)


async def test_both_sides_open_streams(meet):
    meeting = await meet(lambda _c: Keeper(echo), lambda _c: Keeper(echo))
    near, far = Sink(), Sink()
    meeting.near.open(b"n", b"from near", sink=near)
    meeting.far.open(b"f", b"from far", sink=far)
    await until(lambda: near.over and far.over)
    assert (near.data, far.data) == (b"from near", b"from far")


async def test_slow_reader_stops_the_writer_at_the_window(meet):
    written = 0

    def pour(opened: Opened) -> None:
        opened.stream.answer(b"")

        def more() -> None:
            nonlocal written
            while written < 1000:
                written += 1
                if not opened.stream.write(b"x" * 10_000):
                    return
            opened.stream.finish()

        opened.sink.when_writable = more
        more()

    meeting = await meet(lambda _c: Keeper(pour))
    sink = Sink()
    stream = meeting.near.open(b"", sink=sink, window=100_000)
    stream.pause()
    await until(lambda: len(sink.data) == 100_000)
    other = Sink()
    meeting.far_keeper.answer = echo
    meeting.near.open(b"other", b"still served", sink=other)
    await other.done()
    assert len(sink.data) == 100_000
    assert written <= 12
    assert meeting.far.snapshot()["backlog_bytes"] <= 20_000
    stream.resume()
    await sink.done()
    assert len(sink.data) == 10_000_000


async def test_manual_credit(meet):
    def pour(opened: Opened) -> None:
        opened.stream.answer(b"", BIG, end=True)

    meeting = await meet(lambda _c: Keeper(pour))
    sink = Sink()
    stream = meeting.near.open(b"", sink=sink, window=64 * 1024)
    stream.auto_credit = False
    await until(lambda: len(sink.data) == 64 * 1024)
    while not sink.over:
        size = len(sink.data)
        stream.consumed(64 * 1024)
        await until(lambda size=size: len(sink.data) > size or sink.over)
        assert len(sink.data) - size <= 64 * 1024
    assert sink.data == BIG


async def test_window_can_be_widened_for_uploads(meet):
    def hold(opened: Opened) -> None:
        opened.stream.auto_credit = False
        opened.stream.widen(1024 * 1024)

    meeting = await meet(lambda _c: Keeper(hold))
    meeting.near.open(b"", BIG, sink=Sink())
    sink = meeting.far_keeper
    await until(lambda: sink.opened and len(sink.opened[0].sink.data) == 1024 * 1024)
    assert len(sink.opened[0].body) == 0


async def test_writer_that_ignores_the_window_is_reset_not_buffered(meet):
    limits = ChannelLimits(stream_backlog_max=200_000)
    meeting = await meet(lambda _c: Keeper(), limits=limits)
    sink = Sink()
    stream = meeting.near.open(b"", end=False, sink=sink)
    for _ in range(100):
        stream.write(b"x" * 50_000)
    assert meeting.near.snapshot()["backlog_bytes"] <= 300_000
    await sink.done()
    assert sink.reset is not None
    assert sink.reset[0] == "overloaded"
    assert stream.dead
    await until(lambda: meeting.far.streams_open == 0)


async def test_channel_backlog_is_bounded_over_all_streams(meet):
    limits = ChannelLimits(channel_backlog_max=1_000_000)
    meeting = await meet(lambda _c: Keeper(), limits=limits)
    sinks = [Sink() for _ in range(20)]
    for sink in sinks:
        meeting.near.open(b"", b"x" * 500_000, sink=sink).auto_credit = False
        assert meeting.near.snapshot()["backlog_bytes"] <= 1_000_000
    await until(lambda: sum(sink.reset is not None for sink in sinks) >= 17)


async def test_cancellation_travels_both_ways_and_says_why(meet):
    meeting = await meet(lambda _c: Keeper())
    sink = Sink()
    stream = meeting.near.open(b"", b"q", sink=sink)
    await until(lambda: meeting.far_keeper.opened)
    opened = meeting.far_keeper.opened[0]
    stream.reset("cancelled", "The client hung up.")
    await until(lambda: opened.sink.over)
    assert opened.sink.reset == ("cancelled", "The client hung up.")
    opened.stream.answer(b"late", b"late", end=True)  # ignored
    assert not sink.over
    second = Sink()
    meeting.near.open(b"", sink=second)
    await until(lambda: len(meeting.far_keeper.opened) == 2)
    meeting.far_keeper.opened[1].stream.reset("stale", "Superseded.")
    await second.done()
    assert second.reset == ("stale", "Superseded.")


async def test_errors_of_handlers_reset_their_stream_only(meet):
    def fail(opened: Opened) -> None:
        if opened.header == b"known":
            raise NotFound("No such model.")
        if opened.header == b"bug":
            raise KeyError("bug")
        echo(opened)

    meeting = await meet(lambda _c: Keeper(fail))
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, c: reported.append(c))
    sinks = {name: Sink() for name in (b"known", b"bug", b"fine")}
    for name, sink in sinks.items():
        meeting.near.open(name, b"body", sink=sink)
    await until(lambda: all(sink.over for sink in sinks.values()))
    assert sinks[b"known"].reset == ("not_found", "No such model.")
    assert sinks[b"bug"].reset is not None
    assert sinks[b"bug"].reset[0] == "internal"
    assert sinks[b"fine"].data == b"body"
    assert len(reported) == 1
    assert meeting.far.counters["sink_failed"] == 1


async def test_early_answer_while_the_body_is_still_coming(meet):
    def refuse(opened: Opened) -> None:
        opened.stream.answer(b"413", end=True)

    meeting = await meet(lambda _c: Keeper(refuse))
    sink = Sink()
    stream = meeting.near.open(b"", BIG, end=False, sink=sink)
    await sink.done()
    assert sink.heads == [b"413"]
    assert not stream.dead
    stream.finish()
    await until(lambda: meeting.near.streams_open == meeting.far.streams_open == 0)


async def test_control_messages_arrive_in_order_with_streams(meet):
    meeting = await meet(lambda _c: Keeper())
    doors = [
        Doors(doors=(GatewayDoor(gateway=str(n), host="h", port=n, fingerprint="f"),))
        for n in range(20)
    ]
    for message in doors:
        assert meeting.near.send_control(message)
    await until(lambda: len(meeting.far_keeper.controls) == 20)
    assert meeting.far_keeper.controls == doors


async def test_too_many_streams(meet):
    meeting = await meet(lambda _c: Keeper(), limits=ChannelLimits(streams_max=10))
    streams = [meeting.near.open(b"", sink=Sink()) for _ in range(10)]
    with pytest.raises(Overloaded):
        meeting.near.open(b"", sink=Sink())
    streams[0].reset("cancelled")
    meeting.near.open(b"", sink=Sink())
    await until(lambda: len(meeting.far_keeper.opened) == 11)


async def test_streams_that_a_peer_opens_beyond_the_limit_are_reset(meet):
    meeting = await meet(lambda _c: Keeper(), limits=ChannelLimits(streams_max=5))
    for n in range(20):  # around our own check
        meeting.near.outbox.emit(frames.open_frame(1001 + 2 * n, 1000, b"", b"", end=True))
    await until(lambda: meeting.far.counters["too_many_streams"] == 15)
    assert meeting.far.streams_open == 5


async def test_goodbye_reaches_everybody_with_its_code(meet):
    meeting = await meet(lambda _c: Keeper(), lambda _c: Keeper())
    sink = Sink()
    meeting.near.open(b"", sink=sink)
    await until(lambda: meeting.far_keeper.opened)
    meeting.far.close("draining", "The gateway restarts.")
    await sink.done()
    assert sink.reset is not None
    assert sink.reset[0] == "channel_lost"
    assert meeting.far_keeper.opened[0].sink.reset is not None
    assert [error.code for error in meeting.near_keeper.lost] == ["draining"]
    assert [error.code for error in meeting.far_keeper.lost] == ["draining"]
    with pytest.raises(Unavailable):
        meeting.near.open(b"", sink=Sink())
    assert not meeting.near.send_control(Doors(doors=()))
    await until(lambda: meeting.door.channels == 0)


async def test_cut_connection(meet):
    meeting = await meet(lambda _c: Keeper(), lambda _c: Keeper())
    sink = Sink()
    meeting.near.open(b"", BIG, sink=sink)
    meeting.far._transport.abort()
    await until(lambda: meeting.near_keeper.lost and meeting.far_keeper.lost)
    assert sink.reset is not None
    assert meeting.near_keeper.lost[0].code == "channel_lost"
    assert meeting.near.snapshot()["backlog_bytes"] == 0


async def test_round_trips_are_measured_and_silence_ends_the_channel(meet):
    limits = ChannelLimits(ping_interval_s=0.02, silence_max_s=0.2)
    meeting = await meet(lambda _c: Keeper(), lambda _c: Keeper(), limits)
    await until(lambda: meeting.near.rtt_ms_last and meeting.far.rtt_ms_last)
    assert 0 < meeting.near.rtt_ms_min <= meeting.near.rtt_ms_last < 1000
    heard = meeting.near.last_heard
    await until(lambda: meeting.near.last_heard > heard)
    meeting.far._transport.pause_reading()
    meeting.far._timer.cancel()
    await until(lambda: meeting.near_keeper.lost)
    assert "silent" in meeting.near_keeper.lost[0].message
    meeting.far._transport.abort()


HOSTILE = {
    "bad frame": b"\xff" * 20,
    "greeting again": frames.frame(frames.HELLO, b"x"),
    "stream of the wrong parity": frames.open_frame(2, 10, b"", b"", end=True),
    "open twice": frames.open_frame(9, 10, b"", b"", end=False) * 2,
    "open with a lying header": frames.frame(frames.OPEN, b"\0" * 4 + b"\xff" * 4, stream=9),
    "not a control message": frames.frame(frames.CONTROL, b"\xc1"),
    "unknown control message": frames.frame(frames.CONTROL, b"\x81\xa4type\xa3odd"),
    "short window": frames.frame(frames.WINDOW, b"\1", stream=9)
    + frames.frame(frames.RESET, b"", stream=0),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_peer_that_breaks_the_protocol_is_told_and_cut(meet, data):
    meeting = await meet(lambda _c: Keeper(), lambda _c: Keeper())
    meeting.near.outbox.emit(data)
    await until(lambda: meeting.far_keeper.lost and meeting.near_keeper.lost)
    assert meeting.far_keeper.lost[0].code == "bad_frame"
    assert meeting.far.counters["bad_frame"] == 1
    assert meeting.near_keeper.lost[0].code == "bad_frame"


async def test_a_peer_that_overruns_a_window_loses_the_stream_only(meet):
    meeting = await meet(lambda _c: Keeper())
    meeting.near.outbox.emit(frames.open_frame(1001, 10, b"", b"", end=False))
    await until(lambda: meeting.far_keeper.opened)
    opened = meeting.far_keeper.opened[0]
    opened.stream.auto_credit = False
    for _ in range(3):
        meeting.near.outbox.emit(frames.data_frame(1001, b"x" * 100_000))
    await until(lambda: opened.sink.over)
    assert opened.sink.reset is not None
    assert opened.sink.reset[0] == "flow_control"
    assert len(opened.sink.data) == 200_000
    assert not meeting.far.closed


async def test_heads_and_data_out_of_order_lose_the_stream_only(meet):
    meeting = await meet(lambda _c: Keeper())
    sinks = [Sink() for _ in range(3)]
    streams = [meeting.near.open(b"", end=False, sink=sink) for sink in sinks]
    await until(lambda: len(meeting.far_keeper.opened) == 3)
    meeting.far.outbox.emit(frames.data_frame(streams[0].id, b"before the head"))
    meeting.far.outbox.emit(frames.head_frame(streams[1].id, b"", b"", b"", end=False) * 2)
    meeting.far.outbox.emit(frames.window_frame(streams[2].id, frames.WINDOW_MAX))
    await until(lambda: all(sink.over for sink in sinks))
    codes = [sink.reset[0] for sink in sinks if sink.reset]
    assert codes == ["flow_control", "bad_frame", "flow_control"]
    assert not meeting.near.closed


async def test_a_peer_that_asks_but_does_not_read_is_cut_off(meet):
    meeting = await meet(lambda _c: Keeper(), lambda _c: Keeper())
    meeting.near._transport.pause_reading()
    ping = frames.frame(frames.PING, b"12345678") * 20_000

    async def flood() -> None:
        while not meeting.far_keeper.lost and not meeting.near._transport.is_closing():
            if not meeting.near.outbox.full:
                meeting.near.outbox.emit(ping)
            await asyncio.sleep(0)

    await asyncio.wait_for(flood(), 20)
    assert meeting.far.counters["does_not_read"] == 1
    meeting.near._transport.resume_reading()


async def test_misuse_is_our_own_fault(meet):
    meeting = await meet(lambda _c: Keeper())
    stream = meeting.near.open(b"", end=False, sink=Sink())
    with pytest.raises(OurFault):
        stream.answer(b"")
    await until(lambda: meeting.far_keeper.opened)
    opened = meeting.far_keeper.opened[0].stream
    with pytest.raises(OurFault):
        opened.write(b"before the head")
    with pytest.raises(OurFault):
        opened.finish()
    opened.answer(b"")
    with pytest.raises(OurFault):
        opened.answer(b"")


async def test_stream_numbers_wrap_and_skip_those_in_use(meet):
    meeting = await meet(lambda _c: Keeper(echo))
    meeting.near._next_id = 0xFFFFFFFD
    held = Sink()
    first = meeting.near.open(b"held", end=False, sink=held)
    second, third = Sink(), Sink()
    assert first.id == 0xFFFFFFFD
    assert meeting.near.open(b"", b"2", sink=second).id == 0xFFFFFFFF
    assert meeting.near.open(b"", b"3", sink=third).id == 1
    await until(lambda: second.over and third.over)
    meeting.near._next_id = 0xFFFFFFFD
    assert meeting.near.open(b"", b"4", sink=Sink()).id == 0xFFFFFFFF
    first.finish()
    await held.done()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is left must go by itself, without the garbage collector."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Holder(Sink):
    """A sink that holds its stream, as every real one does."""

    stream: Stream | None = None


async def test_streams_leave_no_cycles(meet, no_collector):
    def hold(opened: Opened) -> None:
        opened.sink.stream = opened.stream  # type: ignore[attr-defined]
        if opened.header == b"answered":
            opened.stream.answer(b"", opened.body, end=True)
        elif opened.header == b"reset":
            opened.stream.reset("refused")

    meeting = await meet(lambda _c: Keeper(hold))
    for header in (b"answered", b"reset", b"cancelled", b"lost") * 10:
        sink = Holder()
        sink.stream = meeting.near.open(header, b"x", sink=sink)
        if header == b"cancelled":
            sink.stream.reset("cancelled")
        elif header != b"lost":
            await sink.done()
    await until(lambda: len(meeting.far_keeper.opened) == 40)
    meeting.near.close("bye")
    await until(lambda: meeting.door.channels == 0)
    meeting.far_keeper.opened.clear()
    del sink
    assert not [thing for thing in gc.get_objects() if isinstance(thing, Stream)]


async def test_a_closed_channel_leaves_nothing_behind(meet, no_collector):
    meeting = await meet(lambda _c: Keeper(echo))
    sink = Sink()
    meeting.near.open(b"", b"x", sink=sink)
    await sink.done()
    meeting.near.close("bye")
    await until(lambda: meeting.door.channels == 0)
    meeting.far_keeper.opened.clear()
    assert not [thing for thing in gc.get_objects() if isinstance(thing, Stream)]
