"""Tiled prediction against a reference written out by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor

from clients.data.errors import DataError
from clients.data.tiles import predict_tiled


def weights(tile: int) -> np.ndarray:
    """Return the Gaussian of a standard deviation of an eighth of a tile."""
    away = np.arange(tile) - (tile - 1) / 2
    line = np.exp(-(away**2) / (2 * (tile / 8) ** 2))
    return np.maximum(np.outer(line, line), 1e-3)


def starts(length: int, tile: int) -> list[int]:
    """Return half-overlapping positions; the last one ends with the frame."""
    return sorted({min(at, length - tile) for at in range(0, length, tile // 2)})


def own_position(tiles: Tensor) -> Tensor:
    """Predict each pixel's place in its tile: a function that is not per pixel."""
    count, _, height, width = tiles.shape
    rows = torch.arange(height, dtype=torch.float32)[:, None] * width
    return (rows + torch.arange(width)).expand(count, 2, height, width) * tiles[:, :1]


@pytest.mark.parametrize("shape", [(20, 20), (8, 8), (13, 29), (33, 8)])
def test_a_network_that_sees_pixels_only_may_as_well_see_the_whole(
    shape: tuple[int, int],
) -> None:
    images = torch.randn(3, 1, *shape)

    def network(tiles: Tensor) -> Tensor:
        assert tiles.shape[1:] == (1, 8, 8)
        return torch.cat([tiles, 2 * tiles.square() - 1], dim=1)

    expected = torch.cat([images, 2 * images.square() - 1], dim=1)
    assert torch.allclose(predict_tiled(network, images, 8), expected, atol=1e-5)


def test_tiles_are_blended_as_the_reference_says() -> None:
    tile, height, width = 8, 14, 21
    images = torch.rand(2, 1, height, width)
    total = np.zeros((2, 2, height, width))
    weight = np.zeros((height, width))
    for top in starts(height, tile):
        for left in starts(width, tile):
            rows, columns = slice(top, top + tile), slice(left, left + tile)
            seen = own_position(images[..., rows, columns]).numpy()
            total[..., rows, columns] += weights(tile) * seen
            weight[rows, columns] += weights(tile)
    found = predict_tiled(own_position, images, tile)
    assert np.allclose(found.numpy(), total / weight, rtol=1e-4, atol=1e-4)


def test_a_frame_of_one_tile_is_seen_once_and_as_it_is() -> None:
    seen = []

    def network(tiles: Tensor) -> Tensor:
        seen.append(tiles.clone())
        return own_position(tiles)

    images = torch.rand(1, 1, 16, 16)
    found = predict_tiled(network, images, 16)
    assert len(seen) == 1 and torch.equal(seen[0], images)
    assert torch.allclose(found, own_position(images), rtol=1e-5)


def test_a_smaller_frame_is_padded_with_zeros_to_a_single_tile() -> None:
    seen = []

    def network(tiles: Tensor) -> Tensor:
        seen.append(tiles.clone())
        return tiles + 1

    images = torch.rand(1, 1, 6, 10) + 0.5
    found = predict_tiled(network, images, 16)
    assert len(seen) == 1 and seen[0].shape == (1, 1, 16, 16)
    assert int((seen[0] == 0).sum()) == 256 - 60
    assert torch.allclose(found, images + 1)


def test_no_gradient_is_lost_or_invented() -> None:
    # Importing MONAI must not change the mode of the caller.
    images = torch.rand(1, 1, 12, 12, requires_grad=True)
    predict_tiled(lambda tiles: 3 * tiles, images, 8).sum().backward()
    assert images.grad is not None
    assert torch.allclose(images.grad, torch.full_like(images, 3), atol=1e-4)


@pytest.mark.parametrize(("tile", "shape"), [(0, (1, 1, 8, 8)), (8, (1, 8, 8))])
def test_tiles_and_images_of_no_sense_are_refused(
    tile: int, shape: tuple[int, ...]
) -> None:
    with pytest.raises(DataError, match="Tiles need"):
        predict_tiled(lambda tiles: tiles, torch.zeros(shape), tile)
