"""Series of numbers over the rounds, taken from the events of `metrics.jsonl`.

Pure functions between `server.journal.read_events` and whatever shows a run. Unknown
events are passed over, missing numbers are NaN, nothing is filled in.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from server.records import EdgeRecord

Event = Mapping[str, Any]
Series = tuple[list[int], list[float]]
"""Rounds, and the number of each; NaN where it is missing."""

EdgeSeries = dict[tuple[str, str], list[float]]
"""(student, teacher) -> the number of each round; NaN where it is missing."""

EdgesByRound = dict[int, list[EdgeRecord]]

EdgeNumber = Literal["score", "weight", "gap", "teacher_loss", "num_bytes"]


def round_events(events: Sequence[Event]) -> list[Event]:
    """Return the events that end a round, in the order of the file."""
    return [event for event in events if event.get("event") == "round"]


def site_names(events: Sequence[Event]) -> list[str]:
    """Return all sites that were announced or reported, sorted."""
    names: set[str] = set()
    for event in events:
        if event.get("event") in ("start", "round"):
            names.update(event.get("sites", ()))
    return sorted(names)


def site_series(events: Sequence[Event], site: str, metric: str) -> Series:
    """Return a metric of a site over the rounds.

    Args:
        events: From `read_events`.
        site: Its name.
        metric: Such as "val/dice".

    Returns:
        The rounds in which anybody has a number, and the site's number of each, NaN
        where others have one and it has not.
    """
    rounds = _rounds_with(events, metric)
    values = [_number(event.get("sites", {}).get(site, {}), metric) for event in rounds]
    return [event["round"] for event in rounds], values


def overall_series(events: Sequence[Event], metric: str) -> Series:
    """Return a global metric over the rounds, as `site_series` does for a site."""
    rounds = _rounds_with(events, metric)
    values = [_number(event.get("global", {}), metric) for event in rounds]
    return [event["round"] for event in rounds], values


def _rounds_with(events: Sequence[Event], metric: str) -> list[Event]:
    """Leave out rounds after which nobody measured, so that lines go on over them."""
    return [
        event
        for event in round_events(events)
        if metric in event.get("global", {})
        or any(metric in site for site in event.get("sites", {}).values())
    ]


def last_value(series: Series) -> tuple[int, float] | None:
    """Return the last round with a number, and that number; None without any."""
    known = [
        (step, value) for step, value in zip(*series, strict=True) if value == value
    ]
    return known[-1] if known else None


def worst_site(events: Sequence[Event], metric: str = "val/dice") -> str | None:
    """Return the site with the lowest number in the last round that has one.

    Args:
        events: From `read_events`.
        metric: Higher is better.

    Returns:
        Its name, the first by name among equals; None without any number.
    """
    for event in reversed(round_events(events)):
        sites = event.get("sites", {})
        known: dict[str, float] = {
            site: value
            for site in sorted(sites)
            if not math.isnan(value := _number(sites[site], metric))
        }
        if known:
            return min(known, key=lambda site: known[site])
    return None


def edges_by_round(events: Sequence[Event]) -> EdgesByRound:
    """Return the edges of every round that had some.

    Args:
        events: From `read_events`.

    Returns:
        Round -> edges, controls among them, sorted by student and teacher.
    """
    return {
        event["round"]: sorted(
            (EdgeRecord.from_json(edge) for edge in event["edges"]),
            key=lambda edge: (edge.student, edge.teacher),
        )
        for event in round_events(events)
        if event.get("edges")
    }


def without_controls(by_round: Mapping[int, Sequence[EdgeRecord]]) -> EdgesByRound:
    """Return the edges between two, without the students' own controls.

    Args:
        by_round: From `edges_by_round`.

    Returns:
        The rounds that still have an edge.
    """
    kept = {
        number: [edge for edge in edges if not edge.is_control]
        for number, edges in by_round.items()
    }
    return {number: edges for number, edges in kept.items() if edges}


def mean_edges(by_round: Mapping[int, Sequence[EdgeRecord]]) -> list[EdgeRecord]:
    """Return every edge once, with its mean score and weight over the rounds.

    Args:
        by_round: From `edges_by_round`.

    Returns:
        The edges, sorted; bytes are added up, gap and loss of the teacher left out.
    """
    scores, weights = edge_series(by_round, "score"), edge_series(by_round, "weight")
    bytes_of = edge_series(by_round, "num_bytes")
    return [
        EdgeRecord(
            *pair,
            score=_known(_mean(scores[pair])),
            weight=_known(_mean(weights[pair])),
            num_bytes=int(sum(n for n in bytes_of[pair] if not math.isnan(n))),
        )
        for pair in scores
    ]


def mean_scores(
    by_round: Mapping[int, Sequence[EdgeRecord]],
) -> dict[tuple[str, str], float]:
    """Return the mean score of every edge over the rounds that have it.

    Args:
        by_round: From `edges_by_round`.

    Returns:
        (student, teacher) -> mean score; edges without any score are left out.
    """
    means = {
        pair: _mean(values) for pair, values in edge_series(by_round, "score").items()
    }
    return {pair: mean for pair, mean in means.items() if not math.isnan(mean)}


def edge_series(
    by_round: Mapping[int, Sequence[EdgeRecord]], name: EdgeNumber
) -> EdgeSeries:
    """Return a number of every edge over the rounds.

    Args:
        by_round: From `edges_by_round`.
        name: Which number.

    Returns:
        (student, teacher) -> its number in every round of `by_round`.
    """
    pairs = sorted(
        {(edge.student, edge.teacher) for edges in by_round.values() for edge in edges}
    )
    series: EdgeSeries = {pair: [] for pair in pairs}
    for edges in by_round.values():
        found = {(edge.student, edge.teacher): vars(edge) for edge in edges}
        for pair, values in series.items():
            values.append(_number(found.get(pair, {}), name))
    return series


def student_series(series: EdgeSeries) -> EdgeSeries:
    """Return the mean over the teachers of every student.

    Args:
        series: From `edge_series`.

    Returns:
        (student, "") -> the mean of the numbers that a round has.
    """
    means: EdgeSeries = {}
    for student in sorted({pair[0] for pair in series}):
        rows = [values for pair, values in series.items() if pair[0] == student]
        means[student, ""] = [_mean(column) for column in zip(*rows, strict=True)]
    return means


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _number(metrics: Mapping[str, float | None], name: str) -> float:
    value = metrics.get(name)
    return math.nan if value is None else float(value)
