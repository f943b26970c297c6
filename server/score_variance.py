"""How much of the scores' variance is round, host, student and pair.

A score that only follows the round (learning rates fall, models become alike) or the
host (some sites teach odd models to everybody) says nothing about who should teach
whom; only what the pair of student and host explains can. Controls are left out.

Definition: sequential ("type I") sums of squares [Searle, Linear Models, 1971, ch. 6].
The scores are fitted by least squares on one-hot round; then host is added, student,
and the pair (student, host). A factor's share is what its step takes off the residual
sum of squares, over the total about the mean; "rest" is what the last fit leaves (the
pair's change from round to round). Shares add up to 1. Host and student share some
variance where not everybody teaches everybody, and that part counts for the host, which
comes first. With the diagonal missing even a complete graph has such a part.

What adds no freedom of its own is not made up but reported together with the factor
before it: in a ring every student has one host, so one "host+student+pair" is told; in
a single round pairs have one score each, so "pair+rest". The round of a single round
is left out and named.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from server.journal import Journal, read_events
from server.records import EdgeRecord
from server.series import edges_by_round

FACTORS = ("round", "host", "student", "pair")
REST = "rest"
FILE = "score_variance.json"
RANK_TOLERANCE = 1e-10  # of singular values of counts, which are whole numbers
LEAST_SPREAD = 1e-12  # scores closer than this are equal

Step = tuple[str, float, int]
"""Name of a factor, the sum of squares that it takes off, and its freedom."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoreVariance:
    """The scores of a run and where their variance comes from."""

    num_scores: int
    mean: float
    spread: float  # standard deviation over edges and rounds
    diagonal: float | None  # mean score of the controls
    shares: Mapping[str, float] = field(default_factory=dict)  # add up to 1, or empty
    freedom: Mapping[str, int] = field(default_factory=dict)  # degrees, as `shares`
    notes: tuple[str, ...] = ()  # what could not be told apart, one sentence each

    def to_json(self) -> dict[str, Any]:
        """Return the content of `score_variance.json` and of "emd" in a result."""
        return {
            "num_scores": self.num_scores,
            "mean": self.mean,
            "spread": self.spread,
            "diagonal": self.diagonal,
            "shares": dict(self.shares),
            "freedom": dict(self.freedom),
            "notes": list(self.notes),
        }


def write_score_variance(journal: Journal) -> dict[str, Any]:
    """Work out the variance of a run's scores, write it down and say it.

    Args:
        journal: The run folder, with the events of all rounds.

    Returns:
        What was written to `score_variance.json`; empty, with no file, where no
        teacher was scored.
    """
    found = find_score_variance(edges_by_round(read_events(journal.events_path)))
    if found is None:
        return {}
    content = found.to_json()
    journal.write_json(FILE, content)
    log.info("%s", describe(content))
    for note in found.notes:
        log.info("EMD scores: %s", note)
    return content


def find_score_variance(
    by_round: Mapping[int, Sequence[EdgeRecord]],
) -> ScoreVariance | None:
    """Split the variance of scores.

    Args:
        by_round: From `edges_by_round`.

    Returns:
        Mean, spread and shares; None if no edge has a score. No shares where there is
        no variance.
    """
    scored = [
        (number, edge, edge.score)
        for number, edges in by_round.items()
        for edge in edges
        if edge.score is not None and math.isfinite(edge.score)
    ]
    between = [one for one in scored if not one[1].is_control]
    own = [score for _, edge, score in scored if edge.is_control]
    if not between:
        return None
    scores = np.array([score for _, _, score in between])
    spread = float(scores.std())
    facts = {
        "num_scores": len(scores),
        "mean": float(scores.mean()),
        "spread": spread,
        "diagonal": float(np.mean(own)) if own else None,
    }
    if spread <= LEAST_SPREAD:
        note = "All scores are equal: there is no variance to explain."
        return ScoreVariance(**facts, notes=(note,))
    levels = {
        "round": [number for number, _, _ in between],
        "host": [edge.teacher for _, edge, _ in between],
        "student": [edge.student for _, edge, _ in between],
        "pair": [(edge.student, edge.teacher) for _, edge, _ in between],
    }
    return ScoreVariance(**facts, **_split(scores, levels))


