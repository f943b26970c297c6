"""A sheet of simulated frames, and real ones beside them, for people to judge.

One row a domain: a frame, two later ones of the same patient, then frames of other
patients, some with the outlines of their masks. Real frames are read from folders
`images/` and `masks/`, whose files pair by name; such a sheet shows patients and stays
at the site.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont

from clients.data.errors import DataError
from clients.data.placement import Placement
from clients.data.simulator import simulate_sequence
from clients.fluoroscopy.domains import DOMAINS
from clients.images.opening import is_image, open_source
from experiments.overlays import CLASS_COLOURS
from models.classes import CLASS_NAMES

DEFAULT_DOMAINS = (*DOMAINS, "random-0", "random-1", "random-2")
LATER = (0, 4, 8)  # numbers of the first patient's frames
OTHERS = 2  # patients beside the first, each with and without outlines
GUTTER = 6  # px between panels
GREYS = 112  # of the picture: more would cost megabytes, since noise is not packed
REAL_COLOUR = "#009E73"


class Panel(NamedTuple):
    """One frame of the sheet."""

    image: NDArray[np.uint8]  # (size, size)
    masks: NDArray[np.uint8] | None  # (classes, size, size); None = no outlines


class Row(NamedTuple):
    """One domain or folder."""

    title: str
    panels: list[Panel]


def draw_sheet(
    output: Path,
    *,
    real: Sequence[Path] = (),
    size: int = 256,
    seed: int = 0,
    domains: Sequence[str] = DEFAULT_DOMAINS,
) -> Path:
    """Draw a sheet of frames.

    Args:
        output: PNG to write; its folder is made.
        real: Folders with `images/` and `masks/` to show beside the simulated frames.
        size: Side of a frame, px; real frames are scaled to it.
        seed: Of the simulated frames.
        domains: Of the simulated frames, one row each.

    Returns:
        The path that was written.

    Raises:
        DataError: If a domain is unknown, or a folder holds no frame.
    """
    rows = [
        row
        for number, folder in enumerate(real, start=1)
        for row in _real_rows(folder, number, size)
    ]
    rows += [_simulated_row(domain, size, seed) for domain in domains]
    output.parent.mkdir(parents=True, exist_ok=True)
    picture = _compose(rows, size)
    picture = picture.quantize(palette=_palette(), dither=Image.Dither.NONE)
    picture.save(output, format="PNG", optimize=True)
    return output


def _simulated_row(domain: str, size: int, seed: int) -> Row:
    """Return later frames of one patient, then others with and without outlines."""
    first = simulate_sequence(
        domain, patient=0, frames=LATER[-1] + 1, image_size=size, seed=seed
    )
    panels = [Panel(_grey(first.images[number]), None) for number in LATER]
    panels.append(Panel(_grey(first.images[LATER[-1]]), first.masks[LATER[-1]]))
    for patient in range(1, 1 + OTHERS):
        other = simulate_sequence(
            domain, patient=patient, frames=1, image_size=size, seed=seed, first_frame=2
        )
        image = _grey(other.images[0])
        panels += [Panel(image, None), Panel(image, other.masks[0])]
    return Row(domain, panels)


def _real_rows(folder: Path, number: int, size: int) -> Iterator[Row]:
    """Yield a row for every few sequences, each frame without and with its outline."""
    if not (folder / "images").is_dir():
        raise DataError(f"Folder {number} of real frames has no folder images/ in it.")
    paths = sorted(path for path in (folder / "images").iterdir() if is_image(path))
    if not paths:
        raise DataError(f"Folder {number} of real frames has no frame in images/.")
    of_sequence: dict[str, Path] = {}
    for path in paths:  # NAME up to its last "_" is the sequence
        of_sequence.setdefault(path.stem.rpartition("_")[0] or path.stem, path)
    chosen = list(of_sequence.values())
    in_a_row = (len(LATER) + 1 + 2 * OTHERS) // 2
    for first in range(0, len(chosen), in_a_row):
        panels = []
        for path in chosen[first : first + in_a_row]:
            image, masks = _read_real(path, folder / "masks", size)
            panels += [Panel(image, None), Panel(image, masks)]
        yield Row(f"real {number}", panels)


def _read_real(
    path: Path, masks: Path, size: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Return a real frame and its mask, scaled as frames of a hospital are."""
    pixels = open_source(path).read_frame(0)
    placement = Placement.of(pixels.shape, size)
    grey = placement.frame(pixels)
    low, high = float(grey.min()), max(float(grey.max()), float(grey.min()) + 1)
    scale = 1.0 if pixels.dtype == np.uint8 else 255 / (high - low)
    shift = 0.0 if pixels.dtype == np.uint8 else low
    image = np.rint((grey - shift) * scale).clip(0, 255).astype(np.uint8)
    mask = masks / f"{path.stem}.png"
    if not mask.is_file():
        return image, None
    device = placement.mask(open_source(mask).read_frame(0))
    return image, device[None]


def _compose(rows: Sequence[Row], size: int) -> Image.Image:
    """Put panels, titles and a legend together."""
    font = ImageFont.load_default(max(11, size // 14))
    margin = max(64, int(size * 0.42))
    columns = max(len(row.panels) for row in rows)
    step, top = size + GUTTER, size // 8 + GUTTER
    sheet = Image.new("RGB", (margin + columns * step, top + len(rows) * step), "white")
    pen = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        y = top + number * step
        pen.text((GUTTER, y + size // 2), row.title, "black", font, anchor="lm")
        for column, panel in enumerate(row.panels):
            where = (margin + column * step, y)
            sheet.paste(Image.fromarray(_outlined(panel)), where)
    x = margin
    for name in (*CLASS_NAMES, "real mask") if _has_real(rows) else CLASS_NAMES:
        pen.rectangle(
            (x, top // 2 - 5, x + 16, top // 2 + 5),
            fill=CLASS_COLOURS.get(name, REAL_COLOUR),
        )
        pen.text((x + 22, top // 2), name, "black", font, anchor="lm")
        x += 22 + int(font.getlength(name)) + 24
    return sheet


def _palette() -> Image.Image:
    """Return greys and the colours of the outlines as PIL wants them."""
    greys = np.repeat(np.linspace(0, 255, GREYS).round().astype(np.uint8), 3)
    colours = [*CLASS_COLOURS.values(), REAL_COLOUR]
    values = [
        *greys.tolist(),
        *(c for name in colours for c in ImageColor.getrgb(name)),
    ]
    palette = Image.new("P", (1, 1))
    palette.putpalette(values)
    return palette


def _has_real(rows: Sequence[Row]) -> bool:
    return any(row.title.startswith("real ") for row in rows)


def _outlined(panel: Panel) -> NDArray[np.uint8]:
    """Return (size, size, 3) with the outlines of the masks around the devices."""
    picture = np.repeat(panel.image[..., None], 3, axis=2)
    if panel.masks is None:
        return picture
    names = CLASS_NAMES if len(panel.masks) == len(CLASS_NAMES) else ("",)
    for name, mask in zip(names, panel.masks, strict=True):
        # Just outside the device, so that it stays visible.
        around = cv2.dilate(mask, np.ones((3, 3), np.uint8)) > mask
        colour = CLASS_COLOURS.get(name, REAL_COLOUR)
        picture[around] = ImageColor.getrgb(colour)
    return picture


def _grey(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(image * 255).astype(np.uint8)
