"""Frozen teachers that need no network of their own.

A teacher answers through the student's network: its trainable tensors take the place
of the student's for one pass. Beside the student, a hospital therefore holds one set
of travelled tensors for each different teacher and nothing else; with adapters that is
under a percent of a network. Plain torch; knows nothing of Flower.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from models.network import SegmentationNetwork, SegmentationOutput
from models.sam_prompts import Prompts
from models.taps import forward_with_tap
from models.weights import check_weights, weights_digest
from strategies.accumulation import State


class TeacherBank:
    """Models of one network that differ in what travels."""

    def __init__(
        self,
        model: SegmentationNetwork,
        states: Mapping[str, State],
        *,
        tap: str,
        device: torch.device,
    ) -> None:
        """Check and keep the teachers' tensors.

        Args:
            model: The student, whose network the teachers borrow; ends on the device.
            states: What travels, by teacher. Equal ones are kept and run once.
            tap: Where features are taken, see `models/taps.py`.
            device: Where the teachers answer.

        Raises:
            WeightsError: If tensors are not of the student's network.
        """
        self._network = _Tapped(model.to(device), tap)
        expected = model.trainable_state()
        own = {tensor.data_ptr() for tensor in expected.values()}
        parameters = {name for name, _ in model.named_parameters()}
        self._key_of: dict[str, str] = {}
        self._states: dict[str, State] = {}
        for name, state in sorted(states.items()):
            check_weights(state, expected, source=f"the teacher from '{name}'")
            key = self._key_of[name] = weights_digest(state)
            if key not in self._states:
                self._states[key] = {
                    f"network.{part}": _held(
                        tensor, device, own, as_parameter=part in parameters
                    )
                    for part, tensor in state.items()
                }

    @property
    def num_values(self) -> int:
        """Return how many numbers are held for the teachers, together."""
        return sum(
            tensor.numel()
            for state in self._states.values()
            for tensor in state.values()
        )

    @torch.no_grad()
    def ask(
        self, images: Tensor, prompts: Prompts | None = None
    ) -> dict[str, SegmentationOutput]:
        """Let every teacher look at the same frames, in evaluation mode.

        The student stays as it is: weights, gradients, statistics of normalisation,
        training mode and random state.

        Args:
            images: (batch, 1, size, size), as the network takes them.
            prompts: That the student was given, too, if it is a SAM.

        Returns:
            Logits and tapped features by teacher, sorted by name, without gradients.
            Teachers with equal weights share them.
        """
        with _evaluating(self._network):
            answers = {
                key: functional_call(self._network, state, (images, prompts))
                for key, state in self._states.items()
            }
        return {name: answers[key] for name, key in sorted(self._key_of.items())}


class _Tapped(nn.Module):
    """A network whose call returns logits and tapped features."""

    def __init__(self, network: SegmentationNetwork, tap: str) -> None:
        super().__init__()
        self.network, self.tap = network, tap

    def forward(self, images: Tensor, prompts: Prompts | None) -> SegmentationOutput:
        return forward_with_tap(self.network, images, self.tap, prompts)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Switch every part to evaluation, then each back to what it was."""
    modes = [(part, part.training) for part in network.modules()]
    try:
        for part, _ in modes:
            part.training = False
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _held(
    tensor: Tensor, device: torch.device, own: set[int], *, as_parameter: bool
) -> Tensor:
    """Move a tensor; copy it only where it is the student's, which will change."""
    moved = tensor.detach().to(device)
    moved = moved.clone() if moved.data_ptr() in own else moved
    # No gradient is ever taken, but `matmul` chooses its kernel by this flag: with it
    # the answers are those of a network of its own to the bit.
    return moved.requires_grad_(as_parameter)
