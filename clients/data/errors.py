"""The one error of the data room."""


class DataError(ValueError):
    """Frames, masks or a sites file are not what they should be.

    The message is safe to show anyone: it holds no patient name, no file name or path
    and no pixel values. Frames and files are named by their number in sorted order.
    """
