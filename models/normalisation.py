"""Which tensors of a network belong to its normalisation layers."""

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from models.network import SegmentationNetwork
from models.torchvision_ops import make_torchvision_importable

make_torchvision_importable()

from segment_anything.modeling.common import LayerNorm2d  # noqa: E402 - as above

LAYERS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, LayerNorm2d)


def normalisation_names(model: SegmentationNetwork) -> frozenset[str]:
    """Name what a method with local normalisation keeps at the silos.

    FedBN (Li et al., ICLR 2021) keeps batch normalisation; "norm-local" is the same
    with layer and group normalisation, which transformers have instead.

    Args:
        model: Any network.

    Returns:
        Names in `trainable_state`: weights, biases and running statistics.
    """
    names = {
        f"{prefix}.{name}" if prefix else name
        for prefix, part in model.named_modules()
        if isinstance(part, LAYERS)
        for name in part.state_dict()
    }
    return frozenset(names & model.trainable_state().keys())
