"""Accumulation of silo models into the global one.

FedEFM (arXiv 2501.16992), eq. (13), normalised: the published sum of weights would
grow with the number of silos, so Theta = sum_i v_i theta_i / sum_i v_i, where v_i is
1 for a silo that took part in the round and 0 otherwise.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

State = dict[str, Tensor]
"""Named tensors of one model."""


def accumulate(states: Mapping[str, State]) -> State:
    """Average the models of the silos that took part, eq. (13) normalised.

    Args:
        states: The participating silos (v_i = 1) and their tensors, all with the
            same names and shapes. The order does not matter: silos are added in
            sorted order, in float64.

    Returns:
        The mean model in the silos' own number type.

    Raises:
        ValueError: If no silo took part.
    """
    if not states:
        raise ValueError(
            "There is no silo model to accumulate. At least one site must answer."
        )
    silos = sorted(states)
    mean = {}
    for name, first in states[silos[0]].items():
        total = torch.zeros_like(first, dtype=torch.float64)
        for silo in silos:
            total += states[silo][name]
        mean[name] = (total / len(silos)).to(first.dtype)
    return mean


def consensus_distance(states: Mapping[str, State]) -> float:
    """Measure how far the silos have drifted apart.

    Args:
        states: Silos and their tensors.

    Returns:
        Root mean square distance of the silos from their mean, as a share of the
        norm of the mean. 0 means that all are equal; without feedback it grows.

    Raises:
        ValueError: If there is no silo.
    """
    mean = accumulate(states)
    norm = _squared_norm(mean)
    distance = sum(
        _squared_norm({name: state[name] - mean[name] for name in mean})
        for state in states.values()
    )
    return float((distance / len(states) / max(norm, 1e-30)) ** 0.5)


def _squared_norm(state: State) -> float:
    return sum(float(tensor.double().square().sum()) for tensor in state.values())
