from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from numpy.typing import NDArray
from torch import Tensor

from experiments.overlays import CLASS_COLOURS, draw_overlays, scores_text


def has_colour(pixels: NDArray[np.float32], colour: str) -> bool:
    distance = np.abs(pixels[..., :3] - np.array(to_rgb(colour))).max(axis=-1)
    return bool((distance < 0.02).any())


def masks(*classes: int) -> Tensor:
    found = torch.zeros(2, 2, 24, 24, dtype=torch.uint8)
    for index in classes:
        found[:, index, 10:14, :] = 1
    return found


def draw(path: Path, labels: Tensor, predicted: Tensor) -> NDArray[np.float32]:
    images = torch.full((2, 1, 24, 24), 0.5)
    draw_overlays(images, labels, {"prediction": predicted}, path, title="Test")
    pixels: NDArray[np.float32] = imread(path)
    return pixels


def test_each_row_shows_frame_label_and_prediction(tmp_path: Path) -> None:
    pixels = draw(tmp_path / "overlay.png", masks(0), masks(1))
    height, width = pixels.shape[:2]
    body = pixels[: int(0.9 * height)]  # without the legend
    frame, label, predicted = np.array_split(body, 3, axis=1)
    catheter, guidewire = CLASS_COLOURS["catheter"], CLASS_COLOURS["guidewire"]
    assert not has_colour(frame, catheter)
    assert not has_colour(frame, guidewire)
    assert has_colour(label, catheter)
    assert not has_colour(label, guidewire)
    assert has_colour(predicted, guidewire)
    assert not has_colour(predicted, catheter)
    assert width > 900


def test_the_legend_names_both_colours_even_of_empty_masks(tmp_path: Path) -> None:
    pixels = draw(tmp_path / "overlay.png", masks(), masks())
    legend = pixels[int(0.9 * len(pixels)) :]
    assert all(has_colour(legend, colour) for colour in CLASS_COLOURS.values())


def test_a_class_that_nobody_looked_for_has_no_dice() -> None:
    label, found = masks(0)[0].bool().numpy(), masks(0)[0].bool().numpy()
    everything = scores_text(found, label, [True, True])
    assert everything == "Dice: catheter 1.00, guidewire 1.00"
    one = scores_text(found, label, [True, False])
    assert one == "Dice: catheter 1.00, guidewire not annotated"


def test_the_picture_says_what_was_not_annotated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    monkeypatch.setattr(
        "matplotlib.axes.Axes.set_xlabel", lambda _, text, **__: said.append(text)
    )
    images, known = torch.full((2, 1, 24, 24), 0.5), torch.tensor([[1, 0], [1, 1]])
    draw_overlays(
        images,
        masks(0),
        {"prediction": masks(0)},
        tmp_path / "a.png",
        title="Test",
        annotated=known.bool(),
    )
    assert ["not annotated" in text for text in said] == [True, False]


def test_predictions_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\(2, 2, 24, 24\) and \(1, 2, 24, 24\)"):
        draw(tmp_path / "overlay.png", masks(0), masks(0)[:1])
