"""What the edges of a round add up to: means, the diagonal, the largest gap.

Controls, the students' own copies trained at home, stand apart: they are the yardstick
for the scores and no part of any mean over teachers.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from server.records import EdgeRecord
from strategies import messages

MAX_NAMED_TEACHERS = 6  # more are one mean with its range in the log

Edge = tuple[str, str]


def read_edges(site: str, metrics: Mapping[str, float]) -> list[EdgeRecord]:
    """Read what each teacher was worth to a student.

    Args:
        site: The student.
        metrics: Numbers of its reply.

    Returns:
        One edge for each score, the student's own control among them, sorted.
    """
    names = sorted(
        key.removeprefix(messages.SCORE)
        for key in metrics
        if key.startswith(messages.SCORE)
    )
    return [
        EdgeRecord(
            student=site,
            teacher=name,
            score=metrics[messages.SCORE + name],
            weight=metrics.get(messages.WEIGHT + name),
            gap=metrics.get(messages.GAP + name),
            teacher_loss=metrics.get(messages.TEACHER_LOSS + name),
        )
        for name in names
    ]


def add_bytes(
    edges: Iterable[EdgeRecord], costs: Mapping[Edge, int]
) -> tuple[EdgeRecord, ...]:
    """Note on every edge what it cost.

    Args:
        edges: What was scored.
        costs: Bytes by (student, teacher).

    Returns:
        The edges with their bytes, sorted; those that cost bytes and got no score,
        because a reply was missing, without one.
    """
    scored = {(edge.student, edge.teacher): edge for edge in edges}
    nothing = {pair: EdgeRecord(*pair, None, None) for pair in costs}
    return tuple(
        replace(edge, num_bytes=costs.get(pair, 0))
        for pair, edge in sorted((nothing | scored).items())
    )


def edge_numbers(edges: Sequence[EdgeRecord]) -> dict[str, float | None]:
    """Summarise edges.

    Args:
        edges: Of all students, or of one.

    Returns:
        "emd/score", "emd/weight" and "teacher/loss": means over the edges without the
        controls. "emd/diagonal": mean score of the controls. "emd/gap_max": the
        largest duality gap of any. Names without a number are left out; all of them
        without any edge.
    """
    between = [edge for edge in edges if not edge.is_control]
    gaps = _known(edge.gap for edge in edges)
    numbers = {
        "emd/score": mean(edge.score for edge in between),
        "emd/weight": mean(edge.weight for edge in between),
        "emd/diagonal": mean(edge.score for edge in edges if edge.is_control),
        "emd/gap_max": max(gaps, default=None),
        "teacher/loss": mean(edge.teacher_loss for edge in between),
    }
    return {name: value for name, value in numbers.items() if value is not None}


def describe_edges(edges: Iterable[EdgeRecord]) -> list[str]:
    """Say in one line a student what its teachers were worth.

    Args:
        edges: Of a round.

    Returns:
        Lines such as "a learns from b 0.93 (0.50), c 0.91 (0.50); itself 0.95", with
        weights in brackets; many teachers as a mean and its range.
    """
    by_student: dict[str, list[EdgeRecord]] = {}
    for edge in edges:
        if edge.score is not None and math.isfinite(edge.score):
            by_student.setdefault(edge.student, []).append(edge)
    return [
        f"{student} learns from {_describe_teachers(mine)}"
        for student, mine in sorted(by_student.items())
    ]


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the finite values; None without any."""
    known = _known(values)
    return fmean(known) if known else None


def _describe_teachers(edges: Sequence[EdgeRecord]) -> str:
    between = [edge for edge in edges if not edge.is_control]
    scores = _known(edge.score for edge in between)
    if not between:
        text = "nobody"
    elif len(between) > MAX_NAMED_TEACHERS:
        text = (
            f"{len(between)} teachers {fmean(scores):.3f} "
            f"({min(scores):.3f} to {max(scores):.3f})"
        )
    else:
        text = ", ".join(map(_describe_one, between))
    own = [f"itself {edge.score:.3f}" for edge in edges if edge.is_control]
    return "; ".join([text, *own])


def _describe_one(edge: EdgeRecord) -> str:
    weight = "" if edge.weight is None else f" ({edge.weight:.2f})"
    return f"{edge.teacher} {edge.score:.3f}{weight}"


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]
