import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from clients.data.errors import DataError
from experiments.adaptation.curves import (
    STUDENT_COLOUR,
    TEACHER_COLOUR,
    LearningCurve,
    ShapePoint,
    check_shape,
    draw_learning_curves,
    mean_curve,
)

# From the released log of arXiv 2410.07460; before training both are near 0.
CARDIAC = LearningCurve(
    student=(0, 0, 0.06, 0.36, 0.60, 0.61, 0.62, 0.65, 0.66, 0.66, 0.65),
    teacher=(0, 0.13, 0.32, *[0.664] * 8),
    switch=3,
)
NEUROVASCULAR = LearningCurve(
    student=(0, 0.001, 0.76, 0.76, 0.78, 0.81),
    teacher=(0, 0.56, 0.82, 0.83, 0.83, 0.83),
    switch=3,
)
POINTS = ("slow start", "teacher leads", "jump at the switch", "student catches up")


def answers(curve: LearningCurve) -> tuple[bool | None, ...]:
    points = check_shape(curve).points
    assert tuple(point.name for point in points) == POINTS
    return tuple(point.holds for point in points)


def numbers(curve: LearningCurve, name: str) -> dict[str, float]:
    return next(p for p in check_shape(curve).points if p.name == name).numbers


def test_the_published_cardiac_curve_has_the_published_shape() -> None:
    assert answers(CARDIAC) == (True, True, True, True)
    jump = numbers(CARDIAC, "jump at the switch")
    assert jump["in-epoch"] == 3
    assert jump["largest-gain"] == pytest.approx(0.30)
    assert jump["gain-after-switch"] == pytest.approx(0.24)
    lead = numbers(CARDIAC, "teacher leads")
    assert lead["smallest-lead"] == pytest.approx(0.13)
    assert lead["largest-lead"] == pytest.approx(0.304)
    gap = numbers(CARDIAC, "student catches up")
    assert gap["gap-at-switch"] == pytest.approx(0.304)
    assert gap["gap-at-end"] == pytest.approx(0.014)


def test_the_published_neurovascular_student_jumps_before_the_switch() -> None:
    assert answers(NEUROVASCULAR) == (True, True, False, True)
    assert numbers(NEUROVASCULAR, "jump at the switch")["in-epoch"] == 2


def test_a_student_that_starts_high_is_near_its_own_start() -> None:
    curve = LearningCurve((0.5, 0.52, 0.6, 0.7), (0.5, 0.6, 0.72, 0.72), switch=2)
    assert answers(curve) == (True, True, True, True)
    fast = LearningCurve((0.5, 0.62, 0.63, 0.64), (0.5, 0.7, 0.72, 0.72), switch=2)
    assert answers(fast) == (False, True, False, True)


def test_a_student_before_its_teacher_is_seen() -> None:
    curve = LearningCurve((0.5, 0.52, 0.6, 0.7), (0.5, 0.51, 0.72, 0.72), switch=2)
    assert answers(curve) == (True, False, True, True)
    assert numbers(curve, "teacher leads")["smallest-lead"] == pytest.approx(-0.01)


def test_a_student_that_falls_behind_does_not_catch_up() -> None:
    curve = LearningCurve((0.5, 0.52, 0.6, 0.55), (0.5, 0.6, 0.7, 0.7), switch=2)
    assert answers(curve) == (True, True, True, False)


def test_a_student_that_overtakes_has_caught_up() -> None:
    ahead = LearningCurve((0.5, 0.52, 0.8, 0.75), (0.5, 0.6, 0.7, 0.7), switch=2)
    assert answers(ahead)[-1] is True


def test_a_student_that_never_gains_has_no_jump() -> None:
    falling = LearningCurve((0.5, 0.48, 0.45, 0.44), (0.5, 0.6, 0.7, 0.7), switch=2)
    assert answers(falling) == (True, True, False, False)


