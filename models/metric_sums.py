"""Sums of the metrics of frames, which hospitals may send and a server may add.

Sums, numbers of frames and pixel counts, from which no image can be rebuilt: the value
a server computes from added sums is the value on the union of the frames. What is NaN
in a frame leaves that mean, and is counted beside it. Frames with a device are summed
apart from those without: where both masks are empty every score is 1, which can carry a
whole mean. One class at a time; the pooled AUC travels apart (`models/roc.py`).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from models.image_metrics import METRICS, REGION_SCORES, SHARES, ImageMetrics
from models.region_metrics import PixelCounts

_GROUPS = ("device", "empty")  # frames with and without a labelled pixel


@dataclass(frozen=True)
class Tally:
    """The sum of one metric over frames; `excluded` frames were NaN."""

    total: float = 0.0  # in the unit of the metric
    count: int = 0  # frames in the sum
    excluded: int = 0  # frames left out

    def __add__(self, other: Self) -> Self:
        """Return the tally of the union of two disjoint sets of frames."""
        return type(self)(
            self.total + other.total,
            self.count + other.count,
            self.excluded + other.excluded,
        )

    @classmethod
    def of(cls, value: float) -> Self:
        """Return the tally of one frame."""
        return cls(excluded=1) if math.isnan(value) else cls(value, 1)

    def mean(self) -> float:
        """Return the mean over the frames in the sum; NaN without any."""
        return self.total / self.count if self.count else math.nan


@dataclass(frozen=True)
class MetricSums:
    """What a hospital may send about one class. Add with `+`."""

    counts: PixelCounts
    missed: int  # frames with a device and an empty prediction
    false_alarms: int  # frames without a device and with a prediction
    tallies: Mapping[str, Tally]  # "device.dice", "empty.dice", ...

    def __post_init__(self) -> None:
        """Refuse numbers that no set of frames can have."""
        wrong = [key for key in self.tallies if not self._is_possible(key)]
        if self.tallies.keys() != set(_tally_keys()):
            wrong.append("names of metrics")
        for name, group in (("missed", "device"), ("false_alarms", "empty")):
            value = getattr(self, name)
            if not _is_count(value) or value > self._num_frames(group):
                wrong.append(name)
        if wrong:
            raise ValueError(
                "Sums of metrics must be finite and >= 0, shares at most the number of "
                "their frames, and every metric must know all frames. Wrong: "
                f"{', '.join(wrong)}."
            )

    def __add__(self, other: Self) -> Self:
        """Return the sums of the union of two disjoint sets of frames."""
        return type(self)(
            self.counts + other.counts,
            self.missed + other.missed,
            self.false_alarms + other.false_alarms,
            {key: self.tallies[key] + other.tallies[key] for key in _tally_keys()},
        )

    @classmethod
    def zero(cls) -> Self:
        """Return the sums of no frames at all."""
        return cls(PixelCounts(), 0, 0, dict.fromkeys(_tally_keys(), Tally()))

    @classmethod
    def of(cls, frames: Iterable[ImageMetrics]) -> Self:
        """Add the metrics of frames."""
        return sum((cls._of_frame(frame) for frame in frames), start=cls.zero())

    @property
    def frames(self) -> int:
        """Frames that were measured."""
        return self.device_frames + self._num_frames("empty")

    @property
    def device_frames(self) -> int:
        """Frames with a labelled pixel."""
        return self._num_frames("device")

    def tally(self, name: str, *, device_only: bool = False) -> Tally:
        """Return the sum of a metric over frames: its mean is the per-image value.

        Args:
            name: One of METRICS; "iou" gives FGA-Net's MIoU.
            device_only: Leave out frames without a labelled pixel.

        Returns:
            The tally, with the numbers of frames used and excluded.
        """
        device = self.tallies[f"device.{name}"]
        return device if device_only else device + self.tallies[f"empty.{name}"]

    def scores(self) -> dict[str, float]:
        """Compute every value of a table.

        Returns:
            "pooled.NAME" for REGION_SCORES, from summed pixels ("pooled.iou" is OIoU);
            "image.NAME" and "device-image.NAME" for METRICS, means over all frames
            and over those with a device; NaN where no frame counts.
        """
        scores = {
            f"pooled.{name}": getattr(self.counts, name.replace("-", "_"))()
            for name in REGION_SCORES
        }
        for name in METRICS:
            scores[f"image.{name}"] = self.tally(name).mean()
            scores[f"device-image.{name}"] = self.tally(name, device_only=True).mean()
        return scores

    def to_dict(self) -> dict[str, int | float]:
        """Return flat entries for a message, such as "device.dice.total" and "tp"."""
        entries: dict[str, int | float] = dict(vars(self.counts))
        entries |= {"missed": self.missed, "false-alarms": self.false_alarms}
        for key in _tally_keys():
            for part, value in vars(self.tallies[key]).items():
                entries[f"{key}.{part}"] = value
        return entries

    @classmethod
    def from_dict(cls, values: Mapping[str, int | float]) -> Self:
        """Read the entries of `to_dict` back.

        Args:
            values: Exactly the keys of `to_dict`.

        Returns:
            The sums.

        Raises:
            ValueError: If a key is missing or unknown, or a value is not possible.
        """
        different = sorted(cls.zero().to_dict().keys() ^ values.keys())
        if different:
            raise ValueError(
                "Sums of metrics must have the keys of MetricSums.to_dict; "
                f"{len(different)} missing or unknown: {', '.join(different[:3])}."
            )
        # What is not a whole or finite number is refused by the classes themselves.
        counts = {name: values[name] for name in vars(PixelCounts())}
        tallies = {
            key: Tally(**{part: values[f"{key}.{part}"] for part in vars(Tally())})  # type: ignore[arg-type]
            for key in _tally_keys()
        }
        alarms = values["missed"], values["false-alarms"]
        return cls(PixelCounts(**counts), *alarms, tallies)  # type: ignore[arg-type]

    @classmethod
    def _of_frame(cls, frame: ImageMetrics) -> Self:
        group = _GROUPS[0] if frame.has_device else _GROUPS[1]
        found = {f"{group}.{name}": Tally.of(frame.values[name]) for name in METRICS}
        return cls(
            frame.counts,
            missed=int(frame.has_device and not frame.is_predicted),
            false_alarms=int(frame.is_predicted and not frame.has_device),
            tallies={**dict.fromkeys(_tally_keys(), Tally()), **found},
        )

    def _num_frames(self, group: str) -> int:
        tally = self.tallies.get(f"{group}.dice", Tally())
        return tally.count + tally.excluded

    def _is_possible(self, key: str) -> bool:
        tally = self.tallies[key]
        group, name = key.split(".", 1)
        numbers = _is_count(tally.count) and _is_count(tally.excluded)
        # A sum of n shares of 1, each rounded, may pass n by its last digits.
        limit = tally.count * (1 + 1e-9) if name in SHARES else math.inf
        if not tally.count:
            limit = 0.0
        return (
            numbers
            and tally.count + tally.excluded == self._num_frames(group)
            and math.isfinite(tally.total)
            and 0 <= tally.total <= limit
        )


def _tally_keys() -> list[str]:
    return [f"{group}.{name}" for group in _GROUPS for name in METRICS]


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0
