"""Accumulation of silo models into the global one, and what goes back to the silos.

FedEFM (arXiv 2501.16992), eq. (13), normalised (defect 10): the published sum of
weights would grow with the number of silos, and the released code takes a plain mean
(contradiction 7). So Theta = sum_i v_i theta_i / sum_i v_i, where v_i is
1 for a silo that took part in the round and 0 otherwise. Models are added one by one,
so that what is kept does not grow with the number of silos.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

State = dict[str, Tensor]
"""Named tensors of one model."""


class Accumulator:
    """A running mean of models, in float64; add them in sorted order of their silos."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.count = 0
        self._types: dict[str, torch.dtype] = {}
        self._total: State = {}
        self._squares = 0.0

    def add(self, state: State) -> None:
        """Add a model that took part (v_i = 1).

        Args:
            state: The same names and shapes every time.

        Raises:
            KeyError: If the names differ from those of the first.
        """
        if not self._total:
            self._types = {name: tensor.dtype for name, tensor in state.items()}
            self._total = {
                name: torch.zeros_like(tensor, dtype=torch.float64)
                for name, tensor in state.items()
            }
        if state.keys() != self._total.keys():
            raise KeyError("Models with different tensors cannot be accumulated.")
        for name, total in self._total.items():
            total += state[name]
        self._squares += _squared_norm(state)
        self.count += 1

    def mean(self) -> State:
        """Return the accumulated model in the silos' own number type, eq. (13).

        Raises:
            ValueError: If nothing was added.
        """
        if not self.count:
            raise ValueError(
                "There is no silo model to accumulate. At least one site must answer."
            )
        return {
            name: (total / self.count).to(self._types[name])
            for name, total in self._total.items()
        }

    def consensus_distance(self) -> float:
        """Measure how far the silos have drifted apart.

        From the running sums: mean |theta_i|^2 - |mean|^2, exact to about 1e-8 of the
        norm, which is where the distance of silos that share an origin ends.

        Returns:
            Root mean square distance of the silos from their mean, as a share of the
            norm of the mean. 0 means that all are equal; without feedback it grows.

        Raises:
            ValueError: If nothing was added.
        """
        if not self.count:
            raise ValueError("There is no silo model to compare, got none.")
        norm = sum(
            float((total / self.count).square().sum()) for total in self._total.values()
        )
        spread = max(self._squares / self.count - norm, 0.0)
        return float((spread / max(norm, 1e-30)) ** 0.5)


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
    accumulator = Accumulator()
    for silo in sorted(states):
        accumulator.add(states[silo])
    return accumulator.mean()


def feed_back(
    students: Mapping[str, State],
    theta: State,
    neighbours: Mapping[str, Sequence[str]],
    *,
    kind: str,
    share: float,
) -> dict[str, State]:
    """Give every silo its share of what the others learnt.

    Args:
        students: theta_i of every silo.
        theta: The accumulated model.
        neighbours: In-neighbours of every silo, for `kind` "neighbours".
        kind: "mean" (the accumulated model: a client-server federation), "neighbours"
            (the mean of a silo and its in-neighbours: gossip, a decentralised one) or
            "none".
        share: 0 to 1, the weight of what is fed back beside the silo's own model.

    Returns:
        What every silo starts from next. With "mean" and share 1 all are theta itself.
    """
    if kind == "none" or share == 0.0:
        return dict(students)
    if kind == "mean" and share == 1.0:
        return dict.fromkeys(students, theta)
    fed = {}
    for silo, student in students.items():
        source = theta
        if kind == "neighbours":
            group = sorted({silo, *neighbours[silo]} & students.keys())
            source = accumulate({name: students[name] for name in group})
        fed[silo] = _mix(student, source, share)
    return fed


def _mix(own: State, other: State, share: float) -> State:
    if share == 1.0:
        return other
    return {
        name: ((1 - share) * tensor.double() + share * other[name].double()).to(
            tensor.dtype
        )
        for name, tensor in own.items()
    }


def _squared_norm(state: State) -> float:
    return sum(float(tensor.double().square().sum()) for tensor in state.values())
