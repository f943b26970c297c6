"""What a run of a few-shot study learns and by what it is judged.

Outlines of devices, or one label for the whole image. Frames are normalised and
augmented as the model's card says, so a network gets what it was trained on.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from clients.data.augmentation import augment
from clients.data.batches import (
    Batch,
    evaluation_batches,
    predict,
    to_batch,
    training_batches,
)
from clients.data.frames import Frames
from clients.data.preprocessing import valid_moments
from experiments.finetuning.fewshot import (
    FinetuneSettings,
    FinetuneTask,
    run_generator,
    run_seed,
    shot_numbers,
)
from experiments.finetuning.labels import label_scores, label_shots, labelled_part
from models.deep_supervision import DeepSupervisionLoss
from models.loss_recipes import build_loss
from models.metrics import SegmentationCounts, count_segmentation
from models.mixed_loss import MixedLoss
from models.network import SegmentationNetwork
from models.transfer import PooledClassifier
from strategies.data_settings import DataSettings
from strategies.train_settings import WEIGHTED

if TYPE_CHECKING:
    from experiments.finetuning.training import Study

PREDICTION_BATCH = 8  # frames per pass without gradients

Tested = tuple[dict[str, float], int, Tensor | None]


class Objective(Protocol):
    """A model on its way, and the frames it learns from and is judged on."""

    model: nn.Module

    def loss(self) -> Tensor:
        """Compute the loss of the next batch."""
        ...

    def validate(self) -> float:
        """Return the score on the validation frames."""
        ...

    def test(self, shown: Tensor | None) -> Tested:
        """Return the scores on the test frames, their number, and some predictions."""
        ...


def objective_of(
    task: FinetuneTask, study: "Study", network: SegmentationNetwork
) -> Objective:
    """Return what a run learns.

    Args:
        task: Which run.
        study: Settings, frames and device.
        network: On the device.

    Returns:
        With its frames chosen.

    Raises:
        SettingsError: If there are fewer frames than shots.
    """
    if study.settings.task == "classify":
        return Classifying(task, study, network)
    return Segmenting(task, study, network)


class Segmenting:
    """Outlines of devices."""

    def __init__(
        self, task: FinetuneTask, study: "Study", network: SegmentationNetwork
    ) -> None:
        """Choose the shots."""
        self.model = network
        self._data, self._split = study.source.data, study.data.split
        self._device = torch.device(study.device)
        self._criterion = _criterion(study.settings)
        pool = self._split.train
        numbers = shot_numbers(pool, shots=task.shots, seed=task.seed)
        # Fewer shots than a batch holds: each is in it several times, each time
        # augmented in another way.
        batch_size = study.settings.batch_size
        numbers = numbers.repeat(-(-batch_size // len(numbers)))
        self._batches = training_batches(
            pool.view(numbers),
            batch_size=batch_size,
            network_size=network.image_size,
            settings=self._data,
            seed=run_seed(task.seed, shots=task.shots, purpose="batches"),
            device=self._device,
        )

    def loss(self) -> Tensor:
        """Compute the loss of the next batch, at every head of the network."""
        batch = next(self._batches)
        output = self.model.forward_with_features(batch.images)
        labels = (batch.masks, batch.annotated, batch.valid)
        if output.auxiliaries:
            supervised = DeepSupervisionLoss(self._criterion)
            return supervised(output.logits, output.auxiliaries, *labels)
        return self._criterion(output.logits, *labels)

    def validate(self) -> float:
        """Return Dice, pooled over validation frames and classes."""
        overlap = total = 0
        for guesses, batch in predictions(
            self.model, self._split.validation, self._data
        ):
            known = batch.annotated[:, :, None, None] & batch.valid
            labels = batch.masks.bool() & known
            guesses = guesses & known
            overlap += int((guesses & labels).sum())
            total += int(guesses.sum()) + int(labels.sum())
        return 2 * overlap / total if total else 1.0

    def test(self, shown: Tensor | None) -> Tested:
        """Count on the test frames; keep the predictions of those that are shown."""
        counts, place, kept = SegmentationCounts.zero(), 0, []
        for guesses, batch in predictions(self.model, self._split.test, self._data):
            guesses, labels = guesses.cpu(), (batch.masks.bool() & batch.valid).cpu()
            counts += count_segmentation(guesses, labels, batch.annotated.cpu())
            if shown is not None:
                here = (shown >= place) & (shown < place + len(batch))
                # Of classes that nobody has looked for there is nothing to compare.
                known = guesses & batch.annotated.cpu()[:, :, None, None]
                kept.append(known[shown[here] - place])
            place += len(batch)
        found = counts.scores()
        scores = {name: found[name] for name in ("dice", "cldice", "dice-per-image")}
        scores["missed"] = sum(counts.missed)
        scores["false-alarms"] = sum(counts.false_alarms)
        return scores, counts.frames, torch.cat(kept) if kept else None


class Classifying:
    """One label for the whole image, by a linear layer on pooled features."""

    def __init__(
        self, task: FinetuneTask, study: "Study", network: SegmentationNetwork
    ) -> None:
        """Choose the shots, spread over the labels."""
        self._data, self._device = study.source.data, torch.device(study.device)
        self._parts = {
            name: labelled_part(study.data, name)
            for name in ("train", "validation", "test")
        }
        self._num_labels = len(study.data.label_names)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.seed)  # of the head
            self.model: nn.Module = PooledClassifier(network, self._num_labels)
        pool, labels = self._parts["train"]
        numbers = label_shots(labels, task.shots, seed=task.seed)
        self._pool, self._labels = pool.view(numbers), labels[numbers]
        self._size = study.settings.batch_size
        self._generator = run_generator(task.seed, shots=task.shots, purpose="batches")

    def loss(self) -> Tensor:
        """Compute the cross-entropy of a batch drawn with replacement."""
        drawn = torch.randint(
            len(self._labels), (self._size,), generator=self._generator
        )
        frames = self._pool.subset(drawn)
        # Before augmentation, as in `training_batches`.
        moments = valid_moments(frames.images, frames.valid)
        frames = augment(frames, self._data.augmentation, generator=self._generator)
        batch = to_batch(frames, self._data, self._device, moments)
        wanted = self._labels[drawn].to(self._device)
        return functional.cross_entropy(self.model(batch.images), wanted)

    def validate(self) -> float:
        """Return macro F1 on the validation frames."""
        return self._scores("validation")["macro-f1"]

    def test(self, shown: Tensor | None) -> Tested:
        """Return accuracy, macro F1 and balanced accuracy on the test frames."""
        return self._scores("test"), len(self._parts["test"][1]), None

    @torch.no_grad()
    def _scores(self, name: str) -> dict[str, float]:
        frames, labels = self._parts[name]
        self.model.eval()
        guesses = [
            self.model(batch.images).argmax(dim=1).cpu()
            for batch in evaluation_batches(
                frames,
                batch_size=PREDICTION_BATCH,
                settings=self._data,
                device=self._device,
            )
        ]
        return label_scores(torch.cat(guesses), labels, self._num_labels)


@torch.no_grad()
def predictions(
    model: SegmentationNetwork, frames: Frames, settings: DataSettings
) -> Iterator[tuple[Tensor, Batch]]:
    """Segment frames in evaluation mode, tile by tile where they are large.

    Args:
        model: On any device; stays in evaluation mode.
        frames: What to segment.
        settings: How they are normalised.

    Yields:
        bool (batch, classes, size, size), True above probability 0.5 where valid, and
        the batch.
    """
    model.eval()
    device = next(model.parameters()).device
    for batch in evaluation_batches(
        frames, batch_size=PREDICTION_BATCH, settings=settings, device=device
    ):
        logits = predict(model, batch.images, model.image_size)
        yield (logits > 0) & batch.valid, batch  # logit 0 is probability 0.5


def _criterion(settings: FinetuneSettings) -> MixedLoss:
    if settings.loss == WEIGHTED:
        return build_loss(settings.loss, cldice_weight=settings.cldice_weight)
    return build_loss(settings.loss)
