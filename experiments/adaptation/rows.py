"""The rows of a table: methods and prompts, each measured on the same frames.

Prompts come from the cleaned masks of the coarse network, on test frames as on those
adapted to: nobody has another at a hospital without labels. (The paper's "SAM, box"
does not say whose box it is.) Only "real" trains on the target's masks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from clients.adaptation.rivals.cpc_sam import adapt_cpc_sam
from clients.adaptation.rivals.supervised import train_supervised
from clients.adaptation.rivals.tent import Adapted, adapt_tent
from clients.adaptation.rivals.tribe import adapt_tribe
from clients.adaptation.rivals.wesam import adapt_wesam
from clients.adaptation.scores import AdaptationScores, score_masks
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from experiments.adaptation.job import BUDGET, Job, adapted_only, predicted
from experiments.adaptation.plan import ROWS
from experiments.adaptation.stage_files import Computed, StageFiles
from experiments.adaptation.stages import Pipeline
from experiments.adaptation.targets import has_truth, without_labels
from models.network import SegmentationNetwork
from models.sam import Sam

ADAPTATION, TEST = "adaptation", "test"
OWN_TRAINING = ("pseudo", "wesam", "cpc-sam", "real")
"""Rows that train a network which no other row needs."""
ONLINE = ("tent", "tribe")
"""Rows that go on adapting while they predict."""


@dataclass(frozen=True)
class RowResult:
    """What a row found with one seed."""

    scores: dict[str, AdaptationScores]  # of the adaptation frames and the test frames
    masks: Tensor  # uint8 of the test frames; of all frames where none is held out
    seconds: float  # that training and measuring took


class Rows:
    """The rows of one job."""

    def __init__(self, pipeline: Pipeline, files: StageFiles) -> None:
        """Begin; nothing is computed yet."""
        self._pipeline, self._files = pipeline, files

    def get(self, row: str) -> RowResult:
        """Measure a row, or read what an earlier run has measured.

        Args:
            row: One of `ROWS`.

        Returns:
            Its scores and masks.

        Raises:
            DataError: If it needs what there is not: truth, or one pseudo-label.
        """
        job, target = self._job, self._job.target
        if row not in ROWS:
            raise DataError(f"A row must be one of {', '.join(ROWS)}, got '{row}'.")
        if row == "real" and not has_truth(target.adaptation, job.classes):
            raise DataError(
                "The row 'real' trains on labels of the target, and its frames have "
                f"none of {', '.join(job.settings.class_names)}. Leave the row out."
            )

        def compute() -> Computed:
            found = self._masks(row)
            names = job.settings.class_names
            scores = {
                part: score_masks(masks, self._truth[part], names).to_dict()
                for part, masks in found.items()
            }
            shown = found[ADAPTATION if target.test is None else TEST]
            return pack(shown), {"scores": scores}

        stage = self._files.get(f"row-{row}", self._depends_on(row), compute)
        return RowResult(
            scores={
                part: AdaptationScores.from_dict(one)
                for part, one in stage.facts["scores"].items()
            },
            masks=unpack(stage.tensors),
            seconds=stage.seconds,
        )

    @property
    def _job(self) -> Job:
        return self._pipeline.job

    @cached_property
    def _truth(self) -> dict[str, FrameSet]:
        target = self._job.target
        parts = {ADAPTATION: target.adaptation, TEST: target.test}
        return {name: frames for name, frames in parts.items() if frames is not None}

    @cached_property
    def _frames(self) -> dict[str, FrameSet]:
        """What predictions are made of: nothing behind here can see a mask."""
        return {name: without_labels(frames) for name, frames in self._truth.items()}

    @cached_property
    def _guides(self) -> dict[str, Tensor]:
        guides = self._pipeline.guides
        found = {ADAPTATION: guides.adaptation}
        return found if guides.test is None else {**found, TEST: guides.test}

    def _masks(self, row: str) -> dict[str, Tensor]:
        """Return the masks that a row finds on every part of the frames."""
        if row == "pseudo-labels":
            return self._guides
        if row == "direct":
            return self._predict(self._pipeline.coarse)
        if row in ONLINE:
            return self._online(adapt_tent if row == "tent" else adapt_tribe)
        if row in OWN_TRAINING:
            return self._predict(self._train(row))
        if row == "ours":
            return self._predict(self._pipeline.pair[1])
        name, _, kind = row.partition("-")
        teacher, student = (None, None) if name == "sam" else self._pipeline.pair
        network = {"sam": self._job.start, "teacher": teacher, "student": student}[name]
        return self._predict(network, kind or "box")

    def _predict(
        self, network: SegmentationNetwork, kind: str = "none"
    ) -> dict[str, Tensor]:
        return {
            part: predicted(
                self._job,
                network,
                frames,
                kind=kind,
                prompts=None if kind == "none" else self._guides[part],
            )
            for part, frames in self._frames.items()
        }

    def _online(self, adapt: Callable[..., Adapted]) -> dict[str, Tensor]:
        """Go through the adaptation frames, then on through the test frames."""
        job, network, found = self._job, self._pipeline.coarse, {}
        for part, frames in self._frames.items():
            network, logits = adapt(
                network,
                frames,
                job.settings,
                seed=job.seed_of(f"online {part}"),
                device=job.device,
            )
            masks = ((logits > job.settings.logit_threshold) & frames.valid).byte()
            found[part] = adapted_only(job, masks)
        return found

    def _train(self, row: str) -> Sam:
        """Train the network of a row.

        Supervised bounds begin where the fine stage does.
        """
        job, line = self._job, self._pipeline
        common = {"seed": job.seed_of(row), "device": job.device}
        if row == "cpc-sam":
            frames, source = self._frames[ADAPTATION], line.synthetic
            return adapt_cpc_sam(job.start, frames, source, job.settings, **common)
        labelled = job.target.adaptation if row == "real" else line.guides.labelled
        if row == "wesam":
            iou_weight = 1.0 if job.predicts_iou else 0.0
            start, settings = job.start, job.settings
            return adapt_wesam(
                start, labelled, settings, iou_weight=iou_weight, **common
            )
        return train_supervised(line.begin, labelled, job.settings, **common)

    def _depends_on(self, row: str) -> dict[str, object]:
        """Return all that decides the masks and the scores of a row."""
        job, line = self._job, self._pipeline
        trains = row in OWN_TRAINING
        if row in ("real", "sam-none"):
            upstream = line.begin_key if row == "real" else job.digests["start"]
        elif row == "cpc-sam":
            upstream = line.synthetic_stage.key + job.digests["start"]
        elif row in ("direct", *ONLINE):
            upstream = line.coarse_stage.key
        elif row == "pseudo":
            upstream = line.guides_stage.key + line.begin_key
        elif trains or row == "pseudo-labels" or row.startswith("sam-"):
            upstream = line.guides_stage.key + job.digests["start"]
        else:
            upstream = line.fine_stage.key
        return {
            "upstream": upstream,
            "truth": [frames.digest() for frames in self._truth.values()],
            "settings": job.chosen(("classes", "threshold", "legacy_logit_threshold")),
            "training": job.chosen(BUDGET) if trains or row in ONLINE else {},
            "seed": job.seed,
        }


def pack(masks: Tensor) -> dict[str, Tensor]:
    """Return masks as bits, an eighth as large.

    Args:
        masks: uint8 (frames, classes, size, size), 0 or 1.

    Returns:
        Tensors for a file.
    """
    bits = torch.from_numpy(np.packbits(masks.numpy(), axis=-1))
    return {"bits": bits, "size": torch.tensor(masks.shape[-1])}


def unpack(tensors: dict[str, Tensor]) -> Tensor:
    """Undo `pack`."""
    size = int(tensors["size"].item())
    return torch.from_numpy(np.unpackbits(tensors["bits"].numpy(), axis=-1, count=size))
