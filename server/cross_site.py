"""Every silo's own model on every silo's test frames, beside the accumulated one.

The diagonal is a model at home; the rest of its row says what it is worth elsewhere, a
column how hard a site's frames are for models that never saw them. It costs a message
and an evaluation for each pair, so a run measures it only when told to
(`evaluation.cross-site`). It comes after the checkpoint: what fails here leaves a gap
in the matrix and costs no result.
"""

import csv
import io
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from flwr.app import Message

from server.attendance import TooFewSites
from server.cross_site_figure import draw_cross_site
from server.exchange import AttendedGrid
from server.journal import Journal
from server.records import Metrics
from server.score_names import headline_of, name_scores
from server.state_files import kept_silos
from server.tracking import Tracker
from strategies import messages
from strategies.accumulation import State
from strategies.evaluation import Evaluation
from strategies.replies import reply_evaluation

CROSS_SITE_JSON = "cross_site.json"
CROSS_SITE_CSV = "cross_site.csv"
CROSS_SITE_FIGURE = "cross_site.png"
FOUNDATION = "foundation"

log = logging.getLogger(__name__)

Row = Mapping[str, Evaluation]
"""What one model got, by the site whose frames it was measured on."""


@dataclass(frozen=True)
class CrossSite:
    """The matrix: evaluations by the model's owner and by site."""

    silos: Mapping[str, Row]
    foundation: Row

    def values(self) -> dict[str, dict[str, float | None]]:
        """The headline score of every silo's model, by site; None where none is."""
        return {owner: _values(row) for owner, row in self.silos.items()}

    @property
    def metric(self) -> str:
        """Name of the score in the matrix; the CSV has every score that is followed."""
        return headline_of(self.foundation)

    def summary(self) -> Metrics:
        """Mean score at home and abroad, and of the accumulated model."""
        pairs = [
            (owner == site, value)
            for owner, row in self.values().items()
            for site, value in row.items()
            if value is not None
        ]
        found = {
            "home": [value for is_home, value in pairs if is_home],
            "abroad": [value for is_home, value in pairs if not is_home],
            FOUNDATION: [v for v in _values(self.foundation).values() if v is not None],
        }
        return {name: fmean(known) if known else None for name, known in found.items()}

    def write(self, journal: Journal, *, round_number: int) -> list[Path]:
        """Write the matrix into the run folder, as JSON and CSV.

        Args:
            journal: The run folder.
            round_number: After which round the models were kept.

        Returns:
            The paths of both files.
        """
        content = {
            "metric": self.metric,
            "round": round_number,
            "values": self.values(),
            FOUNDATION: _values(self.foundation),
            "summary": self.summary(),
        }
        return [
            journal.write_json(CROSS_SITE_JSON, content),
            journal.write_text(CROSS_SITE_CSV, self._to_csv()),
        ]

    def _to_csv(self) -> str:
        rows = [
            {"kind": kind, "model": owner, "hospital": site, "frames": one.num_frames}
            | {
                name.removeprefix("test/"): value
                for name, value in name_scores("test", one).items()
            }
            for kind, owner, row in [
                *(("silo", owner, row) for owner, row in self.silos.items()),
                (FOUNDATION, FOUNDATION, self.foundation),
            ]
            for site, one in row.items()
        ]
        stream = io.StringIO()
        columns = list(dict.fromkeys(column for row in rows for column in row))
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return stream.getvalue()


def measure_cross_site(
    grid: AttendedGrid,
    silos: Iterable[tuple[str, State]],
    foundation: Row,
    *,
    round_number: int,
) -> CrossSite:
    """Send every silo's model to every site and let it measure its test frames.

    Args:
        grid: Knows the hospitals.
        silos: Names and models, one after another; only one is held at a time.
        foundation: What the final test found; who did not answer it is not asked.
        round_number: After which round the models were kept.

    Returns:
        The matrix. A site that fails is left out from then on: every model more would
        wait for it as long again.
    """
    asked = {site: node for site, node in grid.roster.items() if site in foundation}
    found: dict[str, Row] = {}
    for silo, state in silos:
        if not asked:
            break
        arrays = messages.from_state(state)
        requests = [
            Message(
                messages.pack_job(
                    round_number=round_number, arrays=arrays, split="test"
                ),
                node_id,
                messages.EVALUATE,
            )
            for node_id in asked.values()
        ]
        row: dict[str, Evaluation] = {}
        try:
            for reply in grid.stream(requests):
                row[grid.name_of(reply)] = reply_evaluation(reply)
        except TooFewSites as error:  # its text names no path and no data
            log.warning("The cross-site matrix stays incomplete. %s", error)
        found[silo] = row
        asked = {site: node for site, node in asked.items() if site in row}
    return CrossSite(found, foundation)


def run_cross_site(
    grid: AttendedGrid,
    journal: Journal,
    tracker: Tracker,
    foundation: Row,
    *,
    round_number: int,
) -> CrossSite | None:
    """Measure the matrix of the silos that a run has kept, write it down and draw it.

    Whatever fails here is a warning: the run has its checkpoint by now.

    Args:
        grid: Knows the hospitals.
        journal: The run folder.
        tracker: MLflow, or nothing.
        foundation: What the final test found.
        round_number: After which round the models were kept.

    Returns:
        The matrix, or None: it failed, or silos of this strategy have no own models.
    """
    try:
        return _run(grid, journal, tracker, foundation, round_number)
    except Exception as error:  # noqa: BLE001 - the checkpoint is safe
        log.warning("The cross-site matrix stops (%s).", type(error).__name__)
        return None


def _run(
    grid: AttendedGrid,
    journal: Journal,
    tracker: Tracker,
    foundation: Row,
    round_number: int,
) -> CrossSite | None:
    silos = kept_silos(journal.folder)
    matrix = measure_cross_site(grid, silos, foundation, round_number=round_number)
    if not matrix.silos:
        log.warning(
            "No cross-site matrix: the silos of this strategy have no models of their "
            "own. Set strategy to fedefm, or evaluation.cross-site to false."
        )
        return None
    tracker.log_files(matrix.write(journal, round_number=round_number), "tables")
    means = matrix.summary()
    log.info(
        "Silos' own models, mean %s at home %s, abroad %s; the accumulated one %s",
        matrix.metric,
        *(_rounded(means[name]) for name in ("home", "abroad", FOUNDATION)),
    )
    path = journal.folder / "figures" / CROSS_SITE_FIGURE
    values = matrix.values(), _values(foundation)
    draw_cross_site(*values, path, metric=matrix.metric)
    tracker.log_files([path], "figures")
    return matrix


def _values(row: Row) -> dict[str, float | None]:
    name = f"test/{headline_of(row)}"
    return {site: name_scores("test", one).get(name) for site, one in row.items()}


def _rounded(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