def test_questions_about_a_phase_that_was_not_run_have_no_answer() -> None:
    warmup_only = LearningCurve((0.1, 0.12, 0.3), (0.1, 0.2, 0.4), switch=2)
    assert answers(warmup_only) == (True, True, None, None)
    no_warmup = LearningCurve((0.1, 0.2, 0.3), (0.4, 0.4, 0.4), switch=0)
    assert answers(no_warmup) == (None, None, None, None)


def test_the_report_is_ready_for_json() -> None:
    content = check_shape(CARDIAC).to_dict()
    assert tuple(content) == POINTS
    assert content["slow start"] == {"holds": True, "start": 0, "after-epoch-1": 0}


def test_the_mean_is_taken_epoch_by_epoch() -> None:
    one = LearningCurve((0.0, 0.2), (0.1, 0.5), switch=1)
    other = LearningCurve((0.4, 0.8), (0.3, 0.7), switch=1)
    mean = mean_curve([one, other])
    assert mean.student == pytest.approx((0.2, 0.5))
    assert mean.teacher == pytest.approx((0.2, 0.6))
    assert mean.switch == 1


def test_curves_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="got 2 and 3 values"):
        LearningCurve((0.0, 0.1), (0.0, 0.1, 0.2), switch=1)
    with pytest.raises(DataError, match="at least one epoch"):
        LearningCurve((0.1,), (0.1,), switch=0)
    with pytest.raises(DataError, match="NaN"):
        LearningCurve((0.1, math.nan), (0.1, 0.2), switch=1)
    with pytest.raises(DataError, match="from 0 to 1 epochs, got 2"):
        LearningCurve((0.1, 0.2), (0.1, 0.2), switch=2)
    with pytest.raises(DataError, match="got 2 curves that differ"):
        mean_curve([CARDIAC, NEUROVASCULAR])
    with pytest.raises(DataError, match="got 0 curves"):
        mean_curve([])


def test_the_figure_shows_both_networks_every_seed_and_the_switch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, switches = [], []
    plot, axvline = Axes.plot, Axes.axvline

    def watch_plot(axes: Axes, x: object, y: object, **style: object) -> object:
        lines.append((list(y), style["color"], style["linewidth"]))
        return plot(axes, x, y, **style)

    def watch_line(axes: Axes, x: float, **style: object) -> object:
        switches.append(x)
        return axvline(axes, x, **style)

    monkeypatch.setattr(Axes, "plot", watch_plot)
    monkeypatch.setattr(Axes, "axvline", watch_line)
    other = LearningCurve(CARDIAC.teacher, CARDIAC.teacher, switch=3)
    path = draw_learning_curves([CARDIAC, other], tmp_path / "a.png", title="Cardiac")
    assert switches == [3]
    students = [line for line in lines if line[1] == STUDENT_COLOUR]
    thick = max(line[2] for line in lines)
    assert [line[0] for line in students if line[2] < thick] == [
        list(CARDIAC.student),
        list(CARDIAC.teacher),
    ]
    assert [line[0] for line in students if line[2] == thick] == [
        list(mean_curve([CARDIAC, other]).student)
    ]
    pixels = imread(path)[..., :3]
    for colour in (STUDENT_COLOUR, TEACHER_COLOUR):
        distance = np.abs(pixels - np.array(to_rgb(colour))).max(axis=-1)
        assert (distance < 0.02).sum() > 300


def test_one_seed_is_drawn_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0
    plot = Axes.plot

    def watch(axes: Axes, *values: object, **style: object) -> object:
        nonlocal count
        count += 1
        return plot(axes, *values, **style)

    monkeypatch.setattr(Axes, "plot", watch)
    draw_learning_curves([CARDIAC], tmp_path / "a.png", title="Cardiac")
    assert count == 2


def test_a_point_says_what_its_answer_rests_on() -> None:
    assert check_shape(CARDIAC).points[0] == ShapePoint(
        "slow start", True, {"start": 0, "after-epoch-1": 0}
    )
