"""How a strategy asks the hospitals: one phase's requests out, the good replies in."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, runtime_checkable

from flwr.app import Message
from flwr.serverapp import Grid

Send = Callable[[Iterable[Message]], Iterable[Message]]
"""Sends the requests of one phase and gives the good replies, in sorted order."""


@runtime_checkable
class StreamingGrid(Protocol):
    """A grid that hands replies over one by one."""

    def stream(self, requests: Iterable[Message]) -> Iterator[Message]:
        """Send the requests of a phase and yield the replies in sorted order."""


def sender(grid: Grid, timeout: float) -> Send:
    """Send through a grid, one reply at a time where it can.

    Memory then does not grow with the number of sites.

    Args:
        grid: Of the run; one that does not stream is asked for all at once.
        timeout: Seconds that a phase may take there.

    Returns:
        Gives the replies without an error. Nothing is sent before the first is read.
    """

    def send(requests: Iterable[Message]) -> Iterator[Message]:
        if isinstance(grid, StreamingGrid):
            replies: Iterable[Message] = grid.stream(requests)
        else:
            asked = list(requests)
            replies = grid.send_and_receive(asked, timeout=timeout) if asked else ()
        yield from (reply for reply in replies if not reply.has_error())

    return send
