"""Several networks as one: the mean of their probabilities.

The consensus of local models (arXiv 2412.06494) in its plainest form, one vote a model
for every pixel and class. It costs the passes of all of them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.network import SegmentationNetwork, SegmentationOutput


class Ensemble(SegmentationNetwork):
    """The mean of several networks' probabilities, as one network."""

    def __init__(self, networks: Sequence[SegmentationNetwork]) -> None:
        """Take networks of one size.

        Args:
            networks: At least one.

        Raises:
            ValueError: If there is none, or their sizes differ.
        """
        super().__init__()
        sizes = {(one.image_size, one.num_classes) for one in networks}
        if len(sizes) != 1:
            raise ValueError(
                "An ensemble needs networks of one image size and number of classes, "
                f"got {len(networks)} of {len(sizes)} kinds."
            )
        self.networks = nn.ModuleList(networks)
        ((self.image_size, self.num_classes),) = sizes

    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        """Segment images.

        Args:
            images: (batch, 1, size, size).

        Returns:
            The logit of the mean probability, and all networks' features one behind
            the other.
        """
        found = [one.forward_with_features(images) for one in self.networks]
        # logit(p) = log p - log(1 - p); neither is lost where a network is certain,
        # and double precision keeps the side of 0.5 on which equal networks are.
        logits = torch.stack([one.logits for one in found]).double()
        odds = functional.logsigmoid(logits).logsumexp(0)
        odds = odds - functional.logsigmoid(-logits).logsumexp(0)
        features = torch.cat([one.features for one in found], dim=1)
        return SegmentationOutput(odds.to(found[0].logits.dtype), features)
