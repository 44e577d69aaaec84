"""A process that answers bursts: ``python -m isochrone.lab.subject KEY_HEX RESOLVE_JSON``.

The lab's smallest subject: a prover and nothing else, so that a trial can put a real process behind
any emulated link. Orders come on standard input and answers go to standard output, each four bytes
of length and a MessagePack message, after the 20 bytes of the vantage's address; it ends with its
input. ``--relay PORT`` makes it a box instead, which holds no key: it takes plain connections and
passes bytes on to ``PORT``, as a liar near a vantage would.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys

import msgspec

from isochrone.schema.frames import pack
from isochrone.schema.identity import PrivateKey
from isochrone.wire.probing_prover import Prover
from isochrone.wire.probing_subjects import read_asked

LENGTH = struct.Struct("!I")
ADDRESS_BYTES = 20


async def answer_orders(key: PrivateKey, resolve: dict[str, str]) -> None:
    """Answer whatever comes on standard input until it ends."""

    def dial(host: str, port: int) -> tuple[str, int]:
        host, _, number = resolve.get(f"{host}:{port}", f"{host}:{port}").rpartition(":")
        return host, int(number)

    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    prover = Prover(key, dial)
    try:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                (length,) = LENGTH.unpack(await orders.readexactly(LENGTH.size))
                frame = await orders.readexactly(length)
                vantage = "0x" + frame[:ADDRESS_BYTES].hex()
                said = pack(await prover.answer(vantage, read_asked(frame[ADDRESS_BYTES:])))
                sys.stdout.buffer.write(LENGTH.pack(len(said)) + said)
                sys.stdout.buffer.flush()
    finally:
        await prover.close()


async def relay(port: int) -> None:
    """Take plain connections on a port that is printed, pass their bytes to ``port``."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(4096):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward, back = await asyncio.open_connection("127.0.0.1", port)
        for one in (writer, back):
            line: socket.socket = one.get_extra_info("socket")
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(carry(reader, back), carry(onward, writer))

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(ended), sys.stdin)
    await ended.read()
    server.close()


def main(arguments: list[str]) -> None:
    """Be a subject or a box, until standard input ends."""
    if arguments[0] == "--relay":
        asyncio.run(relay(int(arguments[1])))
        return
    secret, resolve = arguments
    key = PrivateKey(bytes.fromhex(secret))
    asyncio.run(answer_orders(key, msgspec.json.decode(resolve, type=dict[str, str])))


if __name__ == "__main__":
    main(sys.argv[1:])
