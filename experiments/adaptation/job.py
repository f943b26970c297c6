"""One adaptation with one seed: what goes in, and how everything in it predicts.

Which settings a stage or row depends on stands here, beside the job, so that none is
forgotten when a result is named after what decides it.
"""

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from clients.adaptation.prompting import segment_masks
from clients.data.frames import FrameSet
from experiments.adaptation.targets import Target
from models.classes import CLASS_NAMES
from models.network import SegmentationNetwork
from models.prompt_layers import PromptedEncoderNetwork
from models.sam import Sam
from models.training_modes import choose_trainable
from models.weights import weights_digest
from strategies.adaptation_settings import AdaptationSettings
from strategies.randomness import derive_seed

STYLE = ("classes", "source_frames", "background", "composition", "noise", "feather")
COARSE = (
    "coarse_network",
    "coarse_epochs",
    "coarse_batch_size",
    "coarse_learning_rate",
    "coarse_weight_decay",
    "zero_init",
)
CLEANING = (
    "threshold",
    "legacy_logit_threshold",
    "cleaning",
    "cluster_radius",
    "cluster_pixels",
    "min_cluster",
    "min_cluster_share",
    "keep_longest",
)
FINE = (
    "fine_start",
    "training",
    "lora_rank",
    "epochs",
    "warmup_epochs",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "ramp_steps",
    "warmup_weights",
    "weights",
    "prediction_inner_weight",
    "embedding_loss",
    "embedding_temperature",
)
ADAPTERS = ("training", "lora_rank")
BUDGET = (
    *ADAPTERS,
    "epochs",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "ramp_steps",
)
"""Which settings a stage depends on, beside those of the stages before it."""
EVALUATION_BATCH = 16  # frames, as the paper's


@dataclass(frozen=True)
class Job:
    """One adaptation with one seed."""

    start: Sam  # stays as it is
    source: FrameSet  # labelled
    target: Target
    settings: AdaptationSettings
    seed: int
    device: torch.device
    labels_from: str = "coarse"
    predicts_iou: bool = False  # the start has learned to: official checkpoints have

    @property
    def classes(self) -> tuple[int, ...]:
        """Return the numbers of the classes adapted."""
        return tuple(CLASS_NAMES.index(name) for name in self.settings.class_names)

    def seed_of(self, phase: str) -> int:
        """Return the seed of a stage or row."""
        return derive_seed(self.seed, round_number=0, phase=phase, site="")

    def chosen(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return some of the settings by name."""
        return {name: getattr(self.settings, name) for name in names}

    @cached_property
    def digests(self) -> dict[str, str]:
        """Tell apart what any stage begins with; no mask of the target is in it."""
        return {
            "start": weights_digest(self.start.state_dict()),
            "source": self.source.digest(),
            "target": self.target.unlabelled.digest(),
        }


def predicted(
    job: Job,
    network: SegmentationNetwork,
    frames: FrameSet,
    *,
    kind: str = "none",
    prompts: Tensor | None = None,
) -> Tensor:
    """Segment frames as everything in a study does.

    Args:
        job: Threshold, seed of drawn points, device.
        network: Ends on the device.
        frames: Their masks are not looked at.
        kind: Of prompt.
        prompts: Masks that prompts are made from.

    Returns:
        uint8 (frames, classes, size, size) on the CPU, 0 in classes not adapted.
    """
    masks = segment_masks(
        network,
        frames,
        threshold_logit=job.settings.logit_threshold,
        kind=kind,
        prompt_masks=None if kind == "none" else prompts,
        batch_size=EVALUATION_BATCH,
        device=job.device,
        seed=job.seed_of("prompts"),
    )
    return adapted_only(job, masks)


def adapted_only(job: Job, masks: Tensor) -> Tensor:
    """Empty the masks (frames, classes, ...) of classes that are not adapted."""
    adapted = torch.zeros(masks.shape[1], dtype=torch.uint8)
    adapted[list(job.classes)] = 1
    return masks * adapted[:, None, None]


def untrained_coarse(start: Sam, settings: AdaptationSettings) -> SegmentationNetwork:
    """Build the coarse network that trained weights are to be loaded into.

    Args:
        start: Stays as it is.
        settings: Which network.

    Returns:
        The network on the CPU; the weights that train are of no meaning.
    """
    copied = copy.deepcopy(start).cpu()
    if settings.coarse_network == "prompt-layers":
        return PromptedEncoderNetwork(copied)
    return choose_trainable(copied, settings.training, rank=settings.lora_rank)
