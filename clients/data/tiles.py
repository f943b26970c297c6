"""Prediction of whole frames by a network that takes smaller ones.

FGA-Net's inference (doi 10.21037/qims-2024-2926, its release): tiles of the network's
size, half overlapping, blended with a Gaussian of a standard deviation of an eighth of
a tile; zeros beyond the frame.
"""

from collections.abc import Callable

from torch import Tensor

from clients.data.errors import DataError

OVERLAP = 0.5
SIGMA = 0.125  # of the weights, in tiles
TILES_AT_ONCE = 4


def predict_tiled(
    network: Callable[[Tensor], Tensor], images: Tensor, tile: int
) -> Tensor:
    """Predict frames of any size tile by tile.

    Args:
        network: (tiles, channels, tile, tile) to (tiles, classes, tile, tile).
        images: (batch, channels, height, width), normalised. A frame that is smaller
            than a tile is padded with zeros to a single one.
        tile: Side of a tile, px, >= 1.

    Returns:
        (batch, classes, height, width), the weighted mean of what the tiles say.

    Raises:
        DataError: If there is no tile, or the images have not four axes.
    """
    if tile < 1 or images.ndim != 4:
        raise DataError(
            "Tiles need a side of at least 1 px and images of four axes, got "
            f"{tile} and {tuple(images.shape)}."
        )
    # Here, because importing MONAI takes 6 to 9 s, which every process would pay.
    from monai.inferers import SlidingWindowInferer

    infer = SlidingWindowInferer(
        (tile, tile),
        sw_batch_size=TILES_AT_ONCE,
        overlap=OVERLAP,
        mode="gaussian",
        sigma_scale=SIGMA,
        padding_mode="constant",
        cval=0.0,
    )
    predicted: Tensor = infer(images, network)
    return predicted
