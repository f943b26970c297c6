"""FedNTD (Lee et al., NeurIPS 2022): the global model teaches all but the true class.

In the paper a silo descends on L_CE + beta L_NTD, where L_NTD is the divergence, at a
temperature, between the softmaxes of the global and of the silo's model over the
classes that are not the label's ("Federated Not-True Distillation"). What a silo has
labels for it learns from them; what it has none for it shall not forget.

Here classes overlap and every pixel has one coin a class instead of one softmax over
them; and a site may annotate some classes only. Not true, then, is

- a class of a pixel that the site annotates and that is 0 there, and
- every pixel of a class that the site does not annotate: nothing there is known to be
  true, and it is what the silo would forget.

A device's own pixels are left to the labels. L_NTD is T^2 times the divergence of the
coins, as in the rest of this project, mean over what is not true inside the valid area
(the paper: mean over the batch, its code times T^2, too). One difference stays: a
softmax over the other classes says nothing of how likely they are together, so it never
contradicts the label; coins do, where the global model sees a device that the label
denies.
"""

from dataclasses import replace

from torch import Tensor

from strategies.accumulation import State
from strategies.distillation import distillation_loss
from strategies.rivals.averaging import same_task_for_all, weighted_mean
from strategies.rivals.method import (
    Ask,
    Labelled,
    Memory,
    Method,
    Objective,
    Step,
    Visit,
)

GLOBAL = "global"


class FedNTD(Method):
    """Averages as FedAvg; the centre has nothing else to do."""

    def play(self, memory: Memory, number: int, ask: Ask) -> Memory:
        """Train everywhere and average."""
        answers = ask(same_task_for_all(memory, self.terms.silos))
        return replace(memory, theta=weighted_mean(answers)) if answers else memory


class NotTrueTeacher(Objective):
    """Adds beta L_NTD to the label loss."""

    def __init__(self, received: State, *, weight: float, temperature: float) -> None:
        """Keep the global model as it arrived, beta >= 0 and T > 0."""
        self.teachers = {GLOBAL: received}
        self._weight = weight
        self._temperature = temperature

    @classmethod
    def of(cls, visit: Visit) -> Objective:
        """Teach with the weights that arrived; not at all where beta is 0."""
        settings = visit.settings
        if settings.not_true_weight == 0:
            return Objective()
        return cls(
            visit.received,
            weight=settings.not_true_weight,
            temperature=settings.temperature,
        )

    def loss(self, step: Step) -> Tensor:
        """Return L + beta L_NTD."""
        taught = not_true_loss(
            step.output.logits,
            step.answers[GLOBAL].logits,
            step.batch,
            temperature=self._temperature,
        )
        return step.label_loss + self._weight * taught


def not_true_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    batch: Labelled,
    *,
    temperature: float,
) -> Tensor:
    """Compare two segmentations where nothing is labelled as true.

    Args:
        student_logits: (batch, classes, height, width).
        teacher_logits: The same shape; no gradient reaches it.
        batch: Masks, annotated classes and valid pixels of the frames.
        temperature: T > 0.

    Returns:
        T^2 KL(teacher || student), mean over what is not true, scalar, >= 0.

    Raises:
        ValueError: If the shapes differ.
    """
    is_true = (batch.masks > 0) & batch.annotated[..., None, None]
    # One "frame" a frame and class: so the mask of pixels can be one of its own.
    return distillation_loss(
        student_logits.flatten(0, 1)[:, None],
        teacher_logits.flatten(0, 1)[:, None],
        temperature=temperature,
        valid=(batch.valid & ~is_true).flatten(0, 1)[:, None],
    )
