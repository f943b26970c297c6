"""MOON (Li et al., CVPR 2021, eq. 3): contrast with the global and the former model.

A silo's features of a frame, z, shall be like those of the global model, z_glob, and
unlike those of the model that the silo itself sent last, z_prev:
l_con = -log(exp(s_glob / tau) / (exp(s_glob / tau) + exp(s_prev / tau))), s being the
cosine with z; the loss is L + mu l_con, l_con being the mean over the batch (eq. 4).
What our setting changes:

- z is a feature map averaged over the frame: the encoder's deepest, or that of
  `contrast_tap`. The output must follow from it, or the contrast pulls at a part that
  answers nothing, as the encoder of sam-tiny. The paper puts a projection head of two
  layers between encoder and output; here it would be a part of the network that no
  other method has and that no mask is predicted from.
- In a silo's first round there is no former model and the term is left out. The paper
  takes the initial model, which is the global one then: both cosines are equal, and
  the gradient is zero as well.
- Both frozen models look at the same augmented frames, in evaluation mode.

The centre keeps what every silo sent last and returns it to that silo: twice the bytes
to the silos, as long as they keep nothing themselves.
"""

from dataclasses import replace

from torch import Tensor
from torch.nn import functional

from models.network import SegmentationOutput
from strategies.accumulation import State
from strategies.rivals.averaging import weighted_mean
from strategies.rivals.method import (
    Ask,
    Memory,
    Method,
    Objective,
    SiloTask,
    Step,
    Visit,
)

PREVIOUS, GLOBAL = "previous", "global"


class Moon(Method):
    """Averages as FedAvg and keeps every silo's last model."""

    def play(self, memory: Memory, number: int, ask: Ask) -> Memory:
        """Train everywhere, each silo with what it sent last."""
        before = memory.own.get(PREVIOUS, {})
        answers = ask(
            [
                SiloTask(
                    silo,
                    memory.theta,
                    {PREVIOUS: before[silo]} if silo in before else {},
                )
                for silo in self.terms.silos
            ]
        )
        if not answers:
            return memory
        sent = {answer.silo: answer.weights for answer in answers}
        return replace(
            memory, theta=weighted_mean(answers), own={PREVIOUS: {**before, **sent}}
        )


class ModelContrast(Objective):
    """Adds mu l_con to the label loss (eq. 4)."""

    def __init__(
        self,
        received: State,
        previous: State,
        *,
        weight: float,
        temperature: float,
        tap: str = "",
    ) -> None:
        """Keep both teachers, mu >= 0, tau > 0 and where z is taken."""
        self.tap = tap
        self.teachers = {GLOBAL: received, PREVIOUS: previous}
        self._weight = weight
        self._temperature = temperature

    @classmethod
    def of(cls, visit: Visit) -> Objective:
        """Contrast, or not: before there is a former model, or where mu is 0."""
        settings = visit.settings
        if PREVIOUS not in visit.aids or settings.contrast_weight == 0:
            return Objective()
        return cls(
            visit.received,
            visit.aids[PREVIOUS],
            weight=settings.contrast_weight,
            temperature=settings.contrast_temperature,
            tap=settings.contrast_tap,
        )

    def loss(self, step: Step) -> Tensor:
        """Return L + mu l_con."""
        contrast = contrastive_loss(
            _pool(step.output),
            _pool(step.answers[GLOBAL]),
            _pool(step.answers[PREVIOUS]),
            temperature=self._temperature,
        )
        return step.label_loss + self._weight * contrast


def contrastive_loss(
    features: Tensor, global_features: Tensor, previous: Tensor, *, temperature: float
) -> Tensor:
    """Compare features with those of the global and of the former model, eq. (3).

    Args:
        features: z, (batch, dim).
        global_features: z_glob, the same shape.
        previous: z_prev, the same shape.
        temperature: tau > 0.

    Returns:
        The mean over the batch, scalar, > 0; log 2 where both are equally near.
    """
    near = functional.cosine_similarity(features, global_features, dim=1)
    far = functional.cosine_similarity(features, previous, dim=1)
    # -log of the first of two softmax terms is softplus of the gap.
    return functional.softplus((far - near) / temperature).mean()


def _pool(output: SegmentationOutput) -> Tensor:
    return output.features.mean((2, 3))
