"""Where devices lie and how they are handled."""

from dataclasses import replace

import numpy as np
import pytest

from clients.fluoroscopy.devices import DeviceRanges, Strand, draw_strands
from clients.fluoroscopy.geometry import arc_length, turning
from clients.fluoroscopy.motion import NO_MOTION
from clients.fluoroscopy.routes import (
    draw_arm_route,
    draw_hook,
    draw_route,
    draw_side_route,
    draw_tip,
)

BOTH = DeviceRanges(shown=(1, 0, 0), late=0.0, second=0.0)


def draw(seed: int, ranges: DeviceRanges = BOTH) -> Strand:
    return draw_strands(np.random.default_rng(seed), ranges)[0]


def tip(strand: Strand, name: str, time_s: float) -> np.ndarray:
    return strand.centrelines(time_s, NO_MOTION)[name][-1]


@pytest.mark.parametrize("seed", range(10))
def test_devices_enter_from_outside_and_end_inside_the_field(seed: int) -> None:
    lines = draw(seed).centrelines(0.0, NO_MOTION)
    assert set(lines) == {"catheter", "guidewire"}
    for line in lines.values():
        assert np.abs(line[0] - 0.5).max() > 0.5
    assert np.abs(lines["guidewire"][-1] - 0.5).max() < 0.62


@pytest.mark.parametrize("seed", range(10))
def test_the_wire_runs_through_the_catheter_and_out_of_its_tip(seed: int) -> None:
    lines = draw(seed).centrelines(0.3, NO_MOTION)
    catheter, wire = lines["catheter"], lines["guidewire"]
    assert arc_length(wire)[-1] > arc_length(catheter)[-1] + 0.02
    gaps = np.hypot(*(catheter[:, None] - wire).transpose(2, 0, 1)).min(axis=1)
    assert gaps.max() < 0.006  # half the distance between points


@pytest.mark.parametrize("seed", range(4))
def test_a_tip_moves_smoothly(seed: int) -> None:
    strand = draw(seed)
    times = np.arange(0, 3, 0.033)
    for name in ("catheter", "guidewire"):
        path = np.stack([tip(strand, name, time) for time in times])
        steps = np.hypot(*np.diff(path, axis=0).T)
        assert steps.max() < 0.02  # of the field in a thirtieth of a second
        assert np.hypot(*(path - path[0]).T).max() > 0.01


def test_a_turned_j_shows_its_other_side() -> None:
    strand = draw(0, replace(BOTH, tips=(0, 0, 1)))
    strand = replace(strand, push=0.0, sway_size=0.0, turn_rate=np.pi, turn_phase=0.0)

    def side(time_s: float) -> float:
        line = strand.centrelines(time_s, NO_MOTION)["guidewire"]
        count = int(0.05 / (arc_length(line)[-1] / len(line)))
        return float(turning(line[-count:])[-1])

    assert side(0.0) * side(1.0) < 0  # half a turn later
    assert side(0.0) == pytest.approx(side(2.0), abs=1e-6)


def test_nothing_is_seen_before_the_devices_are_inserted() -> None:
    strand = replace(draw(1), delay_s=0.5)
    assert strand.centrelines(0.4, NO_MOTION) == {}
    early, late = (
        arc_length(strand.centrelines(time, NO_MOTION)["guidewire"])[-1]
        for time in (0.6, 1.6)
    )
    assert early < 0.5 * late


def test_most_patients_have_both_devices_and_some_have_one() -> None:
    rng = np.random.default_rng(0)
    strands = [draw_strands(rng, DeviceRanges())[0] for _ in range(150)]
    wire = np.array([strand.guidewire is not None for strand in strands])
    catheter = np.array([strand.catheter is not None for strand in strands])
    assert 0.6 < (wire & catheter).mean() < 0.85
    assert (wire & ~catheter).any() and (catheter & ~wire).any()
    assert (wire | catheter).all()


def test_widths_stay_in_their_range() -> None:
    rng = np.random.default_rng(1)
    ranges = replace(BOTH, wire_width_px=(1.0, 1.6), catheter_width_px=(2.2, 3.4))
    for _ in range(50):
        strand = draw_strands(rng, ranges)[0]
        assert 1.0 <= 2 * 128 * strand.guidewire.radius <= 1.6
        assert 2.2 <= 2 * 128 * strand.catheter.radius <= 3.4
        half = strand.scaled(0.5)
        assert half.catheter.radius == pytest.approx(strand.catheter.radius / 2)


def test_a_loop_makes_a_route_cross_itself() -> None:
    turns = [
        abs(turning(draw_route(np.random.default_rng(seed), loop=1.0))).max()
        for seed in range(10)
    ]
    assert min(turns) > 4  # most of a full turn, drawn with few knots


def test_a_side_route_leaves_from_the_main_one() -> None:
    main = np.stack((np.linspace(0.1, 0.9, 60), np.full(60, 0.4)), axis=1)
    for seed in range(10):
        knots = draw_side_route(np.random.default_rng(seed), main)
        assert np.hypot(*(main - knots[0]).T).min() < 1e-9
        assert abs(knots[1][1] - 0.4) > 0.02


def test_a_hook_comes_from_above_and_an_arm_route_from_a_side() -> None:
    for seed in range(10):
        hook = draw_hook(np.random.default_rng(seed))
        assert hook[0, 1] < 0 and hook[:, 1].max() > 0.25
        arm = draw_arm_route(np.random.default_rng(seed))
        assert abs(arm[0, 0] - 0.5) > 0.4
        assert abs(arm[-1, 0] - 0.5) < 0.15 and arm[-1, 1] > arm[3, 1]


def test_tips_are_straight_bent_or_curled() -> None:
    rng = np.random.default_rng(0)
    straight, bent, curled = (
        [abs(draw_tip(rng, shape)[1]) for _ in range(30)]
        for shape in ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    )
    assert max(straight) < 0.5 < min(bent) and max(bent) < 1.5 < min(curled)
