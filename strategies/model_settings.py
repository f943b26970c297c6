"""Which network a run trains, and which part of it."""

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import ClassVar

from models.assembly import Recipe
from models.registry import BUILDERS, WITH_AUXILIARY_HEADS
from models.sam_sizes import SIZES
from models.training_modes import TRAINING_MODES
from strategies.setting_rules import at_least, check, one_of

_LABEL = re.compile(r"[\w.-]{1,40}")

TASKS = ("segmentation", "source-classification")


@dataclass(frozen=True)
class ModelSettings:
    """Which network to train, from where, which part of it, and what for."""

    name: str
    image_size: int  # px, divisible by 16
    training: str  # which part trains and travels
    lora_rank: int  # of the adapters, where there are some
    deep_supervision: bool  # auxiliary heads with their losses
    checkpoint: str  # absolute path of an official SAM file, "" = from the seed
    task: str
    data_types: str  # of all sites, comma separated: the labels of a classification

    prefix: ClassVar[str] = "model."

    def problems(self) -> list[str]:
        """List what is wrong, one sentence each."""
        is_sam = self.name in SIZES
        return [
            *one_of("model.name", self.name, tuple(BUILDERS)),
            *check(
                self.image_size >= 32 and self.image_size % 16 == 0,
                f"model.image-size must be a multiple of 16, at least 32, "
                f"got {self.image_size}",
            ),
            *one_of("model.training", self.training, TRAINING_MODES),
            *check(
                self.training == "full" or is_sam,
                f"model.training = '{self.training}' is for the SAM family, "
                f"'{self.name}' trains with 'full' only",
            ),
            *at_least("model.lora-rank", self.lora_rank, 1),
            *check(
                not self.deep_supervision or self.name in WITH_AUXILIARY_HEADS,
                "model.deep-supervision is for "
                f"{' and '.join(WITH_AUXILIARY_HEADS)}, got '{self.name}'",
            ),
            *check(
                not self.checkpoint or is_sam,
                "model.checkpoint is an official SAM file and needs a SAM, "
                f"got model.name = '{self.name}'",
            ),
            *check(
                not self.checkpoint or PurePath(self.checkpoint).is_absolute(),
                "model.checkpoint must be an absolute path, got a relative one",
            ),
            *self._task_problems(),
        ]

    @property
    def classifies(self) -> bool:
        """Tell whether the network says where whole frames come from."""
        return self.task == "source-classification"

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the data types in the order of the logits, the same at every end.

        FedEFM defect 12: distillation needs one index of logits for all sites, so the
        head is over the union of their data types, which the settings of the run name.
        """
        return read_labels(self.data_types)

    def recipe(self, seed: int, *, checkpoint: str = "") -> Recipe:
        """Return what decides the network's weights before the first step.

        Args:
            seed: Of the run.
            checkpoint: Where this machine has the file, if elsewhere.

        Returns:
            The recipe, the same at every end of a federation but for the path.
        """
        return Recipe(
            name=self.name,
            image_size=self.image_size,
            seed=seed,
            training=self.training,
            lora_rank=self.lora_rank,
            deep_supervision=self.deep_supervision,
            checkpoint=(checkpoint or self.checkpoint) if self.checkpoint else "",
            num_labels=len(self.labels) if self.classifies else 0,
        )

    def _task_problems(self) -> list[str]:
        problems = one_of("model.task", self.task, TASKS)
        if not self.classifies:
            return problems + check(
                not self.data_types,
                "model.data-types is for model.task = 'source-classification', "
                f"got model.task = '{self.task}'",
            )
        return [
            *problems,
            *check(
                len(self.labels) >= 2 and all(map(_LABEL.fullmatch, self.labels)),
                "model.data-types must name the data types of all sites, at least two, "
                "with commas between ('human, animal'), in letters, digits, '-', '_' "
                f"and '.', got '{self.data_types}'",
            ),
            *check(
                self.training == "full" and not self.deep_supervision,
                "model.task = 'source-classification' trains the whole encoder: it "
                "needs model.training = 'full' and no model.deep-supervision",
            ),
        ]


def read_labels(data_types: str) -> tuple[str, ...]:
    """Read `model.data-types`: different names, sorted."""
    return tuple(sorted({one.strip() for one in data_types.split(",")} - {""}))
