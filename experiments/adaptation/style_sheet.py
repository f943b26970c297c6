"""A sheet of the style transfer, for people to judge.

Do the synthetic devices look as if they belonged? Columns go together: above a
synthetic frame stand the background it was composed on and the simulated frame it was
made from. Sheets of a hospital's own frames show patients and stay at the site.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont
from torch import Tensor

from clients.adaptation.background_lines import spread
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from experiments.overlays import CLASS_COLOURS
from models.classes import CLASS_NAMES

NUM_COLUMNS = 8
PANEL_SIDE = 192  # px at least; smaller frames are enlarged by whole numbers
GUTTER = 6  # px between panels


def draw_style_sheet(
    source: FrameSet,
    target: FrameSet,
    synthetic: FrameSet,
    path: Path,
    *,
    backgrounds: Tensor | None = None,
) -> Path:
    """Draw simulated, target and synthetic frames below each other.

    Args:
        source: Simulated frames with labels.
        target: Unlabelled frames; their masks are not drawn.
        synthetic: What `restyle` made of them.
        path: PNG to write; its folder is made.
        backgrounds: (frames, 1, size, size) of `style_backgrounds`; None = no such row.

    Returns:
        The path.

    Raises:
        DataError: If the frames differ in size.
    """
    sizes = {one.images.shape[-1] for one in (source, target, synthetic)}
    if len(sizes) != 1:
        raise DataError(
            f"A style sheet needs frames of one size, got {sorted(sizes)} px."
        )
    count = min(NUM_COLUMNS, len(synthetic))
    rows = [
        ("simulated", _greys(source.images[_origins(source, synthetic, count)])),
        ("target", _greys(target.images[spread(len(target), count)])),
    ]
    if backgrounds is not None:
        rows.append(("background", _greys(backgrounds[:count])))
    pictures = _greys(synthetic.images[:count])
    outlined = [
        _outlined(picture, masks.numpy())
        for picture, masks in zip(pictures, synthetic.masks, strict=False)
    ]
    rows += [("synthetic", pictures), ("its label", outlined)]
    path.parent.mkdir(parents=True, exist_ok=True)
    _compose(rows).save(path, format="PNG", optimize=True)
    return path


def _origins(source: FrameSet, synthetic: FrameSet, count: int) -> list[int]:
    """Find the simulated frames by their labels, which restyling leaves as they are."""
    found = []
    for number in range(count):
        same = (source.masks == synthetic.masks[number]).flatten(1).all(dim=1)
        found.append(int(same.int().argmax()))
    return found


def _greys(images: Tensor) -> list[NDArray[np.uint8]]:
    """Return (side, side, 3) for each of (frames, 1, size, size)."""
    pixels = (images[:, 0] * 255).round().byte().numpy()
    return [np.repeat(_enlarged(one)[..., None], 3, axis=2) for one in pixels]


def _enlarged(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat pixels, so that the grain can be judged."""
    factor = -(-PANEL_SIDE // len(pixels))
    return np.kron(pixels, np.ones((factor, factor), np.uint8))


def _outlined(
    picture: NDArray[np.uint8], masks: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Draw the outline of every class just outside of its device."""
    result = picture.copy()
    for name, mask in zip(CLASS_NAMES, masks, strict=True):
        large = _enlarged(mask)
        around = cv2.dilate(large, np.ones((3, 3), np.uint8)) > large
        result[around] = ImageColor.getrgb(CLASS_COLOURS[name])
    return result


def _compose(rows: Sequence[tuple[str, list[NDArray[np.uint8]]]]) -> Image.Image:
    """Put rows with titles and a legend together."""
    side = len(rows[0][1][0])
    columns = max(len(panels) for _, panels in rows)
    font = ImageFont.load_default(14)
    step, margin, top = side + GUTTER, 96, 30
    sheet = Image.new("RGB", (margin + columns * step, top + len(rows) * step), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (title, panels) in enumerate(rows):
        y = top + number * step
        pen.text((GUTTER, y + side // 2), title, "black", font, anchor="lm")
        for column, panel in enumerate(panels):
            sheet.paste(Image.fromarray(panel), (margin + column * step, y))
    x = margin
    for name in CLASS_NAMES:
        pen.rectangle((x, 10, x + 16, 20), fill=CLASS_COLOURS[name])
        pen.text((x + 22, 15), name, "black", font, anchor="lm")
        x += 22 + int(font.getlength(name)) + 24
    return sheet
