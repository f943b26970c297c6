"""What a network is trained for: to segment frames, or to tell where they come from.

A task knows the loss of labels, the loss of a teacher and the test; training, teachers
and the app ask it and never which one it is. Telling data types apart by whole frames
is the pretext of FedEFM's released code (arXiv 2501.16992, six public sources): the
logits are (batch, labels) and their distillation is the softmax of eq. (12) as
published. Plain torch; knows nothing of Flower.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from clients.data.batches import Batch, evaluation_batches
from clients.data.errors import DataError
from clients.data.frames import Frames
from clients.evaluation import evaluate
from models.deep_supervision import DeepSupervisionLoss
from models.metrics import SegmentationCounts
from models.network import SegmentationNetwork, SegmentationOutput
from strategies.data_settings import DataSettings
from strategies.distillation import (
    classification_distillation_shares,
    distillation_loss,
    distillation_shares,
)
from strategies.evaluation import Evaluation
from strategies.label_counts import LabelCounts
from strategies.model_settings import ModelSettings
from strategies.train_settings import TrainSettings

LabelLoss = Callable[[SegmentationOutput, Batch], Tensor]
"""L_c of eqs. (1) and (11): the scalar loss of a pass against a batch's labels."""


class Task(Protocol):
    """What training, teachers and the app have to know of a task."""

    def is_labelled(self, frames: Frames) -> Tensor:
        """Tell of which frames the label loss can learn, bool (frames,)."""
        ...

    def label_loss(self, settings: TrainSettings) -> LabelLoss:
        """Build the loss against labels."""
        ...

    def teacher_loss(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        batch: Batch,
        *,
        temperature: float,
        classes: Tensor | None = None,
        by_frame: bool = False,
    ) -> Tensor:
        """Compare a student with a teacher on the same frames, T^2 KL of eq. (11).

        Args:
            student_logits: Of the batch.
            teacher_logits: The same shape; no gradient reaches it.
            batch: The frames; of their labels nothing is used.
            temperature: T > 0 of eq. (12).
            classes: (batch, classes), bool: what is taught of a segmentation.
            by_frame: Whether the loss of each frame is wanted.

        Returns:
            The mean over the batch, scalar; or (batch,).
        """
        ...

    def measure(
        self,
        model: SegmentationNetwork,
        frames: Frames,
        *,
        settings: DataSettings,
        batch_size: int,
        device: torch.device,
        measures: str,
    ) -> Evaluation:
        """Measure a model; see `clients.evaluation.evaluate`."""
        ...


class Segmentation:
    """Outline the devices; the default."""

    def is_labelled(self, frames: Frames) -> Tensor:
        """Tell on which frames somebody looked for a device."""
        return frames.annotated.any(dim=1)

    def label_loss(self, settings: TrainSettings) -> LabelLoss:
        """Build the loss of masks, at every head that the network has."""
        criterion = settings.criterion()
        supervised = DeepSupervisionLoss(criterion)

        def loss_of(output: SegmentationOutput, batch: Batch) -> Tensor:
            labels = (batch.masks, batch.annotated, batch.valid)
            if not output.auxiliaries:
                plain: Tensor = criterion(output.logits, *labels)
                return plain
            loss: Tensor = supervised(output.logits, output.auxiliaries, *labels)
            return loss

        return loss_of

    def teacher_loss(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        batch: Batch,
        *,
        temperature: float,
        classes: Tensor | None = None,
        by_frame: bool = False,
    ) -> Tensor:
        """Compare class by class and pixel by pixel, where a frame is valid."""
        compare = distillation_shares if by_frame else distillation_loss
        return compare(
            student_logits,
            teacher_logits,
            temperature=temperature,
            valid=batch.valid,
            classes=classes,
        )

    def measure(
        self,
        model: SegmentationNetwork,
        frames: Frames,
        *,
        settings: DataSettings,
        batch_size: int,
        device: torch.device,
        measures: str,
    ) -> Evaluation:
        """Compare masks."""
        return evaluate(
            model,
            frames,
            settings=settings,
            batch_size=batch_size,
            device=device,
            measures=measures,
        )


@dataclass(frozen=True, eq=False)
class SourceClassification:
    """Tell of which data type a frame is."""

    names: tuple[str, ...]  # of all data types, in the order of the logits
    label_of: Tensor  # (sequences,), int64: number of the name, by a frame's sequence

    def is_labelled(self, frames: Frames) -> Tensor:
        """Say all: the label of a frame is where it comes from."""
        return torch.ones(len(frames), dtype=torch.bool)

    def label_loss(self, settings: TrainSettings) -> LabelLoss:
        """Build the cross-entropy, as in the released code; no setting changes it."""
        return lambda output, batch: functional.cross_entropy(
            output.logits, self._labels(batch)
        )

    def teacher_loss(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        batch: Batch,
        *,
        temperature: float,
        classes: Tensor | None = None,
        by_frame: bool = False,
    ) -> Tensor:
        """Compare softmaxes over the data types."""
        shares = classification_distillation_shares(
            student_logits, teacher_logits, temperature
        )
        return shares if by_frame else shares.mean()

    @torch.no_grad()
    def measure(
        self,
        model: SegmentationNetwork,
        frames: Frames,
        *,
        settings: DataSettings,
        batch_size: int,
        device: torch.device,
        measures: str,
    ) -> Evaluation:
        """Count which data type is taken for which; `measures` changes nothing."""
        model.to(device).eval()
        total = 0.0
        labels: list[int] = []
        guesses: list[int] = []
        for batch in evaluation_batches(
            frames, batch_size=batch_size, settings=settings, device=device
        ):
            logits, truth = model(batch.images), self._labels(batch)
            total += float(functional.cross_entropy(logits, truth, reduction="sum"))
            labels += truth.tolist()
            guesses += logits.argmax(1).tolist()
        return Evaluation(
            len(frames),
            total / len(frames),
            SegmentationCounts.zero(),
            labels=LabelCounts.of(self.names, labels, guesses),
        )

    def _labels(self, batch: Batch) -> Tensor:
        return self.label_of.to(batch.sequences.device)[batch.sequences]


def labelled_frames(frames: Frames, task: Task) -> Frames:
    """Leave out frames without a label, in which a label loss would waste its steps.

    Args:
        frames: Of a site.
        task: What it trains for.

    Returns:
        The frames with a label; all, if each or none has one.
    """
    return _chosen(frames, task.is_labelled(frames))


def unlabelled_frames(frames: Frames, task: Task) -> Frames:
    """Leave out frames with a label; all stay, if each or none has one."""
    return _chosen(frames, ~task.is_labelled(frames))


def _chosen(frames: Frames, chosen: Tensor) -> Frames:
    is_choice = bool(chosen.any()) and not bool(chosen.all())
    return frames.view(chosen) if is_choice else frames


def choose_task(
    settings: ModelSettings, data_types: tuple[str, ...], type_of: Tensor
) -> Task:
    """Return what a run trains for at a site.

    Args:
        settings: Task and the labels of all sites.
        data_types: Of this site.
        type_of: (sequences,), int64: number of the site's data type, by sequence.

    Returns:
        The task.

    Raises:
        DataError: If the site holds a data type that is no label of the run.
    """
    if not settings.classifies:
        return Segmentation()
    names = settings.labels
    if unknown := sorted(set(data_types) - set(names)):
        raise DataError(
            f"Its data type {', '.join(unknown)} is none of model.data-types "
            f"({', '.join(names)}). Add it there or correct data-type of the site."
        )
    numbers = torch.tensor([names.index(one) for one in data_types])
    return SourceClassification(names, numbers[type_of])
