"""Puts the page together and writes it."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from experiments.report.formats import moment
from experiments.report.markup import Section
from experiments.report.reading import read_run
from experiments.report.run import Run
from experiments.report.sections.communication import communication_section
from experiments.report.sections.cross_site import cross_site_section
from experiments.report.sections.curves import curves_section
from experiments.report.sections.failures import failures_section
from experiments.report.sections.fairness import fairness_section
from experiments.report.sections.fewshot import fewshot_section
from experiments.report.sections.gallery import gallery_section
from experiments.report.sections.graph import graph_section
from experiments.report.sections.headline import headline_section
from experiments.report.sections.reproduce import reproduce_section
from experiments.report.sections.settings import settings_section
from experiments.report.sections.teachers import teachers_section
from experiments.report.sections.test_table import test_section
from strategies.settings import SettingsError

REPORT_FILE = "report.html"
TEMPLATE = "page.html"
STYLE = "style.css"

SECTIONS: tuple[Callable[[Run], Section | None], ...] = (
    headline_section,
    graph_section,
    curves_section,
    teachers_section,
    cross_site_section,
    fairness_section,
    communication_section,
    test_section,
    fewshot_section,
    gallery_section,
    settings_section,
    failures_section,
    reproduce_section,
)
"""In the order of the page; one that has nothing to show is left out."""


def write_report(folder: Path, output: Path | None = None) -> Path:
    """Write the page of a run.

    Args:
        folder: The run folder; it may have failed or still go on.
        output: HTML file to write or replace; its folder is made if missing. None is
            `report.html` in the run folder.

    Returns:
        Path of the page: one file that needs no other and no network.

    Raises:
        SettingsError: If the folder holds no run, its record is damaged, or the page
            cannot be written; then an earlier page stays as it was.
    """
    page = make_page(read_run(folder))
    path = output or folder / REPORT_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(path, page)
    except OSError as error:
        raise SettingsError(
            f"The page cannot be written ({error.strerror}). Name another file with "
            "--output."
        ) from None
    return path


def make_page(run: Run) -> str:
    """Return the HTML of a run; the same run gives the same text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # slow to import

    place = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(place),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = [made for make in SECTIONS if (made := make(run)) is not None]
    strategy = run.settings.get("strategy", "run")
    return environment.get_template(TEMPLATE).render(
        title=f"EndoFed: {strategy}, {len(run.site_names)} sites",
        when=moment(run.times[0]),
        style=(place / STYLE).read_text(encoding="utf-8"),
        sections=sections,
    )


def _write_whole(path: Path, text: str) -> None:
    """Write through a temporary neighbour, so that no page is ever half."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)  # as any other file; temporary ones are private
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
