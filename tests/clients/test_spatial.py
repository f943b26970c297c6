"""Masks move with their frames, and thin wires stay in one piece."""

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import label
from torch import Tensor

from clients.data.frames import FrameSet
from clients.data.spatial import flip_and_turn, mirror, rotate_and_scale

EIGHT_NEIGHBOURS = np.ones((3, 3))


def frame_set(images: Tensor, masks: Tensor, valid: Tensor | None = None) -> FrameSet:
    return FrameSet(
        images=images,
        masks=masks,
        annotated=torch.ones(len(images), masks.shape[1], dtype=torch.bool),
        sequences=torch.arange(len(images)),
        valid=valid,
    )


def discs(size: int, centres: list[tuple[float, float]], radius: float) -> Tensor:
    """Return (1, 1, size, size) with soft-edged discs at these x, y from the middle."""
    y, x = np.mgrid[:size, :size] + 0.5 - size / 2
    grey = np.zeros((size, size))
    for right, down in centres:
        grey += np.clip(radius + 0.5 - np.hypot(x - right, y - down), 0, 1)
    return torch.from_numpy(grey.astype(np.float32))[None, None]


def curve(size: int, thickness: int) -> Tensor:
    """Return (1, 1, size, size) with a curved wire of a given thickness."""
    x = np.linspace(0.2, 0.8, 200)
    points = size * np.stack([x, 0.5 + 0.2 * np.sin(7 * x)], axis=1)
    mask = np.zeros((size, size), np.uint8)
    cv2.polylines(mask, [np.round(points).astype(np.int32)], False, 1, thickness)
    return torch.from_numpy(mask)[None, None]


def test_flips_and_turns_are_those_of_a_written_example() -> None:
    batch = torch.tensor([[1, 2], [3, 4]])[None, None].repeat(4, 1, 1, 1)
    moved = flip_and_turn(batch, [0, 1, 0, 1], [0, 0, 1, 1])
    assert moved[:, 0].tolist() == [
        [[1, 2], [3, 4]],
        [[2, 1], [4, 3]],
        [[2, 4], [1, 3]],
        [[1, 3], [2, 4]],
    ]


def test_mirrors_are_those_of_a_written_example() -> None:
    images = torch.tensor([[0.1, 0.2], [0.3, 0.4]])[None, None].repeat(4, 1, 1, 1)
    across = torch.tensor([False, True, False, True])
    along = torch.tensor([False, False, True, True])
    masks = (images > 0.25).to(torch.uint8)
    moved = mirror(frame_set(images, masks, images > 0.15), across, along)
    written = [
        [[0.1, 0.2], [0.3, 0.4]],
        [[0.2, 0.1], [0.4, 0.3]],
        [[0.3, 0.4], [0.1, 0.2]],
        [[0.4, 0.3], [0.2, 0.1]],
    ]
    expected = torch.tensor(written)[:, None]
    assert torch.equal(moved.images, expected)
    assert torch.equal(moved.masks, (expected > 0.25).to(torch.uint8))
    assert torch.equal(moved.valid, expected > 0.15)


def test_a_positive_angle_turns_clockwise_and_a_scale_moves_outwards() -> None:
    image = discs(64, [(12, 0)], 5)
    frames = frame_set(image, (image > 0.5).to(torch.uint8))
    moved = rotate_and_scale(frames, torch.tensor([90.0]), torch.tensor([1.5]))
    expected = discs(64, [(0, 18)], 7.5)  # from the right to below, 1.5 times as far
    assert float((moved.images - expected).abs().mean()) < 0.005
    rows, columns = torch.nonzero(moved.masks[0, 0]).double().mean(dim=0) + 0.5 - 32
    assert abs(float(rows) - 18) < 0.1 and abs(float(columns)) < 0.1


