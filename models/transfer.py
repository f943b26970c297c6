"""Start the encoder of one network from what another has learnt.

Networks of one family keep an encoder under different names: "encoder.blocks.0" in
one, "backbone.encoder.blocks.0" in another. What is copied is one part of the source
into one part of the target, wherever the rest of the name and the shape agree; single
tensors that look alike by chance are not gathered from everywhere.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.network import SegmentationNetwork, SegmentationOutput
from models.sam import Sam

SHORTEST_SUFFIX = 2
"""Parts of a name that must agree: "weight" alone says nothing."""
LEAST_SHARE = 0.01
"""Of the encoder's numbers: what fits less than this fits by chance."""


class TransferError(ValueError):
    """Nothing can be transferred; the message says why."""


@dataclass(frozen=True)
class Transfer:
    """What one network's encoder got from another."""

    names: frozenset[str]  # of the target's tensors that were copied
    parameters: int  # numbers copied
    encoder_parameters: int  # numbers in the target's encoder

    @property
    def tensors(self) -> int:
        """Return how many tensors were copied."""
        return len(self.names)

    def sentence(self) -> str:
        """Say it to a person."""
        share = self.parameters / self.encoder_parameters
        return (
            f"{self.tensors} tensors with {self.parameters:,} numbers were "
            f"transferred, {share:.1%} of the encoder."
        )


def encoder_parameters(model: SegmentationNetwork) -> frozenset[str]:
    """Find the parameters that the encoder's deepest features depend on.

    Args:
        model: Any network; its weights and running statistics stay as they are.

    Returns:
        Names of those that can train.
    """
    named = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
    if isinstance(model, Sam):  # its features come at 1024 px: not for a look alone
        return frozenset(name for name, _ in named if name.startswith("image_encoder."))
    was_training = model.training
    model.eval()
    size = model.image_size
    device = next(model.parameters()).device
    with torch.enable_grad():
        images = torch.zeros(1, 1, size, size, device=device)
        features = model.forward_with_features(images).features
        if not named or not features.requires_grad:
            found: tuple[Tensor | None, ...] = (None,) * len(named)
        else:
            parameters = [one for _, one in named]
            found = torch.autograd.grad(features.sum(), parameters, allow_unused=True)
    model.train(was_training)
    return frozenset(
        name
        for (name, _), gradient in zip(named, found, strict=True)
        if gradient is not None
    )


def transfer_encoder(
    target: SegmentationNetwork, source: Mapping[str, Tensor]
) -> Transfer:
    """Copy what fits of a network's tensors into another network's encoder.

    Args:
        target: Changed in place, only in its encoder.
        source: State of the other network.

    Returns:
        What was copied.

    Raises:
        TransferError: If less than a hundredth of the encoder fits.
    """
    state = _encoder_state(target)
    pair = _best_pair(state, source)
    copied = {}
    if pair is not None:
        inside, outside = pair
        for name, tensor in state.items():
            rest = name.removeprefix(inside)
            other = source.get(outside + rest)
            if name.startswith(inside) and other is not None and _fits(tensor, other):
                copied[name] = other
    total = sum(tensor.numel() for tensor in state.values())
    parameters = sum(tensor.numel() for tensor in copied.values())
    if not parameters or parameters < LEAST_SHARE * total:
        raise TransferError(
            "No part of the foundation has the names and the shapes of the encoder of "
            f"that network ({parameters:,} of {total:,} numbers fit), so nothing can "
            "be transferred. Choose a network of the foundation's family, or start "
            "from random weights."
        )
    with torch.no_grad():
        for name, other in copied.items():
            state[name].copy_(other)
    return Transfer(
        names=frozenset(copied),
        parameters=parameters,
        encoder_parameters=total,
    )


class PooledClassifier(SegmentationNetwork):
    """One linear layer on the mean of the encoder's deepest features.

    What an image shows as a whole: the task of FedEFM's second experiment (arXiv
    2501.16992, RANZCR CLiP) and of the pretext in its released code. Its logits are
    (batch, labels).
    """

    def __init__(self, network: SegmentationNetwork, num_labels: int) -> None:
        """Put a new head on a network.

        Args:
            network: The decoder is not used, though computed unless it is a SAM.
            num_labels: How many labels there are to choose from, >= 2.
        """
        super().__init__()
        if num_labels < 2:
            raise ValueError(f"A choice needs two labels at least, got {num_labels}.")
        self.network = network
        self.image_size, self.num_classes = network.image_size, num_labels
        size = network.image_size
        device = next(network.parameters()).device
        was_training = network.training
        network.eval()
        with torch.no_grad():
            images = torch.zeros(1, 1, size, size, device=device)
            dim = self._encode(images).shape[1]
        network.train(was_training)
        self.head = nn.Linear(dim, num_labels, device=device)

    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        """Classify images (batch, 1, size, size) by the features that come along.

        Args:
            images: As the network takes them.

        Returns:
            Logits (batch, labels) and the network's features (batch, dim, h, w).

        Raises:
            ValueError: If the images are not of that shape.
        """
        features = self._encode(images)
        return SegmentationOutput(self.head(features.mean(dim=(2, 3))), features)

    def _encode(self, images: Tensor) -> Tensor:
        if isinstance(self.network, Sam):  # its encoder can be asked alone
            return self.network.encode(images)
        return self.network.forward_with_features(images).features


def _encoder_state(model: SegmentationNetwork) -> dict[str, Tensor]:
    """Return the encoder's parameters and running statistics, by name."""
    trained = encoder_parameters(model)
    owners = {name.rpartition(".")[0] for name in trained}
    return {
        name: tensor
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point()
        and (name in trained or name.rpartition(".")[0] in owners)
    }


def _best_pair(
    state: Mapping[str, Tensor], source: Mapping[str, Tensor]
) -> tuple[str, str] | None:
    """Return the prefixes, in target and source, behind which most numbers agree."""
    places: dict[str, list[tuple[str, Tensor]]] = {}
    for name, tensor in source.items():
        for prefix, rest in _cuts(name):
            places.setdefault(rest, []).append((prefix, tensor))
    agreed: Counter[tuple[str, str]] = Counter()
    for name, tensor in state.items():
        for prefix, rest in _cuts(name):
            for other_prefix, other in places.get(rest, []):
                if _fits(tensor, other):
                    agreed[prefix, other_prefix] += tensor.numel()
    if not agreed:
        return None
    # Of equally good pairs the shortest: it names the whole encoder, not a block.
    return min(agreed, key=lambda pair: (-agreed[pair], len(pair[0]), pair))


def _cuts(name: str) -> list[tuple[str, str]]:
    """Cut a name before each part that a person chose; numbers name nothing."""
    parts = name.split(".")
    return [
        ("".join(f"{one}." for one in parts[:cut]), ".".join(parts[cut:]))
        for cut in range(max(len(parts) - SHORTEST_SUFFIX, 0) + 1)
        if not parts[cut].isdecimal()
    ]


def _fits(tensor: Tensor, other: Tensor) -> bool:
    return tensor.shape == other.shape and other.is_floating_point()
