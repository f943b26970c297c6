"""The options of `endofed predict` and how their texts are read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from clients.data.errors import DataError
from experiments.prediction.outputs import KINDS
from experiments.prediction.runner import ORIGINAL

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Checkpoint (.safetensors), official SAM file (.pth), models:/NAME@ALIAS "
        "or random.",
    ),
]
InputsArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="INPUT...", help="Images, DICOM files, videos, arrays or folders."
    ),
]
OutputOption = Annotated[Path | None, typer.Option(help="Folder, new or empty.")]
WriteOption = Annotated[str, typer.Option(help=f"Some of {','.join(KINDS)}.")]
MasksOption = Annotated[
    str,
    typer.Option(
        help="PNG masks: classes, one file each; labels, one file with 1 = catheter, "
        "2 = guidewire, 3 = both."
    ),
]
KeepNamesOption = Annotated[
    bool,
    typer.Option(
        "--keep-names", help="Call results after the files, which may name patients."
    ),
]
KeepIdentityOption = Annotated[
    bool,
    typer.Option(
        "--keep-identity",
        help="Name the patient in DICOM Segmentations, as a PACS may want; else these "
        "fields are empty.",
    ),
]
ThresholdOption = Annotated[
    float, typer.Option(help="A pixel is a device's above this probability.")
]
TileOption = Annotated[
    str,
    typer.Option(
        help="Side of the prepared frame, px, over which the network slides: auto (as "
        "in training), original (the frame's longer side) or a number."
    ),
]
PolarityOption = Annotated[
    str, typer.Option(help="What devices are at this site: dark or bright.")
]
BoxOption = Annotated[
    str, typer.Option(help="Prompt for SAM: left,top,right,bottom in original px.")
]
PointsOption = Annotated[
    str,
    typer.Option(help="Prompts for SAM: x,y,label;…, label 1 = device, 0 = not."),
]
StreamOption = Annotated[
    str,
    typer.Option(
        help="Camera number, a video played at its rate, or - for raw 8-bit grey "
        "frames on standard input."
    ),
]
StreamSizeOption = Annotated[
    str, typer.Option(metavar="WxH", help="Of frames of a pipe.")
]
FrameLimitOption = Annotated[
    int, typer.Option(min=0, help="End a stream after so many predictions; 0 = never.")
]


def prepared_size(tile: str, *, network_size: int, usual: int) -> int:
    """Read the option `--tile`.

    Args:
        tile: What the user wrote.
        network_size: Side of what the network takes, px.
        usual: Side of prepared frames in training, px.

    Returns:
        Side of prepared frames, px, or `ORIGINAL`.

    Raises:
        DataError: If it is none of what it may be.
    """
    if tile == "auto":
        return usual
    if tile == "original":
        return ORIGINAL
    if not tile.isdecimal() or int(tile) < network_size:
        raise DataError(
            "--tile must be auto, original or a number of px, at least the network's "
            f"{network_size}."
        )
    return int(tile)


def output_kinds(text: str, known: Sequence[str]) -> frozenset[str]:
    """Read the option `--write`.

    Args:
        text: What the user wrote.
        known: What there is.

    Returns:
        What is wanted.

    Raises:
        DataError: If nothing, or something else, is wanted.
    """
    kinds = frozenset(part.strip() for part in text.split(",") if part.strip())
    if not kinds or not kinds <= set(known):
        raise DataError(f"--write must be some of {','.join(known)}.")
    return kinds


def one_of(option: str, value: str, choices: Sequence[str]) -> str:
    """Check an option with few values.

    Args:
        option: Its name.
        value: What the user wrote.
        choices: What it may be.

    Returns:
        The value.

    Raises:
        DataError: If it is none of them.
    """
    if value not in choices:
        raise DataError(f"{option} must be one of {', '.join(choices)}.")
    return value
