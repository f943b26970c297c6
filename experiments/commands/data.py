"""The command line of a site's own data: `endofed data …`.

Nothing but `find` ever shows a path or a name, not even that of the folder: what is
printed here gets copied into mails and tickets.
"""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from clients.data.archive import LAYOUTS
from clients.data.card import build_card
from clients.data.catalogue import Catalogue, FolderSpec
from clients.data.check import check_catalogue
from clients.data.errors import DataError
from clients.data.findings import CheckReport
from clients.data.folders import find
from clients.data.identity import SiteKey
from clients.data.scan import POLARITIES, scan_folder
from experiments.check_json import report_content
from experiments.check_report import show_report
from experiments.commands.bars import passing_bar
from experiments.commands.data_partition import partition_command
from experiments.commands.data_sheet import sheet_command
from experiments.commands.errors import user_errors
from experiments.commands.folder_options import (
    ALL_CLASSES,
    ClassesOption,
    IgnoreOption,
    KeyOption,
    LabelsOption,
    LayoutOption,
    PolarityOption,
    SkipOption,
    WidthOption,
    existing,
    label_map,
    one_of,
)
from experiments.commands.groups import command_group
from server.journal import write_json

ERRORS_FOUND = 1

data_app = command_group("Look at the data of a site before it trains.")

FolderArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder with the data of the site.")
]
PatientsOption = Annotated[int, typer.Option(min=1, help="Fewer are an error.")]
CardOption = Annotated[
    Path | None, typer.Option(help="Write the data card (JSON) to this file.")
]
AllOption = Annotated[
    bool, typer.Option("--all", help="Show every sequence and place.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON instead of tables.")
]


@data_app.command("check")
def check_command(
    folder: FolderArgument,
    layout: LayoutOption = "auto",
    classes: ClassesOption = ALL_CLASSES,
    labels: LabelsOption = None,
    ignore_label: IgnoreOption = None,
    line_width: WidthOption = "3px",
    min_patients: PatientsOption = FolderSpec.min_patients,
    skip_damaged: SkipOption = False,
    polarity: PolarityOption = "unknown",
    card: CardOption = None,
    key: KeyOption = None,
    show_all: AllOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read every frame and mask of a folder; say what is there and what is wrong."""
    with user_errors(private=True):
        spec = FolderSpec(
            folder=existing(folder),
            layout=one_of("--layout", layout, LAYOUTS),
            labels=label_map(classes, labels or [], ignore_label or [], line_width),
            min_patients=min_patients,
            skip_damaged=skip_damaged,
            device_polarity=one_of("--polarity", polarity, POLARITIES),
        )
        catalogue = scan_folder(spec, SiteKey.load_or_create(key))
        report = _check_with_progress(catalogue)
        if as_json:
            content = json.dumps(report_content(report), indent=2, ensure_ascii=False)
            sys.stdout.write(content + "\n")
        else:
            show_report(Console(), report, show_all=show_all)
        if card is not None:
            _write_card(card, report)
    if report.errors:
        raise typer.Exit(ERRORS_FOUND)


@data_app.command("find")
def find_command(
    folder: FolderArgument,
    pseudonym: Annotated[
        str, typer.Argument(metavar="ID", help="Of a sequence (S-…) or patient (P-…).")
    ],
    layout: LayoutOption = "auto",
    key: KeyOption = None,
) -> None:
    """Name the files behind a pseudonym, for the eyes of the site only."""
    with user_errors(private=True):
        spec = FolderSpec(
            folder=existing(folder), layout=one_of("--layout", layout, LAYOUTS)
        )
        paths = find(spec, SiteKey.load_or_create(key), pseudonym)
    Console(stderr=True).print(
        "[yellow]These are names of files: they stay at the site.[/]", soft_wrap=True
    )
    for path in paths:
        sys.stdout.write(_printable(path) + "\n")


def _check_with_progress(catalogue: Catalogue) -> CheckReport:
    with passing_bar(Console(stderr=True)) as progress:
        task = progress.add_task("Reading frames", total=None)
        return check_catalogue(
            catalogue,
            progress=lambda done, total: progress.update(
                task, completed=done, total=total
            ),
        )


def _write_card(file: Path, report: CheckReport) -> None:
    try:
        write_json(file, build_card(report))
    except OSError:
        raise DataError(
            "The data card cannot be written; name a file in a folder that exists and "
            "that this program's user may write to."
        ) from None
    Console(stderr=True).print("The data card is written.")


def _printable(path: Path) -> str:
    """Return a path in characters that every terminal takes, whatever it is called."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in str(path)
    )


data_app.command("partition")(partition_command)
data_app.command("sheet")(sheet_command)
