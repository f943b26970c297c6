"""Networks of one weight a class, and silos that answer what a test tells them."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from models.network import SegmentationNetwork, SegmentationOutput
from strategies.accumulation import State
from strategies.federation_state import equal_states
from strategies.rival_settings import RivalSettings
from strategies.rivals.method import (
    Ask,
    Memory,
    Method,
    SiloAnswer,
    SiloTask,
    Step,
    Terms,
    Visit,
)
from strategies.settings import RunSettings


class Scales(SegmentationNetwork):
    """Multiplies the frame by one weight a class; its features are its logits."""

    def __init__(self, *weights: float, image_size: int = 1) -> None:
        super().__init__()
        self.image_size, self.num_classes = image_size, len(weights)
        self.weight = nn.Parameter(torch.tensor(weights))

    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        scaled = self.weight[None, :, None, None] * images
        return SegmentationOutput(scaled, scaled)


@dataclass(frozen=True)
class Frame:
    """A batch of one-pixel frames, or of larger ones."""

    images: Tensor
    masks: Tensor
    annotated: Tensor
    valid: Tensor


def frame(
    image: float = 1.0, *, masks: Sequence[int] = (0,), annotated: Sequence[bool] = ()
) -> Frame:
    """One frame of one pixel with one mask a class, all annotated if not told."""
    return Frame(
        torch.full((1, 1, 1, 1), image),
        torch.tensor(masks, dtype=torch.uint8).reshape(1, -1, 1, 1),
        torch.tensor([list(annotated) or [True] * len(masks)]),
        torch.ones(1, 1, 1, 1, dtype=torch.bool),
    )


def step(
    model: SegmentationNetwork,
    batch: Frame | None = None,
    *,
    answers: Mapping[str, SegmentationOutput] | None = None,
    label_loss: float = 0.0,
) -> Step:
    """One local step of a network on a frame."""
    batch = batch or frame()
    output = model.forward_with_features(batch.images)
    return Step(model, output, answers or {}, batch, torch.tensor(label_loss))


def visit(
    settings: RunSettings,
    received: State,
    aids: Mapping[str, State] | None = None,
    owner: str = "",
    **values: float,
) -> Visit:
    """What a silo builds its objective with; `values` change the settings."""
    return Visit(change(settings, **values), received, aids or {}, owner)


def change(settings: RunSettings, **values: float) -> RivalSettings:
    return replace(settings.rival, **values)  # type: ignore[arg-type]


def terms(
    settings: RunSettings,
    silos: Sequence[str] = ("a", "b"),
    *,
    local_names: Sequence[str] = (),
    **values: float,
) -> Terms:
    return Terms(
        change(settings, **values),
        tuple(silos),
        steps=1,
        seed=0,
        local_names=frozenset(local_names),
    )


def state(*numbers: float, **more: Sequence[float]) -> State:
    """A model of one tensor, and of others by name."""
    return {"w": torch.tensor(numbers), **{n: torch.tensor(v) for n, v in more.items()}}


def listed(model: State) -> dict[str, list[float]]:
    return {name: tensor.tolist() for name, tensor in model.items()}


@dataclass
class Silos:
    """Answers the tasks of a round; None of `train` is a silo that failed."""

    train: Callable[[SiloTask], State | None]
    aids: Mapping[str, Mapping[str, State]] = field(default_factory=dict)  # by silo
    frames: Mapping[str, int] = field(default_factory=dict)  # 1 if not told
    asked: list[list[SiloTask]] = field(default_factory=list)

    def __call__(self, tasks: Sequence[SiloTask]) -> list[SiloAnswer]:
        self.asked.append(list(tasks))
        answers = [
            SiloAnswer(
                task.silo,
                task.owner,
                weights,
                self.frames.get(task.silo, 1),
                self.aids.get(task.silo, {}),
            )
            for task in tasks
            if (weights := self.train(task)) is not None
        ]
        return sorted(answers, key=lambda answer: (answer.owner, answer.silo))

    def tasks(self, phase: int = 0) -> dict[str, SiloTask]:
        """What was asked of each silo in a phase."""
        return {task.silo: task for task in self.asked[phase]}


def by_silo(**weights: float) -> Callable[[SiloTask], State | None]:
    """Every silo answers one number; those that are not named fail."""
    return lambda task: state(weights[task.silo]) if task.silo in weights else None


def play(method: Method, memory: Memory, ask: Ask, number: int = 1) -> Memory:
    """Play a round and make sure that nothing remembered before has changed."""
    before = copy.deepcopy(memory)
    after = method.play(memory, number, ask)
    assert equal_states(memory.theta, before.theta)
    assert same(memory.shared, before.shared)
    assert memory.own.keys() == before.own.keys()
    assert all(same(memory.own[kind], before.own[kind]) for kind in before.own)
    return after


def same(first: Mapping[str, State], second: Mapping[str, State]) -> bool:
    return first.keys() == second.keys() and all(
        equal_states(first[name], second[name]) for name in first
    )
