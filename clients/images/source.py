"""What every reader of image files offers, whatever the format.

A source is one file with one or more grey frames of one sequence. It says what it
knows of its pixels; whom they show stays in `Identity`, which only
`clients.data.identity` may look at, to hash it.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SourceFacts:
    """What a file says of its pixels; safe to show anyone."""

    num_frames: int
    height: int  # px
    width: int  # px
    bits: int  # stored bits per sample, 1 to 64
    modality: str = ""  # DICOM modality XA, RF, DX, CR ...; "" where there is none
    spacing_mm: float | None = None  # of a pixel, where the patient is if that is known
    spacing_origin: str = ""  # how spacing_mm came about; "" where it is None
    frame_time_ms: float | None = None  # between frames
    burned_in: bool | None = None  # text burned into the pixels; None = nobody says


@dataclass(frozen=True)
class Identity:
    """Whose frames these are, as the file says it. Never shown, only hashed."""

    patient: str = field(repr=False)
    sequence: str = field(repr=False)


class ImageSource(Protocol):
    """One file with frames, open for reading; frames are decoded one by one."""

    facts: SourceFacts
    identity: Identity | None  # None where the format has no header that tells

    def read_frame(self, index: int) -> NDArray[np.number]:
        """Decode one frame.

        Args:
            index: From 0 to `facts.num_frames` - 1.

        Returns:
            (height, width) grey values, larger = brighter on the display, any real
            type and range.

        Raises:
            DataError: If the frame is damaged or no grey or RGB image; the text has
                no name, path or pixel value.
        """
        ...
