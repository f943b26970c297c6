"""The options of commands that read a hospital's folder, and what they mean."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from clients.annotations.annotation import LabelMap
from clients.data.errors import DataError
from models.classes import CLASS_NAMES

ALL_CLASSES = ",".join(CLASS_NAMES)

LayoutOption = Annotated[
    str, typer.Option(help="auto, pairs (images and videos) or dicom.")
]
KeyOption = Annotated[
    Path | None,
    typer.Option(help="Key file of the site. Default: $ENDOFED_KEY, else made once."),
]
ClassesOption = Annotated[
    str, typer.Option(help="What is annotated, as catheter,guidewire.")
]
LabelsOption = Annotated[
    list[str] | None,
    typer.Option(metavar="LABEL=CLASS", help="What a label means; repeatable."),
]
IgnoreOption = Annotated[
    list[str] | None, typer.Option(help="Label to leave out; repeatable.")
]
WidthOption = Annotated[
    str, typer.Option(help="Width of drawn lines, as 3px or 1.2mm.")
]
SkipOption = Annotated[
    bool, typer.Option("--skip-damaged", help="Leave damaged frames out.")
]
PolarityOption = Annotated[
    str, typer.Option(help="What devices are at this site: dark or bright.")
]


def existing(folder: Path) -> Path:
    """Return a folder that exists.

    Raises:
        DataError: If it does not; it is not named.
    """
    if not folder.is_dir():
        raise DataError("The folder that you named does not exist.")
    return folder


def one_of(option: str, value: str, choices: Sequence[str]) -> str:
    """Return a word that is one of those an option may be.

    Raises:
        DataError: If it is not; it is not quoted.
    """
    if value not in choices:
        raise DataError(f"{option} must be one of {', '.join(choices)}.")
    return value


def label_map(
    classes: str, labels: Sequence[str], ignored: Sequence[str], line_width: str
) -> LabelMap:
    """Read the options that say what labels and lines mean.

    Raises:
        DataError: If one of them is wrong; it is not quoted.
    """
    names = tuple(name.strip() for name in classes.split(","))
    if not set(names) <= set(CLASS_NAMES) or len(set(names)) < len(names):
        raise DataError(
            f"--classes wants different ones of {', '.join(CLASS_NAMES)} with commas "
            "between."
        )
    aliases = {}
    for text in labels:
        label, _, name = text.rpartition("=")
        if not label or name not in names:
            raise DataError(
                f"--labels wants LABEL=CLASS, where CLASS is one of {', '.join(names)}."
            )
        aliases[label.casefold()] = name
    width = re.fullmatch(r"(\d+\.?\d*|\.\d+)(px|mm)", line_width)
    if width is None or float(width[1]) == 0:
        raise DataError("--line-width wants a number with px or mm, as 3px or 1.2mm.")
    return LabelMap(
        classes=names,
        aliases=aliases,
        ignored=frozenset(label.casefold() for label in ignored),
        line_width=float(width[1]),
        line_unit="px" if width[2] == "px" else "mm",
    )
