"""The mean of what silos answered, weighted by their frames as in FedAvg."""

from collections.abc import Sequence

import torch

from strategies.accumulation import State
from strategies.rivals.method import Memory, SiloAnswer, SiloTask

STATISTICS = ("running_mean", "running_var")
"""Last parts of the names of tensors that are no parameters."""


def weighted_mean(answers: Sequence[SiloAnswer]) -> State:
    """Average models by the silos' numbers of frames (McMahan et al., 2017, alg. 1).

    Args:
        answers: At least one, in a fixed order; with the same tensors.

    Returns:
        sum_k n_k w_k / sum_k n_k in float64, in the silos' own number type.

    Raises:
        ValueError: If there is none, or no silo has a frame.
    """
    total = sum(answer.num_examples for answer in answers)
    if total <= 0:
        raise ValueError("A mean needs the answer of a silo with frames, got none.")
    mean: State = {}
    for name, first in answers[0].weights.items():
        summed = torch.zeros_like(first, dtype=torch.float64)
        for answer in answers:
            summed += answer.num_examples / total * answer.weights[name].double()
        mean[name] = summed.to(first.dtype)
    return mean


def same_task_for_all(memory: Memory, silos: Sequence[str]) -> list[SiloTask]:
    """Ask every silo to train the global model."""
    return [SiloTask(silo, memory.theta) for silo in silos]


def zeros_of(state: State) -> State:
    """Return zeros in the shapes of a model."""
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}
