"""Points, boxes and masks that may be given to SAM, for a batch of images.

`segment_anything` takes many prompts of one image; training wants one set of prompts
for each image of a batch. Coordinates are pixels of the network's input, x before y,
(0, 0) the centre of the top left pixel, as in the original.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Prompts:
    """One set of prompts per image; every part may be absent.

    Attributes:
        points: (batch, count, 2), px.
        point_labels: (batch, count); 1 = device, 0 = background, -1 = padding.
        boxes: (batch, 4): left, top, right, bottom, px.
        masks: (batch, 1, size / 4, size / 4), logits of an earlier mask.

    Raises:
        ValueError: If parts do not fit each other.
    """

    points: Tensor | None = None
    point_labels: Tensor | None = None
    boxes: Tensor | None = None
    masks: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse parts that do not fit each other."""
        if (self.points is None) != (self.point_labels is None):
            raise ValueError("points and point_labels come together, got one of them.")
        if self.points is not None and self.point_labels is not None:
            wanted = (*self.point_labels.shape, 2)
            if self.point_labels.ndim != 2 or tuple(self.points.shape) != wanted:
                raise ValueError(
                    "points (batch, count, 2) and point_labels (batch, count) were "
                    f"wanted, got {tuple(self.points.shape)} and "
                    f"{tuple(self.point_labels.shape)}."
                )
        if self.boxes is not None and tuple(self.boxes.shape[1:]) != (4,):
            raise ValueError(
                f"boxes must be (batch, 4), got {tuple(self.boxes.shape)}."
            )
        sizes = {len(part) for part in self._parts()}
        if len(sizes) > 1:
            raise ValueError(f"All prompts need one batch size, got {sorted(sizes)}.")

    def pair(self) -> tuple[Tensor, Tensor] | None:
        """Return points and labels as the original prompt encoder takes them."""
        if self.points is None or self.point_labels is None:
            return None
        return self.points, self.point_labels

    def check_batch(self, batch: int) -> None:
        """Refuse to prompt another number of images.

        Args:
            batch: Number of images.

        Raises:
            ValueError: If the prompts are for another number.
        """
        for part in self._parts():
            if len(part) != batch:
                raise ValueError(
                    f"Prompts for {batch} image(s) were wanted, got {len(part)}."
                )

    def _parts(self) -> list[Tensor]:
        parts = (self.points, self.boxes, self.masks)
        return [part for part in parts if part is not None]


def boxes_around(masks: Tensor, margin_px: float = 0.0) -> Tensor:
    """Return the bounding boxes of masks.

    Args:
        masks: (batch, height, width); nonzero = device.
        margin_px: By which a box is larger on every side; cut at the image's border.

    Returns:
        (batch, 4) float32; the whole image where a mask is empty.
    """
    height, width = masks.shape[1:]
    boxes = torch.tensor([[0.0, 0.0, width - 1.0, height - 1.0]]).repeat(len(masks), 1)
    for index, mask in enumerate(masks):
        rows, columns = torch.nonzero(mask, as_tuple=True)
        if len(rows):
            low = torch.stack([columns.min(), rows.min()]) - margin_px
            high = torch.stack([columns.max(), rows.max()]) + margin_px
            limit = torch.tensor([width - 1.0, height - 1.0])
            boxes[index, :2] = low.clamp(min=0).cpu()
            boxes[index, 2:] = torch.minimum(high.cpu().float(), limit)
    return boxes.to(masks.device)
