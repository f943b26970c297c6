"""The fine stage: a prompted teacher and a prompt-free student on pseudo-labels.

Wen et al., arXiv 2410.07460. In the warm-up both train on the pseudo-labels, the
teacher with their boxes as prompts; then the teacher is frozen and the student learns
from it. Plain torch; knows nothing of files or Flower.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass

import torch
from torch import nn

from clients.adaptation.fine_descent import Descent
from clients.adaptation.fine_losses import fine_losses, needs_teacher_strong
from clients.adaptation.fine_passes import Labels, Pair
from clients.adaptation.fine_report import FineReport
from clients.data.augmentation import views
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from clients.optimisation import TrainingError
from models.adapters import merge_adapters
from models.network import SegmentationNetwork
from models.sam import Sam
from models.training_modes import choose_trainable
from strategies.adaptation_settings import AdaptationSettings
from strategies.randomness import derive_seed, generator_from

OnEpoch = Callable[[int, SegmentationNetwork, SegmentationNetwork], Mapping[str, float]]
"""(epochs done, teacher, student) -> numbers for the report."""


def prepare_pair(sam: Sam, settings: AdaptationSettings, seed: int) -> tuple[Sam, Sam]:
    """Make teacher and student of one SAM; they share no weights.

    Args:
        sam: Stays as it is. Adapters that it carries are merged in the copies.
        settings: Give `training` and the rank of the adapters.
        seed: Of the new adapters, which differ between the two.

    Returns:
        Teacher and student on the CPU; without a prompt both answer as the SAM does
        until they are trained.

    Raises:
        DataError: If the SAM is frozen and its own weights should train.
    """
    if settings.training != "lora" and not _trainable(sam):
        raise DataError(
            f"adapt.training '{settings.training}' needs a SAM whose own weights may "
            "train, got a frozen one. Build it anew and load the weights."
        )
    return _copy_of(sam, settings, seed, "teacher"), _copy_of(
        sam, settings, seed, "student"
    )


@dataclass(frozen=True)
class _Leg:
    """Optimiser steps of one phase that are reported together."""

    is_warmup: bool
    steps: int


class FineStage:
    """Trains a pair of networks on pseudo-labelled frames."""

    def __init__(
        self,
        teacher: SegmentationNetwork,
        student: SegmentationNetwork,
        settings: AdaptationSettings,
        *,
        seed: int,
        device: torch.device,
        descent: Descent | None = None,
    ) -> None:
        """Take the pair.

        Args:
            teacher: Changed in place by the warm-up only; a SAM gets boxes as prompts.
            student: Changed in place; gets no prompts.
            settings: Phases, weights of losses, learning rate, batch size.
            seed: Of order and augmentation.
            device: Where to train; both networks end there, in evaluation mode.
            descent: How steps are taken; None = the paper's Adam.

        Raises:
            DataError: If they are one network, or nothing would train.
        """
        if teacher is student or not _trainable(student):
            raise DataError(
                "The fine stage needs a teacher and a student of their own weights, "
                "the student with some that train. Make them with prepare_pair."
            )
        _check_weights(settings)
        self.teacher, self.student = teacher, student
        self.settings, self.device = settings, device
        self._pair, self._descent = Pair(teacher, student), descent or Descent()
        self._generator = generator_from(
            derive_seed(seed, round_number=0, phase="fine stage", site="")
        )

    def run(self, frames: FrameSet, *, on_epoch: OnEpoch | None = None) -> FineReport:
        """Train for the epochs of the settings.

        Args:
            frames: Their masks are pseudo-labels; frames without one are left out.
            on_epoch: Called after every epoch; may evaluate the networks.

        Returns:
            Losses, and what `on_epoch` measured, epoch by epoch.

        Raises:
            DataError: If no frame has a pseudo-label, or they do not fit the networks.
            TrainingError: If the loss is not finite.
        """
        usable, report = self._usable(frames)
        steps = math.ceil(len(usable) / self.settings.batch_size)
        warmup_epochs = self.settings.warmup_epochs
        legs = [_Leg(n < warmup_epochs, steps) for n in range(self.settings.epochs)]
        ramp = self.settings.ramp_steps
        self._train(usable, legs, report, ramp_steps=ramp, on_epoch=on_epoch)
        return report

    def run_steps(
        self, frames: FrameSet, steps: int, *, deadline_s: float = math.inf
    ) -> FineReport:
        """Train for some steps, split between the phases as the epochs are.

        The learning rate rises within the warm-up at most; without one it is constant.

        Args:
            frames: As for `run`.
            steps: Of the optimiser, >= 1.
            deadline_s: Given up after this many seconds.

        Returns:
            One entry for each phase.

        Raises:
            DataError: As for `run`, or if there are no steps.
            TrainingError: If the loss is not finite or the deadline passes.
        """
        if steps < 1:
            raise DataError(f"The fine stage needs at least 1 step, got {steps}.")
        usable, report = self._usable(frames)
        warmup = round(steps * self.settings.warmup_epochs / self.settings.epochs)
        phases = (_Leg(True, warmup), _Leg(False, steps - warmup))
        legs = [leg for leg in phases if leg.steps]
        ramp = min(self.settings.ramp_steps, warmup)
        self._train(usable, legs, report, ramp_steps=ramp, deadline_s=deadline_s)
        return report

    def _train(
        self,
        frames: FrameSet,
        legs: Sequence[_Leg],
        report: FineReport,
        *,
        ramp_steps: int,
        on_epoch: OnEpoch | None = None,
        deadline_s: float = math.inf,
    ) -> None:
        """Take leg after leg and fill the report."""
        teacher, student = self.teacher.to(self.device), self.student.to(self.device)
        optimiser = self._descent.optimiser((teacher, student), self.settings)
        batches = self._batches(frames)
        ends_at = time.monotonic() + deadline_s
        for number, leg in enumerate(legs, start=1):
            losses: list[dict[str, float]] = []
            with self._pair.in_phase(is_warmup=leg.is_warmup):
                for _ in range(leg.steps):
                    done = len(report.step_losses)
                    if time.monotonic() > ends_at:
                        raise _too_slow(done, deadline_s)
                    rate = self._learning_rate(done, ramp_steps)
                    losses.append(self._step(next(batches), leg, optimiser, rate))
                    report.note_step(losses[-1]["total"], rate)
            found = on_epoch(number, teacher, student) if on_epoch else {}
            report.note_epoch(leg.is_warmup, losses, found)
        teacher.eval()
        student.eval()

    def _step(
        self,
        batch: FrameSet,
        leg: _Leg,
        optimiser: torch.optim.Optimizer,
        learning_rate: float,
    ) -> dict[str, float]:
        """Descend once and return the losses by name."""
        weights = self.settings.loss_weights(
            0 if leg.is_warmup else self.settings.warmup_epochs
        )
        weak, strong = views(batch, generator=self._generator)
        labels = Labels.of(weak, self.device)
        passes = self._pair.look(
            weak.images.to(self.device),
            strong.images.to(self.device),
            labels,
            is_warmup=leg.is_warmup,
            needs_teacher_strong=needs_teacher_strong(weights),
        )
        losses = fine_losses(passes, labels, weights, self.settings)
        total = losses.total(weights)
        if not bool(torch.isfinite(total)):
            raise TrainingError(
                f"the loss of the fine stage became {total.item()}. "
                "Lower adapt.learning-rate"
            )
        self._descent.take(optimiser, total, learning_rate)
        named = {**losses.computed(), "total": total}
        return {name: float(loss.detach()) for name, loss in named.items()}

    def _batches(self, frames: FrameSet) -> Iterator[FrameSet]:
        """Yield every frame once before any comes again, the last batch smaller."""
        while True:
            order = torch.randperm(len(frames), generator=self._generator)
            for numbers in order.split(self.settings.batch_size):
                yield frames.subset(numbers)

    def _learning_rate(self, step: int, ramp_steps: int) -> float:
        """Return the rate of a step, counted from 0: linear, then constant."""
        return self.settings.learning_rate * min((step + 1) / max(ramp_steps, 1), 1.0)

    def _usable(self, frames: FrameSet) -> tuple[FrameSet, FineReport]:
        """Leave out frames without a pseudo-label, and count them."""
        size, classes = self.student.image_size, self.student.num_classes
        if tuple(frames.masks.shape[1:]) != (classes, size, size):
            raise DataError(
                f"The fine stage needs masks of {classes} classes and {size} x {size} "
                f"px, got {tuple(frames.masks.shape[1:])}. Prepare the frames for it."
            )
        labelled = Labels.of(frames).devices().flatten(1).any(dim=1)
        if not bool(labelled.any()):
            raise DataError(
                f"None of the {len(frames)} frames has a pseudo-label, need at least "
                "1. Clean them less strictly or train the coarse network longer."
            )
        kept = int(labelled.sum())
        return frames.subset(labelled), FineReport(kept, len(frames) - kept)


def _copy_of(sam: Sam, settings: AdaptationSettings, seed: int, role: str) -> Sam:
    network = copy.deepcopy(sam).cpu()
    merge_adapters(network)
    own = derive_seed(seed, round_number=0, phase="adapters", site="", owner=role)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(own)
        choose_trainable(network, settings.training, rank=settings.lora_rank)
    return network


def _trainable(network: nn.Module) -> list[nn.Parameter]:
    return [one for one in network.parameters() if one.requires_grad]


def _check_weights(settings: AdaptationSettings) -> None:
    """Refuse phases in which no loss reaches a network."""
    warmup = settings.loss_weights(0)
    later = settings.loss_weights(settings.warmup_epochs)
    reaches = later.consistency + later.pseudo_label + later.embedding
    if settings.warmup_epochs and not sum(astuple(warmup)):
        raise DataError("adapt.warmup-weights are all 0: nothing would train.")
    if settings.warmup_epochs < settings.epochs and not reaches:
        raise DataError(
            "Only the first three of adapt.weights reach the student, got "
            f"'{settings.weights}'. Raise one, or set adapt.warmup-epochs to "
            "adapt.epochs."
        )


def _too_slow(steps: int, deadline_s: float) -> TrainingError:
    return TrainingError(
        f"the fine stage reached {steps} steps in {deadline_s:.0f} s. "
        "Raise phase-timeout-s or lower train.steps"
    )
