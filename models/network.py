"""What every segmentation network here is: an image in, one logit map per class out.

Training, distillation, exchange and evaluation use this interface and nothing else of
a network.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn


class SegmentationOutput(NamedTuple):
    """What one pass through a network yields."""

    # (batch, classes, height, width), one sigmoid a class; of a network that says what
    # a frame shows as a whole (batch, labels), one softmax over them.
    logits: Tensor
    features: Tensor  # (batch, dim, h, w), the deepest features of the encoder
    # Logits of auxiliary heads, deepest first; only in training, of networks with some.
    auxiliaries: tuple[Tensor, ...] = ()


class SegmentationNetwork(nn.Module, ABC):
    """A network for grey frames of one size.

    Attributes:
        image_size: Side of the frames, px.
        num_classes: Number of logit maps.
    """

    image_size: int
    num_classes: int

    @abstractmethod
    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        """Segment images and keep the encoder's features of the same pass.

        Args:
            images: (batch, 1, size, size), float, normalised as it was in training.

        Returns:
            Logits (batch, classes, size, size) and features (batch, dim, h, w).

        Raises:
            ValueError: If the images are not of that shape.
        """

    def forward(self, images: Tensor) -> Tensor:
        """Segment images.

        Args:
            images: (batch, 1, size, size), float.

        Returns:
            Logits (batch, classes, size, size).

        Raises:
            ValueError: If the images are not of that shape.
        """
        return self.forward_with_features(images).logits

    def transformer_parts(self) -> tuple[nn.Module, ...]:
        """Return the parts made of attention, which want a lower learning rate.

        Returns:
            Modules; none for a network of convolutions.
        """
        return ()

    def check_images(self, images: Tensor) -> None:
        """Refuse images of another shape.

        Args:
            images: Wanted as (batch, 1, size, size).

        Raises:
            ValueError: If they are not.
        """
        wanted = (1, self.image_size, self.image_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != wanted:
            raise ValueError(
                f"Images must be (batch, 1, {self.image_size}, {self.image_size}), got "
                f"{tuple(images.shape)}. Resize them or build the model for their size."
            )

    def trainable_state(self) -> dict[str, Tensor]:
        """Return the tensors that training changes, detached, by name.

        Running statistics of batch normalisation belong to them: a network without
        them does not predict what the trained one predicted.

        Returns:
            Names and tensors, sorted by name, sharing memory with the model.
        """
        state = {
            name: parameter.detach()
            for name, parameter in self.named_parameters()
            if parameter.requires_grad
        }
        for prefix, module in self.named_modules():
            if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
                for name in ("running_mean", "running_var"):
                    state[f"{prefix}.{name}"] = getattr(module, name)
        return dict(sorted(state.items()))

    def load_trainable_state(self, state: dict[str, Tensor]) -> None:
        """Copy received tensors into the model.

        Args:
            state: Exactly the names and shapes of `trainable_state`.

        Raises:
            KeyError: If a name is missing or unknown.
        """
        own = self.trainable_state()
        if own.keys() != state.keys():
            different = sorted(own.keys() ^ state.keys())
            raise KeyError(
                f"Received weights differ from the model in {len(different)} names, "
                f"first '{different[0]}'. Were they made by another model-name?"
            )
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state[name])
