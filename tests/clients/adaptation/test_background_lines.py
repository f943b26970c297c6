from pathlib import Path

import cv2
import numpy as np
import pytest

from clients.adaptation.background_lines import extend, find_lines, lines_are_dark
from clients.data.simulator import simulate_frames


@pytest.mark.parametrize("domain", ["neuro", "human", "phantom"])
def test_the_strongest_lines_of_simulated_frames_cover_their_devices(
    domain: str,
) -> None:
    frames = simulate_frames(
        domain, patients=5, frames_per_patient=1, image_size=128, seed=2
    )
    device = (frames.masks.amax(dim=1) > 0)[:, None] & frames.valid
    suspected = np.stack(
        [
            find_lines(image[0].numpy(), valid[0].numpy(), dark=True)
            for image, valid in zip(frames.images, frames.valid, strict=True)
        ]
    )[:, None]
    assert suspected[device.numpy()].mean() > 0.85
    assert suspected[frames.valid.numpy()].mean() < 0.35


def test_lines_of_a_real_phantom_cover_its_mask(phantom_xa: Path) -> None:
    path = sorted((phantom_xa / "images").iterdir())[0]
    image, mask = (
        cv2.resize(
            cv2.imread(str(phantom_xa / folder / path.name), cv2.IMREAD_GRAYSCALE),
            (128, 128),
            interpolation=cv2.INTER_AREA,
        )
        for folder in ("images", "masks")
    )
    device = mask > 127
    everywhere = np.ones_like(device)
    found = find_lines(image.astype(np.float32) / 255, everywhere, dark=True)
    assert found[device].mean() > 0.9
    assert found.mean() < 0.3


@pytest.mark.parametrize(
    ("domain", "dark"), [("neuro", True), ("phantom", True), ("simulation", False)]
)
def test_lines_tell_the_polarity_of_a_display(domain: str, dark: bool) -> None:
    frames = simulate_frames(
        domain, patients=6, frames_per_patient=1, image_size=64, seed=4
    )
    assert lines_are_dark(frames) is dark


def test_lines_of_large_frames_are_found_at_a_smaller_size() -> None:
    image = cv2.line(
        np.full((1024, 1024), 0.7, np.float32), (100, 0), (700, 1023), 0, 5
    )
    found = find_lines(image, np.ones((1024, 1024), np.bool_), dark=True)
    assert found.shape == (1024, 1024)
    assert found[image == 0].all()
    assert found.mean() < 0.1


def test_the_edge_of_a_round_field_is_no_line() -> None:
    rows, columns = np.indices((64, 64))
    valid = (rows - 31.5) ** 2 + (columns - 31.5) ** 2 <= 25**2
    image = np.where(valid, 0.5, 0).astype(np.float32)
    assert not find_lines(image, valid, dark=True).any()
    assert not find_lines(image, valid, dark=False).any()


def test_a_frame_goes_on_with_its_nearest_valid_pixel() -> None:
    image = np.array([[0.1, 0.2], [0.0, 0.0]], np.float32)
    valid = np.array([[True, True], [False, False]])
    assert np.array_equal(extend(image, valid), image[[0, 0]])
    assert extend(image, ~valid | valid) is image
