"""How a site without labels learns from simulated ones, coarse to fine.

Wen et al., arXiv 2410.07460. Defaults are the paper's where it or its code says them,
ours where neither does (composition, cleaning). What each does stands beside its
default in pyproject.toml.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from models.classes import CLASS_NAMES
from strategies.setting_rules import at_least, check, one_of, share

BACKGROUNDS = ("crop", "median", "inpaint", "none")
COMPOSITIONS = ("paste", "attenuate")
COARSE_NETWORKS = ("prompt-layers", "sam")
CLEANINGS = ("dbscan", "none")
FINE_STARTS = ("auto", "checkpoint", "coarse")
FINE_TRAININGS = ("lora", "lora-decoder", "full")
EMBEDDING_LOSSES = ("infonce", "positive", "zero")


@dataclass(frozen=True)
class LossWeights:
    """The four weights of eq. (9) in one phase."""

    consistency: float  # lambda 1, L_ts of eq. (2): student against teacher
    pseudo_label: float  # lambda 2, L_ws of eq. (4)
    embedding: float  # lambda 3, L_emb of eq. (6)
    prediction: float  # lambda 4, L_pred of eq. (8): teacher's strong view

    @classmethod
    def parse(cls, text: str) -> "LossWeights":
        """Read four numbers with commas between.

        Raises:
            ValueError: If it is anything else, or one is negative.
        """
        numbers = [float(part) for part in text.split(",")]
        if len(numbers) != 4 or not all(number >= 0 for number in numbers):
            raise ValueError(text)
        return cls(*numbers)


@dataclass(frozen=True)
class AdaptationSettings:
    """Everything that the three stages can be told; lengths are px of 1024."""

    classes: str  # names with commas: what is adapted; the rest stays unknown
    source_domains: str  # simulated ones with commas: where a site's labels come from
    # Style transfer, eq. (1)
    source_frames: int  # simulated frames to restyle
    background: str  # where the pool comes from
    composition: str
    noise: float  # sigma of eq. (1), in units of the range; below 0 = estimated
    feather: float  # px of the frame, blur of the device's edge
    # Coarse stage
    coarse_network: str  # what makes the pseudo-labels
    coarse_epochs: int
    coarse_batch_size: int
    coarse_learning_rate: float
    coarse_weight_decay: float
    zero_init: bool  # prompt layers start at zero
    # Cleaning of pseudo-labels
    cleaning: str
    cluster_radius: float  # eps of DBSCAN
    cluster_pixels: int  # min_samples of DBSCAN
    min_cluster: float  # px of length; smaller clusters are dropped
    min_cluster_share: float  # of the largest cluster
    keep_longest: int  # clusters with the longest centrelines; 0 = all
    # Fine stage
    fine_start: str  # whose weights both SAMs begin with
    training: str  # what of both SAMs trains
    lora_rank: int
    epochs: int
    warmup_epochs: int  # of them: teacher and student on pseudo-labels
    batch_size: int
    learning_rate: float
    weight_decay: float
    ramp_steps: int  # linear warm-up of the learning rate
    warmup_weights: str  # eq. (9) in the warm-up
    weights: str  # eq. (9) in self-training
    prediction_inner_weight: float  # of focal and Dice in eq. (8)
    embedding_loss: str
    embedding_temperature: float  # tau of eq. (6)
    threshold: float  # of probabilities
    legacy_logit_threshold: bool  # compare logits with it, as the released code does

    prefix: ClassVar[str] = "adapt."

    def problems(self) -> list[str]:
        """List what is wrong, one sentence each."""
        return [
            *self._composition_problems(),
            *self._cleaning_problems(),
            *self._fine_problems(),
            *self._weight_problems(),
        ]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return what is adapted, in the order of `CLASS_NAMES`."""
        chosen = {name.strip() for name in self.classes.split(",")}
        return tuple(name for name in CLASS_NAMES if name in chosen)

    @property
    def source_names(self) -> tuple[str, ...]:
        """Return the simulated domains in the order written, each once."""
        names = (name.strip() for name in self.source_domains.split(","))
        return tuple(dict.fromkeys(name for name in names if name))

    @property
    def logit_threshold(self) -> float:
        """Return above which logit a pixel is a device."""
        if self.legacy_logit_threshold:
            return self.threshold
        return math.log(self.threshold / (1 - self.threshold))

    @property
    def starts_from_coarse(self) -> bool:
        """Tell whether the fine stage begins with what the coarse stage has learned."""
        return self.fine_start != "checkpoint" and self.coarse_network == "sam"

    def loss_weights(self, epoch: int) -> LossWeights:
        """Return the weights of an epoch, counted from 0."""
        is_warmup = epoch < self.warmup_epochs
        return LossWeights.parse(self.warmup_weights if is_warmup else self.weights)

    def _composition_problems(self) -> list[str]:
        named = {name.strip() for name in self.classes.split(",")}
        return [
            *check(
                bool(named) and named <= set(CLASS_NAMES),
                f"adapt.classes must be one or more of {', '.join(CLASS_NAMES)} with "
                f"commas between, got '{self.classes}'",
            ),
            *check(
                bool(self.source_names),
                "adapt.source-domains must name one or more simulated domains with "
                "commas between, such as 'simulation', got none",
            ),
            *at_least("adapt.source-frames", self.source_frames, 1),
            *one_of("adapt.background", self.background, BACKGROUNDS),
            *one_of("adapt.composition", self.composition, COMPOSITIONS),
            *check(self.noise <= 1, f"adapt.noise must be <= 1, got {self.noise}"),
            *at_least("adapt.feather", self.feather, 0),
            *one_of("adapt.coarse-network", self.coarse_network, COARSE_NETWORKS),
            *at_least("adapt.coarse-epochs", self.coarse_epochs, 1),
            *at_least("adapt.coarse-batch-size", self.coarse_batch_size, 1),
            *_positive("adapt.coarse-learning-rate", self.coarse_learning_rate),
            *at_least("adapt.coarse-weight-decay", self.coarse_weight_decay, 0),
        ]

    def _cleaning_problems(self) -> list[str]:
        return [
            *one_of("adapt.cleaning", self.cleaning, CLEANINGS),
            *_positive("adapt.cluster-radius", self.cluster_radius),
            *at_least("adapt.cluster-pixels", self.cluster_pixels, 1),
            *at_least("adapt.min-cluster", self.min_cluster, 0),
            *share("adapt.min-cluster-share", self.min_cluster_share),
            *at_least("adapt.keep-longest", self.keep_longest, 0),
        ]

    def _fine_problems(self) -> list[str]:
        return [
            *one_of("adapt.fine-start", self.fine_start, FINE_STARTS),
            *check(
                self.fine_start != "coarse" or self.coarse_network == "sam",
                "adapt.fine-start = 'coarse' needs adapt.coarse-network = 'sam', got "
                f"'{self.coarse_network}'",
            ),
            *one_of("adapt.training", self.training, FINE_TRAININGS),
            *at_least("adapt.lora-rank", self.lora_rank, 1),
            *at_least("adapt.epochs", self.epochs, 1),
            *check(
                0 <= self.warmup_epochs <= self.epochs,
                "adapt.warmup-epochs must be between 0 and adapt.epochs, "
                f"got {self.warmup_epochs} of {self.epochs}",
            ),
            *at_least("adapt.batch-size", self.batch_size, 1),
            *_positive("adapt.learning-rate", self.learning_rate),
            *at_least("adapt.weight-decay", self.weight_decay, 0),
            *at_least("adapt.ramp-steps", self.ramp_steps, 0),
            *one_of("adapt.embedding-loss", self.embedding_loss, EMBEDDING_LOSSES),
            *_positive("adapt.embedding-temperature", self.embedding_temperature),
            *at_least("adapt.prediction-inner-weight", self.prediction_inner_weight, 0),
            *check(
                0 < self.threshold < 1,
                f"adapt.threshold must be between 0 and 1, got {self.threshold}",
            ),
        ]

    def _weight_problems(self) -> list[str]:
        problems = []
        for key in ("warmup_weights", "weights"):
            text = getattr(self, key)
            try:
                LossWeights.parse(text)
            except ValueError:
                problems.append(
                    f"adapt.{key.replace('_', '-')} must be four numbers >= 0 with "
                    f"commas between, such as '0, 1, 0.5, 1', got '{text}'"
                )
        return problems


def _positive(key: str, value: float) -> list[str]:
    return check(value > 0, f"{key} must be > 0, got {value}")
