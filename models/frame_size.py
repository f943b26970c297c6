"""The one check of a frame's side that networks with several depths share."""


def check_frame_size(image_size: int, *, multiple: int, smallest: int) -> None:
    """Refuse frames that a network cannot halve down to its deepest stage.

    Args:
        image_size: Side of the frames, px.
        multiple: How much smaller the deepest stage is.
        smallest: Least side, px: below it the deepest stage would normalise a single
            pixel, which fails in training.

    Raises:
        ValueError: If the side is no multiple or too small.
    """
    if image_size < smallest or image_size % multiple:
        raise ValueError(
            f"image_size must be a multiple of {multiple}, at least {smallest}, got "
            f"{image_size}."
        )
