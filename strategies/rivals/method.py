"""What a federated method is made of: a rule at the centre, an objective at the silo.

The rule is a function of what the centre remembers and of what the silos answer; the
objective is what a silo's local steps descend on beside its labels. Neither knows
Flower: `strategies/rivals/player.py` carries the models, `clients/training.py` takes
the steps. All methods share local optimiser, batches, learning rate and start, so that
they differ in what their papers say and in nothing else.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from torch import Tensor

from models.network import SegmentationNetwork, SegmentationOutput
from strategies.accumulation import State
from strategies.rival_settings import RivalSettings


@dataclass(frozen=True)
class Memory:
    """All that the centre remembers between two rounds."""

    theta: State  # the global model
    shared: Mapping[str, State] = field(default_factory=dict)  # by what it is
    # By what it is, then by silo: a silo itself keeps nothing.
    own: Mapping[str, Mapping[str, State]] = field(default_factory=dict)

    def of(self, kind: str, silo: str, default: State) -> State:
        """Return what is remembered of a silo, or the default where nothing is."""
        return self.own.get(kind, {}).get(silo, default)


@dataclass(frozen=True)
class SiloTask:
    """Ask a silo to train a model for its local steps."""

    silo: str
    weights: State
    aids: Mapping[str, State] = field(default_factory=dict)  # what its objective needs
    owner: str = ""  # whose model it is, if not the silo's or the global one


@dataclass(frozen=True)
class SiloAnswer:
    """What came back."""

    silo: str
    owner: str
    weights: State
    num_examples: int  # training frames of the silo
    aids: Mapping[str, State] = field(default_factory=dict)  # of `Objective.report`


Ask = Callable[[Sequence[SiloTask]], list[SiloAnswer]]
"""Sends the tasks of one phase; returns the good answers, sorted by owner and silo."""


@dataclass(frozen=True)
class Terms:
    """What a method is told of the federation."""

    settings: RivalSettings
    silos: tuple[str, ...]  # names, sorted
    steps: int  # local optimiser steps of a silo in a round
    seed: int
    local_names: frozenset[str] = frozenset()  # tensors of normalisation layers


class Method(ABC):
    """The centre's half of a method; holds no state between rounds."""

    def __init__(self, terms: Terms) -> None:
        """Keep the terms."""
        self.terms = terms
        self.settings = terms.settings

    def begin(self, theta: State) -> Memory:
        """Return the memory before the first round."""
        return Memory(theta)

    @abstractmethod
    def play(self, memory: Memory, number: int, ask: Ask) -> Memory:
        """Play a round.

        Args:
            memory: After the round before; not changed, nor any tensor in it.
            number: 1 for the first round.
            ask: May be called several times; silos that fail are left out.

        Returns:
            The memory after the round.
        """

    def personal(self, memory: Memory, silo: str) -> State:
        """Return the model that the silo itself would use; the global one here."""
        return memory.theta


class Labelled(Protocol):
    """What an objective may look at of a batch."""

    @property
    def images(self) -> Tensor:
        """(batch, 1, size, size)."""

    @property
    def masks(self) -> Tensor:
        """(batch, classes, size, size), uint8."""

    @property
    def annotated(self) -> Tensor:
        """(batch, classes), bool."""

    @property
    def valid(self) -> Tensor:
        """(batch, 1, size, size), bool."""


class Step(NamedTuple):
    """What an objective sees of one local step."""

    model: SegmentationNetwork
    output: SegmentationOutput  # of the model, with gradients
    answers: Mapping[str, SegmentationOutput]  # of the frozen teachers, without
    batch: Labelled
    label_loss: Tensor  # scalar


class Objective:
    """A silo's half of a method, for the steps of one task; this one changes nothing.

    Attributes:
        teachers: Frozen models that are asked about every batch, by name.
        tap: Which features it sees, see `models/taps.py`; "" = the encoder's deepest.
    """

    teachers: Mapping[str, State] = {}
    tap: str = ""

    def loss(self, step: Step) -> Tensor:
        """Return what to descend on, scalar."""
        return step.label_loss

    def correct_gradients(self, model: SegmentationNetwork) -> None:
        """Change the gradients before they are clipped and the optimiser moves."""

    def report(self) -> dict[str, State]:
        """Return what goes back beside the trained weights."""
        return {}


class Visit(NamedTuple):
    """With what an objective is built."""

    settings: RivalSettings
    received: State  # the trainable state that arrived; not changed by training
    aids: Mapping[str, State]
    owner: str


ObjectiveBuilder = Callable[[Visit], Objective]
