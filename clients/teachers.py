"""What the frozen teachers of a student say on a batch, and what each counts."""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from clients.data.batches import Batch
from clients.optimisation import TrainReport
from clients.tasks import Segmentation, Task
from clients.teacher_bank import TeacherBank
from models.classes import CLASS_NAMES
from models.losses import soft_dice_loss
from models.network import SegmentationNetwork, SegmentationOutput
from strategies.accumulation import State
from strategies.class_weights import weigh_by_class
from strategies.fedefm_settings import FedEFMSettings
from strategies.randomness import generator_from
from strategies.transport import pool_to_nodes
from strategies.weighing import (
    Scores,
    common_scores,
    complete,
    edge_weights,
    raw_scores,
    standardised_scores,
)

log = logging.getLogger(__name__)

THETA = ""
"""The common encoder's name in a bank; no site has it."""


class Lesson(NamedTuple):
    """What the teachers have to say on one batch, in the order of their names."""

    losses: list[Tensor]  # D_j, scalars; or (batch,) when frames have their own weights
    weights: list[Tensor]  # w_j, of the same shapes; by teacher and class if it matters
    answers: dict[str, SegmentationOutput]  # of the teachers, without controls


class Panel:
    """All teachers of one student: asked, scored, weighed and compared with it."""

    def __init__(
        self,
        model: SegmentationNetwork,
        teachers: Mapping[str, State],
        device: torch.device,
        *,
        settings: FedEFMSettings,
        seed: int,
        controls: Mapping[str, State] | None = None,
        prototypes: Mapping[str, Tensor] | None = None,
        common: State | None = None,
        task: Task | None = None,
        teaches: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Gather the teachers.

        Args:
            model: The student; ends on the device.
            teachers: What travels, by the name of the teacher's host.
            device: Where to compute.
            settings: How to teach and weigh.
            seed: Of random weights.
            controls: Models that are scored and teach nothing.
            prototypes: (k, dim) by host, for a `score` that needs them. A teacher
                without any gets the mean score of the others.
            common: Theta, whose encoder makes the tokens of such a score.
            task: How students and teachers are compared; None = as segmentations.
            teaches: Classes that a teacher is asked about, by its name, with
                `teacher_classes` "annotated".

        Raises:
            WeightsError: If tensors are not of the student's network.
            ValueError: If a control has the name of a teacher, `common` is missing
                although there is somebody to score, or `teaches` where it is needed.
        """
        controls = controls or {}
        self.settings, self._task = settings, task or Segmentation()
        self._teachers, self._controls = sorted(teachers), sorted(controls)
        if shared := sorted(set(teachers) & set(controls)):
            raise ValueError(
                f"A control needs a name that no teacher has, got {', '.join(shared)}."
            )
        self._annotated = None
        if settings.teacher_classes == "annotated":
            self._annotated = _annotated(self._teachers, teaches or {}).to(device)
        # A site with too few frames has an empty set of prototypes.
        self._prototypes = {
            name: tokens for name, tokens in (prototypes or {}).items() if len(tokens)
        }
        states = {**teachers, **controls}
        if settings.needs_prototypes and states:
            if common is None:
                raise ValueError(
                    f"fedefm.score = '{settings.score}' looks through the accumulated "
                    "model, which did not come along."
                )
            states[THETA] = common
            self._name_unscored()
        self._generator = generator_from(seed)
        self._bank = TeacherBank(model, states, tap=settings.tap, device=device)

    def teach(
        self,
        student: SegmentationOutput,
        batch: Batch,
        report: TrainReport,
        *,
        classes: Tensor | None = None,
    ) -> Lesson:
        """Ask the teachers about a batch and weigh what they say.

        Args:
            student: The student's own pass over the batch, with its tapped features.
            batch: The frames; of the labels nothing is used, but by the oracle.
            report: Gets scores, gaps, weights and the scores of the controls.
            classes: (batch, classes), bool: which classes are taught; None = all.

        Returns:
            Losses and weights for `multishot_loss`, and the answers.
        """
        answers = self._bank.ask(batch.images)
        taught, controls = self._score(student, answers)
        scores = taught.score
        if self.settings.edge_weight == "oracle" and self._teachers:
            scores = torch.stack(
                [_dice_by_frame(answers[name], batch) for name in self._teachers]
            )
        report.note("scores", _means(taught))
        report.note("gaps", dict(zip(self._teachers, taught.gap.amax(1), strict=True)))
        report.note("control_scores", _means(controls))
        pairs = self._pair(scores, classes)
        report.note("weights", self._mean_weights(pairs))
        by_frame = self.settings.weight_per == "sample"
        losses = [
            self._task.teacher_loss(
                student.logits[:, part],
                answers[self._teachers[row]].logits[:, part],
                batch,
                temperature=self.settings.temperature,
                classes=None if classes is None else classes[:, part],
                by_frame=by_frame,
            )
            for row, part, _ in pairs
        ]
        return Lesson(
            losses,
            [weight if by_frame else weight[0] for _, _, weight in pairs],
            {name: answers[name] for name in self._teachers},
        )

    def _pair(
        self, scores: Tensor, classes: Tensor | None
    ) -> list[tuple[int, slice, Tensor]]:
        """Return who teaches which classes, by index, and its weights, (batch,)."""
        if self._annotated is None:
            weights = edge_weights(scores, self.settings, self._generator)
            return [(row, slice(None), one) for row, one in enumerate(weights)]
        pairs = weigh_by_class(
            scores,
            self._annotated,
            self.settings,
            self._generator,
            wanted=None if classes is None else classes.any(0),
        )
        return [(row, slice(label, label + 1), one) for row, label, one in pairs]

    def _mean_weights(
        self, pairs: list[tuple[int, slice, Tensor]]
    ) -> dict[str, Tensor]:
        """Return the means over frames and taught classes; 0 for who teaches none."""
        found: dict[str, list[Tensor]] = {name: [] for name in self._teachers}
        for row, _, weight in pairs:
            found[self._teachers[row]].append(weight.detach().mean())
        return {
            name: torch.stack(ones).mean() if ones else torch.zeros(())
            for name, ones in found.items()
        }

    def _score(
        self, student: SegmentationOutput, answers: Mapping[str, SegmentationOutput]
    ) -> tuple[Scores, Scores]:
        """Return the scores of the teachers and those of the controls."""
        everyone = [*self._teachers, *self._controls]
        if self.settings.score == "raw":
            features = {name: answers[name].features for name in everyone}
            found = raw_scores(student.features, features, self.settings)
            return found.of(self._teachers), found.of(self._controls)
        if not everyone:
            nobody = raw_scores(student.features, {}, self.settings)
            return nobody, nobody
        tokens = pool_to_nodes(answers[THETA].features, self.settings.grid_size)
        taught = self._common(tokens, self._teachers)
        if not self._controls:
            return taught, taught.of([])
        # On their own, so that controls do not change what teachers are compared with.
        return taught, self._common(tokens, everyone).of(self._controls)

    def _common(self, tokens: Tensor, names: list[str]) -> Scores:
        known = {n: self._prototypes[n] for n in names if n in self._prototypes}
        by_prototypes = (
            common_scores if self.settings.score == "common" else standardised_scores
        )
        return complete(by_prototypes(tokens, known, self.settings), names)

    def _name_unscored(self) -> None:
        unscored = [name for name in self._teachers if name not in self._prototypes]
        if unscored:
            log.warning(
                "No prototypes of %s: scored as the mean of the other teachers.",
                ", ".join(unscored),
            )


def _annotated(teachers: Sequence[str], teaches: Mapping[str, Sequence[str]]) -> Tensor:
    """Return what the teachers' silos annotate, (teachers, classes), bool."""
    if unknown := [name for name in teachers if name not in teaches]:
        raise ValueError(
            "fedefm.teacher-classes = 'annotated' needs to know what the teachers' "
            f"sites annotate; nothing came of {', '.join(unknown)}. Server and sites "
            "need the same version."
        )
    flags = [[one in teaches[name] for one in CLASS_NAMES] for name in teachers]
    return torch.tensor(flags, dtype=torch.bool).reshape(-1, len(CLASS_NAMES))


def _means(scores: Scores) -> dict[str, Tensor]:
    return {
        name: row.detach().mean()
        for name, row in zip(scores.teachers, scores.emd, strict=True)
    }


def _dice_by_frame(answer: SegmentationOutput, batch: Batch) -> Tensor:
    """Return the soft Dice of every frame with its labels, (batch,)."""
    parts = (answer.logits, batch.masks, batch.annotated, batch.valid)
    one_by_one = zip(*(part.split(1) for part in parts), strict=True)
    return torch.stack(
        [
            1 - soft_dice_loss(logits, masks, annotated, valid=valid)
            for logits, masks, annotated, valid in one_by_one
        ]
    )
