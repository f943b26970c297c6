"""What no image can be, and which frames there are.

A damaged header can ask for any amount of memory, so it is checked first.
"""

from clients.data.errors import DataError

MAX_PIXELS = 2**28
"""Of one frame; the largest X-ray detectors have about 2**24."""


def check_size(height: int, width: int, num_frames: int) -> None:
    """Refuse sizes that no frame has.

    Args:
        height: Of a frame, px.
        width: Of a frame, px.
        num_frames: In the file.

    Raises:
        DataError: If one is below 1 or a frame has more than `MAX_PIXELS`.
    """
    if min(height, width, num_frames) < 1 or height * width > MAX_PIXELS:
        raise DataError(
            "has an impossible image size or number of frames in its header; export "
            "it again"
        )


def check_index(index: int, num_frames: int) -> None:
    """Refuse the number of a frame that is not there.

    Args:
        index: Counted from 0.
        num_frames: In the file.

    Raises:
        DataError: If it is below 0 or not below the number of frames.
    """
    if not 0 <= index < num_frames:
        raise DataError(
            f"has {num_frames} frame(s), but frame {index + 1} was asked for"
        )
