"""How good pseudo-labels are: what cleaning kept, and the truth where it exists."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from clients.adaptation.scores import AdaptationScores
from clients.data.errors import DataError
from models.classes import CLASS_NAMES


@dataclass(frozen=True)
class ClassQuality:
    """What cleaning did to the predictions of one class, over all frames."""

    predicted: int  # frames with a prediction
    labelled: int  # frames that keep one
    predicted_pixels: int
    kept_pixels: int
    clusters_before: int
    clusters_after: int

    @property
    def kept_share(self) -> float | None:
        """Share of the predicted pixels that is kept; None if none was predicted."""
        return _share(self.kept_pixels, self.predicted_pixels)

    @property
    def clusters_per_frame(self) -> float | None:
        """Clusters of a labelled frame, on average: 1 = no wire is broken."""
        return _share(self.clusters_after, self.labelled)


@dataclass(frozen=True)
class PseudoLabelQuality:
    """What became of the predictions of a site's frames.

    Attributes:
        frames: All of them.
        skipped: Of them, those that keep no label of any class.
        classes: By the name of each class adapted.
    """

    frames: int
    skipped: int
    classes: dict[str, ClassQuality]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it, shares included."""
        shares = {
            name: {
                "kept_share": one.kept_share,
                "clusters_per_frame": one.clusters_per_frame,
            }
            for name, one in self.classes.items()
        }
        classes = {
            name: {**asdict(one), **shares[name]} for name, one in self.classes.items()
        }
        return {"frames": self.frames, "skipped": self.skipped, "classes": classes}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "PseudoLabelQuality":
        """Read what `to_dict` returned.

        Raises:
            DataError: If it is anything else.
        """
        counts = ClassQuality.__dataclass_fields__
        try:
            return cls(
                frames=int(content["frames"]),
                skipped=int(content["skipped"]),
                classes={
                    name: ClassQuality(**{field: int(one[field]) for field in counts})
                    for name, one in content["classes"].items()
                },
            )
        except (KeyError, TypeError, AttributeError, ValueError):
            raise DataError(
                "The quality of pseudo-labels was wanted, with frames, skipped and "
                "classes; got something else. Run the coarse stage again."
            ) from None


@dataclass(frozen=True)
class Agreement:
    """Pseudo-labels against the truth, mean over frames."""

    kept: AdaptationScores  # of the frames that keep a label
    all: AdaptationScores  # of all frames; a skipped one counts as an empty mask

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {"kept": self.kept.to_dict(), "all": self.all.to_dict()}


def measure_quality(
    predicted: Tensor,
    cleaned: Tensor,
    before: Tensor,
    after: Tensor,
    names: Sequence[str],
) -> PseudoLabelQuality:
    """Count what cleaning kept.

    Args:
        predicted: (frames, classes of `CLASS_NAMES`, size, size), nonzero = device.
        cleaned: The same after cleaning.
        before: (frames, classes), clusters of the predictions.
        after: (frames, classes), clusters kept.
        names: Of the classes adapted; others do not count.

    Returns:
        The counts.
    """
    places = [CLASS_NAMES.index(name) for name in names]
    pixels = (predicted != 0).sum(dim=(2, 3))[:, places]
    kept = (cleaned != 0).sum(dim=(2, 3))[:, places]
    return PseudoLabelQuality(
        frames=len(predicted),
        skipped=int((kept.sum(1) == 0).sum()),
        classes={
            name: ClassQuality(
                predicted=int((pixels[:, column] > 0).sum()),
                labelled=int((kept[:, column] > 0).sum()),
                predicted_pixels=int(pixels[:, column].sum()),
                kept_pixels=int(kept[:, column].sum()),
                clusters_before=int(before[:, place].sum()),
                clusters_after=int(after[:, place].sum()),
            )
            for column, (name, place) in enumerate(zip(names, places, strict=True))
        },
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
