"""What every reader of annotations offers, whatever the format.

Readers turn a file into outlines with the labels that people gave them, or into a
finished mask. `clients.annotations.drawing` draws outlines on the pixel grid; a
`LabelMap` says which label is which class.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from clients.annotations.run_lengths import RunLengths
from models.classes import CLASS_NAMES


@dataclass(frozen=True)
class Outline:
    """One shape as it was drawn."""

    label: str = field(repr=False)  # as written by the site
    kind: Literal["polygon", "polyline", "mask"]
    # Polygon: one or more rings, filled even-odd; polyline: one or more lines.
    # (points, 2), x and y in px; (0, 0) is the corner of the top left pixel.
    # None where the shape has no area or line (a box of COCO, a point, a circle).
    points: tuple[NDArray[np.float64], ...] = field(default=(), repr=False)
    # Encoded: thousands of finished masks must fit in memory until they are drawn.
    mask: RunLengths | None = field(default=None, repr=False)


@dataclass(frozen=True)
class FrameOutlines:
    """What was drawn on one frame; no outlines = looked at, nothing there."""

    height: int | None  # px, of the annotated image; None where the file does not say
    width: int | None
    outlines: tuple[Outline, ...]


@dataclass(frozen=True)
class LabelMap:
    """What a site's labels and masks mean.

    Attributes:
        classes: What this site annotates; all other classes are unknown there.
        aliases: The site's label, casefolded -> class name, beside the class names.
        ignored: Labels, casefolded, that are skipped without a word.
        line_width: Width that polylines are drawn with.
        line_unit: "px" or "mm" (needs a known pixel spacing).
    """

    classes: tuple[str, ...] = CLASS_NAMES
    aliases: Mapping[str, str] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()
    line_width: float = 3.0
    line_unit: Literal["px", "mm"] = "px"


class Annotation(Protocol):
    """What is known of one frame; read only when asked for."""

    def layers(
        self, height: int, width: int, spacing_mm: float | None
    ) -> dict[str, NDArray[np.uint8]]:
        """Return the masks of a frame.

        Args:
            height: Of the frame, px.
            width: Of the frame, px.
            spacing_mm: Of a pixel of the frame, or None.

        Returns:
            Class name -> (height, width) in {0, 1}, for every class that the site
            declares; all zeros where the class is not in the frame.

        Raises:
            DataError: If the annotation is damaged or does not fit the frame; the
                text has no label, name, path or pixel value.
        """
        ...
