"""What a hospital may say of a model: sums over frames, which a server may add.

The overlap counts always travel; with all metrics wanted, so do the sums of every
metric and the histogram of probabilities of each class. How often classes are predicted
that a site does not annotate travels beside the overlap and is no part of any score:
such pixels need not be wrong, nobody looked. A network that labels whole frames has
label counts and no pixels. Only numbers per class and site, from
which no image can be rebuilt. `to_metrics` and `from_metrics` are the one
place where they are packed and unpacked; what no set of frames can have is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, TypeVar

from models.classes import CLASS_NAMES
from models.metric_sums import MetricSums
from models.metrics import SegmentationCounts
from models.roc import ScoreHistogram
from strategies.label_counts import LabelCounts, is_label_key
from strategies.unannotated import UnannotatedCounts, is_unannotated_key

Numbers = dict[str, int | float | list[int]]
"""Flat entries of a message."""

_ALL = "all."  # followed by "catheter.device.dice.total", "catheter.roc-positives", ...
_FRAMES, _LOSS = "num-examples", "loss"  # as in `strategies/messages.py`

Value = TypeVar("Value")


@dataclass(frozen=True)
class ClassEvaluation:
    """Every metric of one class, over the frames where it is annotated."""

    sums: MetricSums = field(default_factory=MetricSums.zero)
    histogram: ScoreHistogram = field(default_factory=ScoreHistogram)

    def __add__(self, other: Self) -> Self:
        """Return the evaluation of the union of two disjoint sets of frames."""
        return type(self)(self.sums + other.sums, self.histogram + other.histogram)


@dataclass(frozen=True)
class Evaluation:
    """A model measured on frames. Add with `+`: the value is that of the union."""

    num_frames: int  # >= 1
    loss: float  # mean over `scored_frames`; not finite if the network's output is not
    counts: SegmentationCounts
    classes: Mapping[str, ClassEvaluation] = field(default_factory=dict)  # or empty
    unannotated: UnannotatedCounts = field(default_factory=UnannotatedCounts.zero)
    labels: LabelCounts = field(default_factory=LabelCounts)  # of whole frames

    def __post_init__(self) -> None:
        """Refuse parts that cannot be of the same frames."""
        if type(self.num_frames) is not int or self.num_frames < 1:
            raise ValueError(f"An evaluation needs frames, got {self.num_frames}.")
        if self.counts.frames > self.num_frames:
            raise ValueError("More frames were counted than were measured.")
        if self.labels.names and self.labels.frames != self.num_frames:
            raise ValueError("Not as many frames were classified as were measured.")
        known, unknown = self.counts.annotated, self.unannotated.frames
        if any(
            sum(both) > self.num_frames for both in zip(known, unknown, strict=True)
        ):
            raise ValueError(
                "A class is known or unknown in more frames than measured."
            )
        if not self.classes:
            return
        if set(self.classes) != set(CLASS_NAMES):
            raise ValueError(
                f"All metrics are wanted of {', '.join(CLASS_NAMES)}, or of none."
            )
        wrong = [name for name in CLASS_NAMES if not self._agrees(name)]
        if wrong:
            raise ValueError(
                "Counts, sums and histogram must be of the same frames and pixels. "
                f"Wrong: {', '.join(wrong)}."
            )

    def __add__(self, other: Self) -> Self:
        """Return the evaluation of the union of two disjoint sets of frames.

        Raises:
            ValueError: If only one of them has all metrics, or labels differ.
        """
        if self.classes.keys() != other.classes.keys():
            raise ValueError("One evaluation has all metrics and the other has not.")
        weights = self.scored_frames, other.scored_frames
        if not any(weights):  # neither loss means anything
            weights = self.num_frames, other.num_frames
        total = self.loss * weights[0] + other.loss * weights[1]
        return type(self)(
            self.num_frames + other.num_frames,
            total / sum(weights),
            self.counts + other.counts,
            {name: one + other.classes[name] for name, one in self.classes.items()},
            self.unannotated + other.unannotated,
            self.labels + other.labels,
        )

    @property
    def scored_frames(self) -> int:
        """Return how many frames have a truth to compare with; 0 = no score, no loss.

        A site without labels measures none: it only counts what is predicted.
        """
        return self.labels.frames or self.counts.frames

    def scores(self, label: str) -> dict[str, float]:
        """Compute every value of a table for one class.

        Args:
            label: One of `CLASS_NAMES`.

        Returns:
            The scores of `MetricSums.scores`, "pooled.cldice" from the counts of
            skeleton pixels and "pooled.auc" from the histogram; NaN where no frame
            counts. Only "pooled." overlap when not all metrics were measured.
        """
        counted = self.counts.scores()
        names = ("dice", "cldice", "iou", "precision", "recall")
        scores = {f"pooled.{name}": counted[f"{name}.{label}"] for name in names}
        if self.classes:
            mine = self.classes[label]
            scores |= mine.sums.scores()
            scores["pooled.auc"] = mine.histogram.auc()
        return scores

    def require_all_metrics(self) -> None:
        """Refuse an evaluation of the overlap alone.

        Raises:
            ValueError: If only the overlap was measured.
        """
        if not self.classes and not self.labels.names:
            raise ValueError("Only the overlap was measured, all metrics are wanted.")

    def to_metrics(self) -> Numbers:
        """Return flat entries for a message; the reverse of `from_metrics`."""
        entries: Numbers = {_FRAMES: self.num_frames, _LOSS: self.loss}
        entries |= self.counts.to_dict()
        entries |= self.unannotated.to_dict() | self.labels.to_dict()
        for label, one in self.classes.items():
            parts = {**one.sums.to_dict(), **one.histogram.to_dict()}
            entries |= {f"{_ALL}{label}.{key}": value for key, value in parts.items()}
        return entries

    @classmethod
    def from_metrics(cls, entries: Mapping[str, object]) -> Self:
        """Read what a hospital sent.

        Args:
            entries: Exactly the keys of `to_metrics`, with or without all metrics.

        Returns:
            The evaluation.

        Raises:
            ValueError: If a key is missing or unknown, or a value is not possible.
        """
        singles: dict[str, int | float] = {}
        lists: dict[str, Sequence[int]] = {}
        for key, value in entries.items():
            if isinstance(value, int | float):
                singles[key] = value
            elif isinstance(value, list):
                lists[key] = value
        num_frames, loss = singles.pop(_FRAMES, 0), singles.pop(_LOSS, None)
        if loss is None:
            raise ValueError("An evaluation must tell its loss.")
        sums = {key: singles.pop(key) for key in list(singles) if key.startswith(_ALL)}
        classes = {
            label: ClassEvaluation(
                MetricSums.from_dict(_part(sums, label)),
                ScoreHistogram.from_dict(_part(lists, label)),
            )
            for label in CLASS_NAMES
            if sums or lists
        }
        unannotated = UnannotatedCounts.from_dict(
            {key: singles.pop(key) for key in list(singles) if is_unannotated_key(key)}
        )
        labels = LabelCounts.from_dict(
            {key: singles.pop(key) for key in list(singles) if is_label_key(key)}
        )
        counts = SegmentationCounts.from_dict(singles)
        # What is no whole number of frames is refused by __post_init__.
        found = cls(
            num_frames,  # type: ignore[arg-type]
            float(loss),
            counts,
            classes,
            unannotated,
            labels,
        )
        unknown = len(entries) - len(found.to_metrics())
        if unknown:
            raise ValueError(f"An evaluation has {unknown} unknown entries.")
        return found

    def _agrees(self, label: str) -> bool:
        """Tell whether counts, sums and histogram speak of the same pixels."""
        index = CLASS_NAMES.index(label)
        counts, sums = self.counts, self.classes[label].sums
        pixels, histogram = sums.counts, self.classes[label].histogram
        return (
            (sums.frames, sums.missed, sums.false_alarms)
            == (
                counts.annotated[index],
                counts.missed[index],
                counts.false_alarms[index],
            )
            and (pixels.tp, pixels.fp, pixels.fn)
            == (counts.tp[index], counts.fp[index], counts.fn[index])
            and sum(histogram.positives) == pixels.tp + pixels.fn
            and sum(histogram.negatives) == pixels.fp + pixels.tn
        )


def join_evaluations(parts: Sequence[Evaluation]) -> Evaluation:
    """Add evaluations of disjoint sets of frames.

    Args:
        parts: At least one; the overlap alone is added where not all have all metrics.

    Returns:
        The evaluation of the union.

    Raises:
        ValueError: If there are none.
    """
    if not parts:
        raise ValueError("There is no evaluation to add.")
    if not all(one.classes for one in parts):
        parts = [replace(one, classes={}) for one in parts]
    total = parts[0]
    for one in parts[1:]:
        total = total + one
    return total


def _part(entries: Mapping[str, Value], label: str) -> dict[str, Value]:
    prefix = f"{_ALL}{label}."
    return {
        key.removeprefix(prefix): value
        for key, value in entries.items()
        if key.startswith(prefix)
    }
