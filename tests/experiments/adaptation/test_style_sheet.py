from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor

from clients.data.errors import DataError
from clients.data.frames import FrameSet
from experiments.adaptation.style_sheet import draw_style_sheet
from experiments.overlays import CLASS_COLOURS


def frames(count: int, grey: float, *, size: int = 48, column: int = 10) -> FrameSet:
    """Even frames; frame k has a catheter in a column of its own."""
    masks = torch.zeros(count, 2, size, size, dtype=torch.uint8)
    for number in range(count):
        masks[number, 0, :, column + 3 * number] = 1
    step = torch.arange(count)[:, None, None, None] / 50
    return FrameSet(
        images=(grey + step).expand(count, 1, size, size).float().clone(),
        masks=masks,
        annotated=torch.ones(count, 2, dtype=torch.bool),
        sequences=torch.arange(count),
    )


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_the_last_row_alone_shows_labels(tmp_path: Path) -> None:
    path = tmp_path / "new" / "sheet.png"
    source, target, synthetic = (frames(3, grey) for grey in (0.2, 0.5, 0.8))
    assert draw_style_sheet(source, target, synthetic, path) == path
    body = pixels(path)[30:]
    colour = np.array(ImageColor.getrgb(CLASS_COLOURS["catheter"]))
    rows = np.array_split((body == colour).all(axis=-1), 4)
    assert [bool(row.any()) for row in rows] == [False, False, False, True]


def test_backgrounds_have_a_row_of_their_own(tmp_path: Path) -> None:
    parts = [frames(2, grey) for grey in (0.2, 0.5, 0.8)]
    without = draw_style_sheet(*parts, tmp_path / "without.png")
    grounds = torch.full((2, 1, 48, 48), 0.6)
    with_them = draw_style_sheet(*parts, tmp_path / "with.png", backgrounds=grounds)
    added = len(pixels(with_them)) - len(pixels(without))
    assert added == (len(pixels(without)) - 30) / 4
    assert (pixels(with_them) == round(0.6 * 255)).all(axis=-1).any()


def test_a_synthetic_frame_stands_below_the_one_it_was_made_from(
    tmp_path: Path,
) -> None:
    source = frames(4, 0.2)
    turned = source.subset(torch.tensor([3, 1]))
    path = draw_style_sheet(source, frames(2, 0.9), turned, tmp_path / "sheet.png")
    drawn = pixels(path)
    first = drawn[30 + 5, 96 + 5, 0], drawn[30 + 5, 96 + 198 + 5, 0]
    assert first == tuple(round(255 * (0.2 + k / 50)) for k in (3, 1))


def test_frames_of_different_sizes_make_no_sheet(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"one size, got \[32, 48\] px"):
        draw_style_sheet(
            frames(1, 0.2), frames(1, 0.2, size=32), frames(1, 0.2), tmp_path / "a.png"
        )
