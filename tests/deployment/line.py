"""A bad line: a TCP relay that delays what passes and stalls now and then.

    python line.py --delay-ms 100 --stall-every-s 10 --stall-s 2

It runs inside a hospital's namespace, takes the connections that are redirected to
LINE_PORT of its loopback, and passes them on to the centre. It cannot read them: TLS
goes from end to end. A kernel with `tc netem` could do the same to packets.
"""

import argparse
import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass

from tests.deployment.lab import CENTRE_ADDRESS, LINE_MARK, LINE_PORT, PORT

CHUNK = 16384  # bytes


@dataclass(frozen=True)
class Badness:
    """What happens on the way, in each direction."""

    delay_s: float = 0.0
    stall_every_s: float = 0.0  # 0 = never
    stall_s: float = 0.0

    def may_leave_at(self, arrived: float) -> float:
        """Return when a chunk that arrived at a moment may go on.

        Both directions stall at the same moments, as they do on one cable.
        """
        leaves = arrived + self.delay_s
        if self.stall_every_s <= 0:
            return leaves
        since = leaves % self.stall_every_s
        return leaves + max(0.0, self.stall_s - since)


async def serve(badness: Badness) -> None:
    """Relay for ever."""

    async def accept(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            there = await asyncio.open_connection(sock=await _connected())
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(
            _pass(reader, there[1], badness), _pass(there[0], writer, badness)
        )

    server = await asyncio.start_server(accept, "127.0.0.1", LINE_PORT)
    async with server:
        await server.serve_forever()


async def _connected() -> socket.socket:
    """Return a connection to the centre that is not redirected to this relay."""
    there = socket.socket()
    there.setblocking(False)
    there.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, LINE_MARK)
    loop = asyncio.get_running_loop()
    await asyncio.wait_for(loop.sock_connect(there, (CENTRE_ADDRESS, PORT)), timeout=10)
    return there


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, badness: Badness
) -> None:
    """Pass one direction on, in order; many chunks may be on their way at once."""
    # As much as 10 Mbit/s have on the way in the delay, so that no speed is lost.
    on_its_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)

    async def send() -> None:
        while True:
            leaves, chunk = await on_its_way.get()
            await asyncio.sleep(max(0.0, leaves - time.monotonic()))
            if not chunk:
                return
            writer.write(chunk)
            await writer.drain()

    sender = asyncio.create_task(send())
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK):
            await on_its_way.put((badness.may_leave_at(time.monotonic()), chunk))
            if sender.done():
                break
    if not sender.done():
        await on_its_way.put((badness.may_leave_at(time.monotonic()), b""))
    with contextlib.suppress(OSError):
        await sender
    with contextlib.suppress(OSError):
        writer.close()


def main() -> None:
    """Relay until somebody ends this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("delay-ms", "stall-every-s", "stall-s"):
        parser.add_argument(f"--{name}", type=float, default=0.0)
    given = parser.parse_args()
    badness = Badness(given.delay_ms / 1000, given.stall_every_s, given.stall_s)
    asyncio.run(serve(badness))


if __name__ == "__main__":
    main()