def describe(content: Mapping[str, Any]) -> str:
    """Say in one line what the scores of a run were.

    Args:
        content: Of `ScoreVariance.to_json`.

    Returns:
        Mean, spread, shares and diagonal.
    """
    parts = [f"EMD score {content['mean']:.3f} (spread {content['spread']:.3f})"]
    if shares := content.get("shares"):
        told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        parts.append(f"variance by {told}")
    if (diagonal := content.get("diagonal")) is not None:
        parts.append(f"diagonal {diagonal:.3f}")
    return "; ".join(parts)


def flatten(content: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the numbers by names such as "emd/variance/host", for MLflow.

    Args:
        content: Of `ScoreVariance.to_json`, or empty.
    """
    names = {"mean": "mean_score", "spread": "spread", "diagonal": "mean_diagonal"}
    numbers = {f"emd/{names[key]}": content[key] for key in names if key in content}
    shares = content.get("shares", {})
    return numbers | {f"emd/variance/{name}": share for name, share in shares.items()}


def _split(scores: np.ndarray, levels: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Fit one factor after the other; join what adds no freedom to the one before."""
    centred = scores - scores.mean()
    left, rank = float(centred @ centred), 1
    total = left
    steps: list[Step] = []
    columns: list[np.ndarray] = []
    notes = []
    for name in FACTORS:
        if len(set(levels[name])) == 1:
            notes.append(f"There is only one {name}: no share of the variance is its.")
            continue
        columns.append(_codes(levels[name]))
        residual, found = _fit(centred, columns)
        steps.append((name, max(left - residual, 0.0), found - rank))
        left, rank = min(residual, left), found
    steps.append((REST, left, len(scores) - rank))
    told = _join_confounded(steps)
    notes += [
        f"{name.replace('+', ', ')} cannot be told apart in these edges and rounds."
        for name, _, _ in told
        if "+" in name
    ]
    return {
        "shares": {name: squares / total for name, squares, _ in told},
        "freedom": {name: degrees for name, _, degrees in told},
        "notes": tuple(notes),
    }


def _join_confounded(steps: Sequence[Step]) -> list[Step]:
    """Join what adds no freedom to what stands before it."""
    told: list[Step] = []
    for name, squares, degrees in steps:
        if degrees == 0 and told:
            before = told.pop()
            told.append((f"{before[0]}+{name}", before[1] + squares, before[2]))
        else:
            told.append((name, squares, degrees))
    return told


def _codes(values: Sequence[Any]) -> np.ndarray:
    """Number the levels of a factor."""
    numbers = {value: index for index, value in enumerate(sorted(set(values)))}
    return np.array([numbers[value] for value in values])


def _fit(centred: np.ndarray, columns: Sequence[np.ndarray]) -> tuple[float, int]:
    """Fit one-hot factors by least squares.

    The normal equations are solved: of one-hot factors they are counts, as small as
    the levels are few, where the design would have a row for every score.

    Args:
        centred: (scores,), with mean 0.
        columns: (scores,) level of each score, for every factor.

    Returns:
        Residual sum of squares, and the rank, the constant among it.
    """
    sizes = [int(column.max()) + 1 for column in columns]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    places = [column + start for column, start in zip(columns, starts, strict=False)]
    gram = np.zeros((starts[-1], starts[-1]))
    sums = np.zeros(starts[-1])
    for first in places:
        np.add.at(sums, first, centred)
        for second in places:
            np.add.at(gram, (first, second), 1.0)
    coefficients, _, rank, _ = np.linalg.lstsq(gram, sums, rcond=RANK_TOLERANCE)
    return max(float(centred @ centred - coefficients @ sums), 0.0), int(rank)
