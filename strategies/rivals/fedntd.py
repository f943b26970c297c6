"""FedNTD (Lee et al., NeurIPS 2022): the global model teaches all but the true class.

In the paper a silo descends on L_CE + beta L_NTD, where L_NTD is the divergence, at a
temperature, between the softmaxes of the global and of the silo's model over the
classes that are not the label's ("Federated Not-True Distillation"). What a silo has
labels for it learns from them; what it has none for it shall not forget.

Here classes overlap, a pixel may be of none, and a site may annotate some classes only.
Of what a site annotates, background is a class like the others, with the logit 0: the
softmaxes are over background and those classes, without what is true of the pixel. On
a pixel of background that leaves the devices (which of them rather than the other, and
never whether there is one, so the label is not contradicted); on a pixel of a device
the others and background; where all devices overlap background alone, which teaches
nothing. Of a class that the site does not annotate nothing is known to be true, and it
is what the site would forget: there every pixel teaches its coin.

L_NTD is T^2 times the divergence of the softmaxes, mean over the valid pixels (the
paper: over the batch; its code times T^2, too), plus that of the coins, mean over
those classes and pixels.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

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
        T^2 KL(teacher || student) of what is not true, scalar, >= 0.

    Raises:
        ValueError: If the shapes differ.
    """
    coins = distillation_loss(
        student_logits,
        teacher_logits,
        temperature=temperature,
        valid=batch.valid,
        classes=~batch.annotated,
    )
    not_true = _not_true(batch)
    divergence = functional.kl_div(
        _log_shares(student_logits / temperature, not_true),
        _log_shares(teacher_logits.detach() / temperature, not_true),
        reduction="none",
        log_target=True,
    )
    by_pixel = divergence.where(not_true, 0.0).sum(1, keepdim=True)
    known = by_pixel.where(batch.valid, 0.0).sum() / batch.valid.sum().clamp_min(1)
    return coins + temperature**2 * known


def _not_true(batch: Labelled) -> Tensor:
    """Tell what the softmax of a pixel is over: (batch, 1 + classes, height, width)."""
    annotated = batch.annotated[..., None, None]
    is_true = (batch.masks > 0) & annotated
    is_background = ~is_true.any(1, keepdim=True)
    background = annotated.any(1, keepdim=True) & ~is_background
    return torch.cat([background, annotated & ~is_true], 1)


def _log_shares(logits: Tensor, chosen: Tensor) -> Tensor:
    """Return the logarithm of a softmax over background, of logit 0, and classes."""
    together = torch.cat([torch.zeros_like(logits[:, :1]), logits], 1)
    # Not minus infinity: where nothing is chosen that would be no number.
    least = torch.finfo(logits.dtype).min
    return together.masked_fill(~chosen, least).log_softmax(1)