@pytest.mark.parametrize("degrees", [-170.0, -37.0, 3.0, 45.0, 121.0])
@pytest.mark.parametrize("scale", [0.7, 1.0, 1.4])
def test_image_mask_and_region_move_together(degrees: float, scale: float) -> None:
    image = discs(96, [(20, 5), (-9, -18), (0, 22)], 7.3)
    frames = frame_set(image, (image > 0.5).to(torch.uint8), image > 0.5)
    found = rotate_and_scale(frames, torch.tensor([degrees]), torch.tensor([scale]))
    area = float(image.sum()) * scale**2
    assert float(found.masks.sum()) == pytest.approx(area, rel=0.04)
    assert int((found.masks.bool() != found.valid).sum()) < 0.03 * area
    # The image is a mean over valid pixels, all about 1: no dark rim.
    assert float(found.images[found.valid].min()) > 0.5
    assert not found.images[~found.valid].any()


@pytest.mark.parametrize("thickness", [1, 2, 3])
@pytest.mark.parametrize("scale", [0.7, 1.0, 1.4])
def test_thin_wires_stay_in_one_piece_at_any_angle(
    thickness: int, scale: float
) -> None:
    wire = curve(96, thickness)
    assert label(wire[0, 0].numpy(), EIGHT_NEIGHBOURS)[1] == 1
    angles = torch.arange(-180.0, 180.0, 11.0)
    many = wire.repeat(len(angles), 1, 1, 1)
    frames = frame_set(torch.zeros(many.shape), many)
    moved = rotate_and_scale(frames, angles, torch.full((len(angles),), scale))
    for mask in moved.masks[:, 0].numpy():
        assert label(mask, EIGHT_NEIGHBOURS)[1] == 1
    # The area follows the scale; a wire of 1 px cannot become thinner than that.
    areas = moved.masks.sum(dim=(1, 2, 3)).double() / float(wire.sum())
    expected = scale * max(scale * thickness, 1) / thickness
    assert float(areas.mean()) == pytest.approx(expected, rel=0.35)


def test_interpolation_alone_would_tear_a_wire_of_one_pixel() -> None:
    wire = curve(96, 1)[0, 0].numpy()
    matrix = cv2.getRotationMatrix2D((47.5, 47.5), 37, 1.0)
    rotated = cv2.warpAffine(wire.astype(np.float32), matrix, (96, 96)) >= 0.5
    assert label(rotated, EIGHT_NEIGHBOURS)[1] > 3


def test_a_moved_wire_lies_on_the_moved_image() -> None:
    wire = curve(128, 2)
    image = torch.from_numpy(cv2.GaussianBlur(wire[0, 0].float().numpy(), (0, 0), 1.5))
    moved = rotate_and_scale(
        frame_set(image[None, None], wire), torch.tensor([63.0]), torch.tensor([1.2])
    )
    on = moved.images[moved.masks.bool()]
    assert float(on.min()) > 0.25 * float(moved.images.max())


def test_frames_that_neither_turn_nor_scale_stay_the_same_to_the_bit() -> None:
    images = torch.rand(3, 1, 20, 20)
    frames = frame_set(images, (images > 0.7).to(torch.uint8), images > 0.2)
    moved = rotate_and_scale(frames, torch.zeros(3), torch.ones(3))
    for name in ("images", "masks", "valid"):
        assert torch.equal(getattr(moved, name), getattr(frames, name))


def test_what_turns_in_from_outside_is_black_and_not_valid() -> None:
    frames = frame_set(
        torch.ones(1, 1, 40, 40), torch.ones(1, 2, 40, 40, dtype=torch.uint8)
    )
    moved = rotate_and_scale(frames, torch.tensor([45.0]), torch.tensor([1.0]))
    assert not moved.valid[0, 0, 0, 0] and not moved.valid[0, 0, -1, -1]
    # A square turned by 45 degrees covers the octagon of 2 sqrt(2) - 2 of itself.
    assert float(moved.valid.float().mean()) == pytest.approx(0.828, abs=0.02)
    assert not moved.images[~moved.valid].any() and moved.images[moved.valid].min() == 1
    assert torch.equal(moved.masks[0, 0].bool(), moved.valid[0, 0])
