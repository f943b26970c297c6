"""How student and teacher learn in the fine stage: a figure, and its shape in numbers.

arXiv 2410.07460 has one shape, in the released log of its code: the teacher, which sees
a box, learns first; the student hardly moves in the first epoch, jumps about the switch
from warm-up to self-training and comes close to the teacher.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clients.data.errors import DataError
from server.figure_style import COLOURS, WORST_COLOUR, save, tidy

NEAR = (
    0.05  # IoU; by less, a student is still near its start (0.06 in the second epoch)
)
STUDENT_COLOUR, TEACHER_COLOUR = COLOURS[0], WORST_COLOUR


@dataclass(frozen=True)
class LearningCurve:
    """IoU of both networks on test frames; entry e is after e epochs, 0 before any.

    Attributes:
        student: From 0 to 1, without prompts.
        teacher: The same of the teacher with its prompt; as long.
        switch: Epochs of warm-up: with this entry the teacher freezes.

    Raises:
        DataError: If lengths differ, there is no epoch, or a value is not a number.
    """

    student: tuple[float, ...]
    teacher: tuple[float, ...]
    switch: int

    def __post_init__(self) -> None:
        """Refuse curves that cannot be drawn."""
        if len(self.student) != len(self.teacher) or len(self.student) < 2:
            raise DataError(
                "A learning curve needs the start and at least one epoch of both "
                f"networks, got {len(self.student)} and {len(self.teacher)} values."
            )
        if not all(math.isfinite(value) for value in (*self.student, *self.teacher)):
            raise DataError("A learning curve needs numbers, got NaN or infinity.")
        if not 0 <= self.switch <= self.epochs:
            raise DataError(
                f"The switch must be from 0 to {self.epochs} epochs, got {self.switch}."
            )

    @property
    def epochs(self) -> int:
        """Return the number of epochs."""
        return len(self.student) - 1

    def gains(self) -> list[float]:
        """Return what the student gained in every epoch, from the first on."""
        pairs = zip(self.student[1:], self.student, strict=False)
        return [after - before for after, before in pairs]


@dataclass(frozen=True)
class ShapePoint:
    """One property of the published shape.

    Attributes:
        name: What is asked.
        holds: The answer; None if the curve has no such phase.
        numbers: What the answer rests on.
    """

    name: str
    holds: bool | None
    numbers: dict[str, float]


@dataclass(frozen=True)
class ShapeReport:
    """The four properties, in the order of the facts."""

    points: tuple[ShapePoint, ...]

    def to_dict(self) -> dict[str, dict[str, object]]:
        """Return it as JSON has it."""
        return {
            point.name: {"holds": point.holds, **point.numbers} for point in self.points
        }


def check_shape(curve: LearningCurve) -> ShapeReport:
    """Compare a curve with the published shape.

    Args:
        curve: Of one seed, or `mean_curve` of several.

    Returns:
        Four points: "slow start" (after one epoch the student is within 0.05 IoU of
        its start), "teacher leads" (in every epoch of warm-up), "jump at the switch"
        (the student's largest gain is in the last epoch of warm-up or the first of
        self-training; in the published curve these two are the largest, +.30 and
        +.24) and "student catches up" (the teacher's lead is smaller in the end than
        at the switch, or there is none any more).
    """
    return ShapeReport(
        (_slow_start(curve), _teacher_leads(curve), _jump(curve), _catches_up(curve))
    )


def mean_curve(curves: Sequence[LearningCurve]) -> LearningCurve:
    """Average curves of several seeds.

    Args:
        curves: One or more.

    Returns:
        The mean at every epoch.

    Raises:
        DataError: If there is none, or epochs or switches differ.
    """
    if len({(one.epochs, one.switch) for one in curves}) != 1:
        raise DataError(
            "Learning curves of the same epochs and the same switch were wanted, got "
            f"{len(curves)} curves that differ, or none."
        )
    return LearningCurve(
        student=_means([one.student for one in curves]),
        teacher=_means([one.teacher for one in curves]),
        switch=curves[0].switch,
    )


def draw_learning_curves(
    curves: Sequence[LearningCurve], path: Path, *, title: str, prompt: str = "box"
) -> Path:
    """Draw student and teacher: the mean thick, every seed thin.

    Args:
        curves: One a seed, of the same epochs.
        path: PNG to write.
        title: Above the figure.
        prompt: What the teacher sees, for the legend.

    Returns:
        The path.

    Raises:
        DataError: If the curves differ in epochs or switch, or there is none.
    """
    mean = mean_curve(curves)
    figure = Figure(figsize=(6.6, 4.2), layout="constrained")
    axes = figure.subplots()
    for one in curves if len(curves) > 1 else ():
        _plot(axes, one.teacher, TEACHER_COLOUR, thin=True)
        _plot(axes, one.student, STUDENT_COLOUR, thin=True)
    _plot(axes, mean.teacher, TEACHER_COLOUR, label=f"teacher, {prompt}", marker="s")
    _plot(axes, mean.student, STUDENT_COLOUR, label="student, no prompt", marker="o")
    axes.set(xlabel="epoch (0 = before training)", ylabel="IoU", title=title)
    axes.set_ylim(0, 1)
    axes.set_xlim(0, mean.epochs)
    tidy(axes)
    if 0 < mean.switch < mean.epochs:
        _mark_switch(axes, mean.switch)
    seeds = f"mean of {len(curves)} seeds" if len(curves) > 1 else "one seed"
    axes.legend(frameon=False, loc="best", title=seeds)
    return save(figure, path)


def _slow_start(curve: LearningCurve) -> ShapePoint:
    start, first = curve.student[:2]
    holds = None if curve.switch == 0 else abs(first - start) <= NEAR
    return ShapePoint("slow start", holds, {"start": start, "after-epoch-1": first})


def _teacher_leads(curve: LearningCurve) -> ShapePoint:
    warmup = slice(1, curve.switch + 1)
    pairs = zip(curve.teacher[warmup], curve.student[warmup], strict=True)
    leads = [teacher - student for teacher, student in pairs]
    if not leads:
        return ShapePoint("teacher leads", None, {})
    return ShapePoint(
        "teacher leads",
        min(leads) > 0,
        {"smallest-lead": min(leads), "largest-lead": max(leads)},
    )


def _jump(curve: LearningCurve) -> ShapePoint:
    gains = curve.gains()
    epoch = 1 + gains.index(max(gains))
    numbers = {"largest-gain": max(gains), "in-epoch": float(epoch)}
    if not 0 < curve.switch < curve.epochs:
        return ShapePoint("jump at the switch", None, numbers)
    numbers["gain-after-switch"] = gains[curve.switch]
    holds = epoch in (curve.switch, curve.switch + 1) and max(gains) > 0
    return ShapePoint("jump at the switch", holds, numbers)


def _catches_up(curve: LearningCurve) -> ShapePoint:
    gaps = [
        teacher - student
        for teacher, student in zip(curve.teacher, curve.student, strict=True)
    ]
    numbers = {"gap-at-switch": gaps[curve.switch], "gap-at-end": gaps[-1]}
    if not 0 < curve.switch < curve.epochs:
        return ShapePoint("student catches up", None, numbers)
    holds = gaps[-1] < gaps[curve.switch] or gaps[-1] <= 0
    return ShapePoint("student catches up", holds, numbers)


def _means(values: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(statistics.fmean(epoch) for epoch in zip(*values, strict=True))


def _plot(
    axes: Axes,
    values: Sequence[float],
    colour: str,
    *,
    thin: bool = False,
    label: str | None = None,
    marker: str = "",
) -> None:
    axes.plot(
        range(len(values)),
        values,
        color=colour,
        linewidth=0.9 if thin else 2.2,
        alpha=0.45 if thin else 1.0,
        marker=marker,
        markersize=5,
        label=label,
        zorder=2 if thin else 3,
        clip_on=False,
    )


def _mark_switch(axes: Axes, switch: int) -> None:
    axes.axvline(switch, color="#555555", linestyle="--", linewidth=1.2, zorder=1)
    for text, side, place in (("warm-up", "right", -5), ("self-training", "left", 5)):
        axes.annotate(
            text,
            (switch, 1.0),
            xytext=(place, -4),
            textcoords="offset points",
            ha=side,
            va="top",
            color="#555555",
            fontsize=9,
        )
