"""The test at the end of a run: the hospitals measure everything on their test frames.

The sums of all hospitals are added before anything is divided. Compact scores go into
`result.json` and the model's card; every metric, with the numbers of frames, goes into
`test_metrics.csv` and `test_metrics.json`, and to MLflow.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flwr.app import ArrayRecord, Message

from server.exchange import AttendedGrid
from server.journal import TEST_TABLE_CSV, TEST_TABLE_JSON, Journal
from server.metric_table import metric_rows, to_csv
from server.records import Metrics
from server.score_names import name_all_scores, name_scores, summarise
from strategies import messages
from strategies.evaluation import Evaluation, join_evaluations
from strategies.replies import reply_evaluation


@dataclass(frozen=True)
class FinalTest:
    """What the hospitals that answered measured, by name."""

    evaluations: Mapping[str, Evaluation]

    @property
    def scores(self) -> dict[str, Metrics]:
        """The compact scores by hospital."""
        return {
            site: name_scores("test", one) for site, one in self.evaluations.items()
        }

    @property
    def overall(self) -> Metrics:
        """The compact scores of all frames, and how fair they are."""
        return summarise("test", self.evaluations)

    @property
    def all_scores(self) -> dict[str, Metrics]:
        """Every score by hospital."""
        return {
            site: name_all_scores("test", one) for site, one in self.evaluations.items()
        }

    @property
    def all_overall(self) -> Metrics:
        """Every score of all frames."""
        return name_all_scores("test", join_evaluations([*self.evaluations.values()]))

    def write_tables(self, journal: Journal) -> list[Path]:
        """Write the full table into the run folder, as CSV and JSON.

        Args:
            journal: The run folder.

        Returns:
            The paths of both files.
        """
        rows = metric_rows(self.evaluations)
        return [
            journal.write_text(TEST_TABLE_CSV, to_csv(rows)),
            journal.write_json(TEST_TABLE_JSON, {"rows": rows}),
        ]


def run_final_test(
    grid: AttendedGrid, theta: ArrayRecord, *, round_number: int
) -> FinalTest:
    """Ask every hospital to measure a model on its test frames.

    Args:
        grid: Knows the hospitals.
        theta: The final model.
        round_number: The last round.

    Returns:
        What those measured that answered.

    Raises:
        TooFewSites: If too few did.
    """
    requests = [
        Message(
            messages.pack_job(round_number=round_number, arrays=theta, split="test"),
            node_id,
            messages.EVALUATE,
        )
        for node_id in grid.get_node_ids()
    ]
    return FinalTest(
        {
            grid.name_of(reply): reply_evaluation(reply)
            for reply in grid.send_and_receive(requests)
        }
    )
