"""What a hospital does with a model: train it on its frames.

Local steps on labels, overseas steps of a visitor's model (FedEFM, arXiv 2501.16992,
eq. 1), with or without its former self as a teacher, and distillation from the
teachers that came back (eqs. 2 to 12). Plain torch; knows nothing of Flower.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from clients.data.batches import Batch
from clients.data.frames import Frames
from clients.optimisation import TrainPlan, TrainReport, descend
from clients.prompted_pass import PromptedPass
from clients.tasks import LabelLoss, Task, labelled_frames
from clients.teacher_bank import TeacherBank
from clients.teachers import Panel
from models.network import SegmentationNetwork, SegmentationOutput
from models.taps import forward_with_tap
from strategies.accumulation import State
from strategies.distillation import multishot_loss
from strategies.fedefm_settings import FedEFMSettings
from strategies.rivals.method import Objective, Step

FORMER = "former self"


@dataclass(frozen=True)
class Retention:
    """A traveller keeps what it knew: its frozen self at arrival teaches it.

    With `teach_on` "host" it is asked about the host's frames, where what a model
    learns abroad shows and what it forgets does, too.
    """

    beta: float  # share of the former self in the loss, 0 to 1
    temperature: float
    distil_classes: str = "all"  # or "unannotated": what the host does not annotate


def train_on_labels(
    model: SegmentationNetwork,
    frames: Frames,
    plan: TrainPlan,
    device: torch.device,
    *,
    retention: Retention | None = None,
    objective: Objective | None = None,
) -> TrainReport:
    """Train a model on a site's labels: local and overseas steps, eq. (1).

    Args:
        model: Changed in place; ends on the device.
        frames: The site's training frames. Those without a label are left out, unless
            a former self teaches on them.
        plan: Steps, learning rate and seed.
        device: Where to train.
        retention: Mixes in the model as it is now: the loss is
            (1 - beta) L_c + beta T^2 KL. None = labels alone.
        objective: What a rival of FedEFM descends on beside the labels; goes without
            retention.

    Returns:
        The loss of every step.

    Raises:
        TrainingError: If the loss is not finite or the deadline passes.
    """
    if retention is not None and retention.beta > 0:
        objective = _FormerSelf(model.trainable_state(), retention, plan.task)
    else:
        frames = labelled_frames(frames, plan.task)
    objective = objective or Objective()
    label_loss = plan.task.label_loss(plan.settings)
    look = PromptedPass(plan.settings.prompts, plan.seed, tap=objective.tap)
    bank = None
    if objective.teachers:
        bank = TeacherBank(model, objective.teachers, tap=objective.tap, device=device)

    def loss_of(batch: Batch, report: TrainReport) -> Tensor:
        output = look(model, batch)
        loss = label_loss(output, batch)
        report.label_losses.append(float(loss.detach()))
        # Whoever teaches gets the same prompts, or another question is answered.
        answers = bank.ask(batch.images, look.prompts) if bank is not None else {}
        return objective.loss(Step(model, output, answers, batch, loss))

    return descend(
        model,
        frames,
        plan,
        device,
        loss_of,
        before_step=lambda: objective.correct_gradients(model),
    )


class _FormerSelf(Objective):
    """A frozen model's answers, mixed into the label loss as `Retention` says."""

    def __init__(self, arrived: State, retention: Retention, task: Task) -> None:
        self.teachers = {FORMER: arrived}
        self._retention = retention
        self._task = task

    def loss(self, step: Step) -> Tensor:
        beta, batch = self._retention.beta, cast(Batch, step.batch)
        kept = self._task.teacher_loss(
            step.output.logits,
            step.answers[FORMER].logits,
            batch,
            temperature=self._retention.temperature,
            classes=_taught_classes(self._retention.distil_classes, batch),
        )
        return (1 - beta) * step.label_loss + beta * kept


def train_with_teachers(
    model: SegmentationNetwork,
    teachers: Mapping[str, State],
    frames: Frames,
    plan: TrainPlan,
    device: torch.device,
    *,
    settings: FedEFMSettings,
    beta: float,
    controls: Mapping[str, State] | None = None,
    prototypes: Mapping[str, Tensor] | None = None,
    common: State | None = None,
    teaches: Mapping[str, Sequence[str]] | None = None,
) -> TrainReport:
    """Train a model on labels and on what its teachers see in the same batch.

    Args:
        model: The student, changed in place; ends on the device.
        teachers: What travels of each teacher, by the name of its host.
        frames: The student's own training frames.
        plan: Steps, learning rate and seed.
        device: Where to train.
        settings: Weights, temperature and how terms combine, eqs. (2) and (11).
        beta: Share of the distillation in this round, 0 to 1.
        controls: Models that are scored beside the teachers and teach nothing: the
            diagonal S_ii is a copy of the student trained at home.
        prototypes: (k, dim) by host, of `find_prototypes`, for a `score` that needs
            them.
        common: Theta, through which such a score looks; it needs one.
        teaches: Classes by teacher, with `teacher_classes` "annotated".

    Returns:
        Loss, EMD score and its gap, weight and teacher's own loss of every step.

    Raises:
        TrainingError: If the loss is not finite or the deadline passes.
        WeightsError: If a teacher is not of the student's network.
        ValueError: If `common` is missing, a control has a teacher's name, or the tap
            or the grid does not fit the network.
    """
    label_loss_of = plan.task.label_loss(plan.settings)
    panel = Panel(
        model,
        teachers,
        device,
        settings=settings,
        seed=plan.seed ^ 1,
        task=plan.task,
        controls=controls,
        prototypes=prototypes,
        common=common,
        teaches=teaches,
    )

    def loss_of(batch: Batch, report: TrainReport) -> Tensor:
        student = forward_with_tap(model, batch.images, settings.tap)
        label_loss = label_loss_of(student, batch)
        report.label_losses.append(float(label_loss.detach()))
        classes = _taught_classes(settings.distil_classes, batch)
        lesson = panel.teach(student, batch, report, classes=classes)
        for name, answer in lesson.answers.items():
            report.note("teacher_losses", {name: label_loss_of(answer, batch)})
        if settings.weight_per == "sample" and settings.weight_scope == "loss":
            label_loss = _label_losses(label_loss_of, student, batch)
        return multishot_loss(
            label_loss, lesson.losses, lesson.weights, beta=beta, settings=settings
        )

    return descend(model, frames, plan, device, loss_of)


def _taught_classes(distil_classes: str, batch: Batch) -> Tensor | None:
    """Return which classes of which frames are distilled; None = all."""
    return ~batch.annotated if distil_classes == "unannotated" else None


def _label_losses(
    label_loss: LabelLoss, output: SegmentationOutput, batch: Batch
) -> Tensor:
    """Return the label loss of each frame on its own, (batch,)."""

    def one(index: int) -> Tensor:
        frame = slice(index, index + 1)
        seen = SegmentationOutput(
            output.logits[frame],
            output.features[frame],
            tuple(logits[frame] for logits in output.auxiliaries),
        )
        return label_loss(seen, batch.frame(index))

    return torch.stack([one(index) for index in range(len(batch))])
