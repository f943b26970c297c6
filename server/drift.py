"""Watches whether the silos' models part from each other.

Without feedback of the accumulated model silos drift, and their mean is no model any
more: relative distances of .15 to .18, against .01 with feedback, came with a mean that
scored a tenth of what its silos did. A distance that grows and grows is the early sign,
once it is larger than ever: one that comes down in waves, as on a tour, is none.
"""

import math
from collections.abc import Iterable

GROWTH = 0.05
"""A distance has grown when it is more than this share above the last one."""

GROWING_ROUNDS = 3
"""So many rounds in a row of growth are worth a warning."""

LEAST_DISTANCE = 1e-6
"""Below lies the rounding of the distance itself; see `Accumulator`."""


class DriftWatch:
    """Is told the consensus distance of every round and says when it keeps growing."""

    def __init__(self) -> None:
        """Begin a run."""
        self._last: float | None = None
        self._largest = 0.0  # so far
        self._rounds = 0
        self._is_told = False

    @property
    def growing_rounds(self) -> int:
        """Number of rounds in a row in which the distance has grown, up to now."""
        return self._rounds

    def note(self, distance: float | None) -> str:
        """Take in the distance of a round.

        Args:
            distance: Of `Accumulator.consensus_distance`, >= 0. None or a number that
                is not finite changes nothing: the next one is compared with the last
                that was known.

        Returns:
            A warning, told once until the distance falls again; else "".
        """
        if distance is None or not math.isfinite(distance):
            return ""
        last, self._last = self._last, distance
        is_largest = distance > self._largest
        self._largest = max(self._largest, distance)
        if last is None:
            return ""
        has_grown = distance > max((1 + GROWTH) * last, LEAST_DISTANCE)
        self._rounds = self._rounds + 1 if has_grown else 0
        if distance < last:
            self._is_told = False
        if self._rounds < GROWING_ROUNDS or not is_largest or self._is_told:
            return ""
        self._is_told = True
        return (
            f"The silos part from each other: their consensus distance grew by more "
            f"than {GROWTH:.0%} in each of {self._rounds} rounds, to {distance:.3g}. "
            "Their mean may soon be no model; feed it back more often "
            "(fedefm.feedback, fedefm.feedback-period) or train with smaller steps."
        )


def warned_rounds(distances: Iterable[tuple[int, float]]) -> list[int]:
    """Return the rounds of a series in which `DriftWatch` warns.

    Args:
        distances: Rounds in order, and the distance of each.
    """
    watch = DriftWatch()
    return [number for number, distance in distances if watch.note(distance)]
