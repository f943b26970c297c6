"""Where the time of a prediction goes: milliseconds a frame, by stage."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

STAGES = ("read", "prepare", "network", "write")

Clock = Callable[[], float]
"""Seconds since any moment, never falling."""


class Spread(NamedTuple):
    """Of many durations; NaN of none."""

    median_ms: float
    p95_ms: float


class StageTimes:
    """Durations of the stages, one value a frame.

    Args:
        clock: What is asked for the time.
    """

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        """Start without any."""
        self._clock = clock
        self._seconds: dict[str, list[float]] = {stage: [] for stage in STAGES}

    @contextmanager
    def measure(self, stage: str, frames: int = 1) -> Iterator[None]:
        """Time what happens inside.

        Args:
            stage: One of `STAGES`.
            frames: How many frames share the duration evenly.

        Yields:
            Nothing. What raises is not counted.
        """
        start = self._clock()
        yield
        duration = self._clock() - start
        self._seconds[stage] += [duration / frames] * frames

    @property
    def num_frames(self) -> int:
        """Return how many frames went through the network."""
        return len(self._seconds["network"])

    def spreads(self) -> dict[str, Spread]:
        """Return median and 95th percentile of every stage."""
        return {stage: spread_of(values) for stage, values in self._seconds.items()}


def spread_of(seconds: list[float]) -> Spread:
    """Summarise durations.

    Args:
        seconds: Any number of them.

    Returns:
        Median and 95th percentile, ms.
    """
    if not seconds:
        return Spread(float("nan"), float("nan"))
    median, high = np.percentile(np.array(seconds) * 1000, (50, 95))
    return Spread(float(median), float(high))
