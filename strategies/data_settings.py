"""How frames are prepared: the same at every hospital of a run."""

from dataclasses import dataclass
from typing import ClassVar

from strategies.setting_rules import at_least, check, one_of

NORMALISATIONS = ("unit", "z-score")
CROPS = ("none", "collimator")
POLARITIES = ("keep", "dark")
AUGMENTATIONS = ("none", "light", "weak", "strong")


@dataclass(frozen=True)
class DataSettings:
    """What happens to a frame between the archive and the network."""

    frame_size: int  # px, side; 0 = the network's, larger = patches of the network's
    crop: str  # collimator: cut to the bounding box of the valid region
    clip_percentile: float  # of the valid region, at both ends, 0 to below 50
    polarity: str  # dark: invert frames of sites that declare bright devices
    normalise: str  # unit: [0, 1]; z-score: over the valid region, 0 outside
    augmentation: str  # of training batches

    prefix: ClassVar[str] = "data."

    def problems(self) -> list[str]:
        """List what is wrong, one sentence each."""
        return [
            *at_least("data.frame-size", self.frame_size, 0),
            *one_of("data.crop", self.crop, CROPS),
            *check(
                0 <= self.clip_percentile < 50,
                "data.clip-percentile must be at least 0 and below 50, "
                f"got {self.clip_percentile}",
            ),
            *one_of("data.polarity", self.polarity, POLARITIES),
            *one_of("data.normalise", self.normalise, NORMALISATIONS),
            *one_of("data.augmentation", self.augmentation, AUGMENTATIONS),
        ]
