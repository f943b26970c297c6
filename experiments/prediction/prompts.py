"""Boxes and points that a user gives, from pixels of the original frame to SAM's.

Everywhere here x comes before y and (0, 0) is the centre of the top left pixel, as in
SAM; `Placement` counts from that pixel's corner, half a pixel away.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clients.data.errors import DataError
from clients.data.placement import Placement
from models.sam_prompts import Prompts

HALF_PIXEL = 0.5
LABELS = (0, 1)


@dataclass(frozen=True)
class PixelPrompts:
    """Prompts for every frame of the inputs, in pixels of the original frame."""

    box: tuple[float, float, float, float] | None = None  # left, top, right, bottom
    points: tuple[tuple[float, float], ...] = ()  # x, y
    labels: tuple[int, ...] = ()  # 1 = device, 0 = background

    @classmethod
    def parse(cls, box: str, points: str) -> "PixelPrompts | None":
        """Read the options `--box` and `--points`.

        Args:
            box: "left,top,right,bottom" or "".
            points: "x,y,label;x,y,label" or "".

        Returns:
            The prompts; None without any.

        Raises:
            DataError: If an option cannot be read.
        """
        if not box and not points:
            return None
        edges = _numbers("--box", box, 4) if box else None
        if edges and not (edges[0] < edges[2] and edges[1] < edges[3]):
            raise DataError("--box wants left < right and top < bottom, in this order.")
        triples = [
            _numbers("--points", part, 3) for part in points.split(";") if part.strip()
        ]
        if any(label not in LABELS for _, _, label in triples):
            raise DataError("--points wants labels of 1 (device) or 0 (background).")
        return cls(
            box=None if edges is None else (edges[0], edges[1], edges[2], edges[3]),
            points=tuple((x, y) for x, y, _ in triples),
            labels=tuple(int(label) for _, _, label in triples),
        )

    def place(self, placements: list[Placement]) -> Prompts:
        """Move the prompts to the network's input.

        Args:
            placements: Of the frames of a batch.

        Returns:
            One set of prompts a frame; a box is cut at the border of the input.

        Raises:
            DataError: If a prompt lies outside the original frame.
        """
        for placement in placements:
            self._check_inside(placement)
        boxes = points = labels = None
        if self.box is not None:
            corners = np.reshape(self.box, (2, 2))
            boxes = torch.stack(
                [
                    _moved(corners, one).clamp(0, one.size - 1).flatten()
                    for one in placements
                ]
            )
        if self.points:
            wanted = np.array(self.points)
            points = torch.stack([_moved(wanted, one) for one in placements])
            labels = torch.tensor(self.labels).repeat(len(placements), 1)
        return Prompts(points=points, point_labels=labels, boxes=boxes)

    def _check_inside(self, placement: Placement) -> None:
        places = [*self.points]
        if self.box is not None:
            places += [self.box[:2], self.box[2:]]
        if not all(
            -HALF_PIXEL <= x <= placement.width - HALF_PIXEL
            and -HALF_PIXEL <= y <= placement.height - HALF_PIXEL
            for x, y in places
        ):
            raise DataError(
                "a prompt lies outside the frame of "
                f"{placement.width}×{placement.height} px; give original pixels, x "
                "before y"
            )


def _moved(points: np.ndarray, placement: Placement) -> Tensor:
    placed = placement.points(points + HALF_PIXEL) - HALF_PIXEL
    return torch.from_numpy(placed).float()


def _numbers(option: str, text: str, count: int) -> tuple[float, ...]:
    """Read numbers with commas between.

    Raises:
        DataError: If they are not as many finite numbers.
    """
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count or not all(map(math.isfinite, values)):
        raise DataError(f"{option} wants {count} numbers with commas between.")
    return values
