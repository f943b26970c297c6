"""Keeping up with frames that come by themselves: the newest one counts.

A thread receives frames into a mailbox that holds one. A frame that nobody took before
the next one came is dropped, so what is predicted is never older than one prediction.
Latency is the time from a frame's arrival to its finished prediction, waiting included.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clients.data.errors import DataError
from experiments.prediction.timing import Clock

log = logging.getLogger(__name__)

Pixels = NDArray[np.number]


class Arrival(NamedTuple):
    """A frame and when it came."""

    number: int  # from 1, dropped ones counted
    at_s: float
    pixels: Pixels


class Mailbox:
    """Room for one frame between who receives and who predicts.

    Args:
        clock: What is asked for the time.
    """

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        """Start empty and open."""
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: Arrival | None = None
        self._closed = False
        self.failure = ""
        self.received = 0
        self.dropped = 0

    def put(self, pixels: Pixels) -> bool:
        """Leave a frame; one that still waits is dropped for it.

        Args:
            pixels: (height, width).

        Returns:
            False when nobody wants frames any more.
        """
        with self._changed:
            if self._closed:
                return False
            self.received += 1
            self.dropped += self._waiting is not None
            self._waiting = Arrival(self.received, self._clock(), pixels)
            self._changed.notify()
            return True

    def close(self, failure: str = "") -> None:
        """Say that no more frames come; one that waits can still be taken.

        Args:
            failure: Why, if something is wrong; nothing of the stream is quoted.
        """
        with self._changed:
            self._closed = True
            self.failure = self.failure or failure
            self._changed.notify()

    def take(self) -> Arrival | None:
        """Wait for a frame.

        Returns:
            The newest one; None when there are no more.
        """
        with self._changed:
            while self._waiting is None and not self._closed:
                # In short steps, so that Ctrl-C is heard on every system.
                self._changed.wait(timeout=0.2)
            taken, self._waiting = self._waiting, None
            return taken


class StreamReport(NamedTuple):
    """How well a stream was kept up with."""

    received: int
    dropped: int
    latencies_s: list[float]  # one a predicted frame
    failure: str = ""  # why the stream ended early, if something is wrong

    def percentiles_ms(self) -> dict[str, float]:
        """Return the 50th, 95th and 99th percentile and the worst; none of none."""
        if not self.latencies_s:
            return {}
        values = np.array(self.latencies_s) * 1000
        found = np.percentile(values, (50, 95, 99, 100))
        return dict(zip(("p50", "p95", "p99", "max"), map(float, found), strict=True))


def run_stream(
    mailbox: Mailbox,
    handle: Callable[[Arrival], None],
    *,
    limit: int = 0,
    clock: Clock = time.perf_counter,
) -> StreamReport:
    """Predict what comes until it ends, the limit is reached or the user stops.

    Args:
        mailbox: Somebody puts frames into it.
        handle: Predicts a frame and is done when it returns.
        limit: Number of frames to predict; 0 = all.
        clock: The mailbox's.

    Returns:
        What was predicted and how late. Neither Ctrl-C nor a failure of the stream
        costs the report.
    """
    latencies: list[float] = []
    left_over = 0
    try:
        while not limit or len(latencies) < limit:
            arrival = mailbox.take()
            if arrival is None:
                break
            left_over = 1  # until it is handled
            handle(arrival)
            latencies.append(clock() - arrival.at_s)
            left_over = 0
    except KeyboardInterrupt:
        log.info("Stopped by hand; what was counted until then is reported.")
    finally:
        mailbox.close()
    unseen = mailbox.received - mailbox.dropped - len(latencies) - left_over
    dropped = mailbox.dropped + unseen + left_over
    return StreamReport(mailbox.received, dropped, latencies, mailbox.failure)


def receive(frames: Iterator[Pixels], mailbox: Mailbox) -> threading.Thread:
    """Put frames into a mailbox from a thread of their own.

    Args:
        frames: An iterator that waits for its frames itself.
        mailbox: Closed when they end.

    Returns:
        The thread, running; it does not keep the program alive.
    """

    def work() -> None:
        failure = ""
        try:
            for pixels in frames:
                if not mailbox.put(pixels):
                    break
        except DataError as error:
            failure = str(error)
        except Exception as error:  # noqa: BLE001 - its text may quote the stream
            failure = f"The stream ended in an unexpected {type(error).__name__}."
        mailbox.close(failure)

    thread = threading.Thread(target=work, daemon=True, name="stream")
    thread.start()
    return thread
