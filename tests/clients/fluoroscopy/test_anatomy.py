"""Bodies and benches without devices."""

import numpy as np
import pytest

from clients.fluoroscopy.anatomy import Builder, View
from clients.fluoroscopy.bench import build_phantom, build_simulation
from clients.fluoroscopy.body import body_canvas, place_body
from clients.fluoroscopy.canvas import Canvas
from clients.fluoroscopy.head import build_neuro
from clients.fluoroscopy.motion import NO_MOTION, MotionRanges, draw_motion
from clients.fluoroscopy.spectrum import BONE, CONTRAST, TISSUE, Thickness
from clients.fluoroscopy.trunk import build_animal, build_chest_film, build_human

BUILDERS = (
    build_human,
    build_animal,
    build_chest_film,
    build_phantom,
    build_simulation,
    build_neuro,
)
ROUTE = np.stack((np.linspace(-0.1, 0.8, 150), np.full(150, 0.5)), axis=1)


def body(build: Builder, seed: int, size: int) -> Thickness:
    canvas = body_canvas(size)
    anatomy = build(np.random.default_rng(seed), canvas, [ROUTE])
    placed = place_body(anatomy, canvas, size=size, motion=NO_MOTION, inflow=None)
    return placed.at(0.0)


@pytest.mark.parametrize("build", BUILDERS)
def test_thicknesses_are_those_of_bodies(build: Builder) -> None:
    for seed in range(3):
        thickness = body(build, seed, 64)
        assert np.isfinite(thickness).all() and thickness.min() >= 0
        assert 20 < np.median(thickness[TISSUE]) < 320  # mm
        assert thickness[BONE].max() < 80


@pytest.mark.parametrize("build", BUILDERS)
def test_patients_differ_and_one_patient_stays_the_same(build: Builder) -> None:
    first, again, other = (body(build, seed, 64) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert np.abs(first - other).max() > 1


@pytest.mark.parametrize("build", BUILDERS)
def test_a_patient_looks_alike_at_any_image_size(build: Builder) -> None:
    small, large = (body(build, 3, size)[TISSUE] for size in (64, 128))
    halved = large.reshape(64, 2, 64, 2).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), halved.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("build", [build_human, build_animal, build_neuro])
def test_living_bodies_have_bones(build: Builder) -> None:
    shares = [(body(build, seed, 64)[BONE] > 2).mean() for seed in range(6)]
    assert np.median(shares) > 0.1


def test_lungs_hold_air() -> None:
    film = body(build_chest_film, 0, 96)
    lungs = film[TISSUE][30:55, [22, 74]].mean()
    middle = film[TISSUE][30:55, 46:50].mean()
    assert lungs < middle - 40  # mm


def test_ribs_and_spine_lie_where_they_should_in_a_whole_chest() -> None:
    bone = body(build_chest_film, 1, 128)[BONE]
    assert bone[:, 58:70].mean() > 3 * bone[:, 30:50].mean() > 0
    # Ribs repeat along the body: the profile of a lung crosses them several times.
    profile = bone[30:90, 40] > 1
    assert np.abs(np.diff(profile.astype(int))).sum() >= 6


def test_a_phantom_lets_agent_be_subtracted() -> None:
    canvas = body_canvas(64)
    anatomy = build_phantom(np.random.default_rng(4), canvas, [ROUTE])
    placed = place_body(anatomy, canvas, size=64, motion=NO_MOTION, inflow=None)
    assert placed.at(0.0)[CONTRAST].max() > 0.3
    assert placed.before()[CONTRAST].max() == 0
    assert np.array_equal(placed.before()[TISSUE], placed.at(0.0)[TISSUE])


def test_a_view_turns_about_its_centre() -> None:
    view = View(field_mm=100, centre_mm=np.array([10.0, 20.0]), turn=np.pi / 2)
    points = np.array([[10.0, 20.0], [60.0, 20.0]])
    assert view.to_field(points) == pytest.approx(np.array([[0.5, 0.5], [0.5, 1.0]]))
    # The grid of the body is the inverse.
    x, y = view.body(Canvas(10))
    back = view.to_field(np.array([[x[2, 7], y[2, 7]]]))
    assert back[0] == pytest.approx([0.75, 0.25], abs=1e-5)


def test_what_lies_behind_moves_sideways_in_an_oblique_view() -> None:
    view = View(field_mm=100, centre_mm=np.zeros(2), oblique=0.5)
    spots = view.project(np.array([[0.0, 0.0, 50.0], [0.0, 0.0, -50.0]]))
    assert spots[0, 0] - spots[1, 0] == pytest.approx(np.sin(0.5))


def test_the_anatomy_moves_by_the_displacement_of_its_motion() -> None:
    canvas = body_canvas(128)
    anatomy = build_human(np.random.default_rng(5), canvas, [ROUTE])
    motion = draw_motion(
        np.random.default_rng(0),
        MotionRanges(breath=(0.05, 0.05), beat=(0.0, 0.0)),
        downwards=np.array([0.0, 1.0]),
        spine=np.array([0.5, 0.5]),
        heart=np.array([0.5, 0.5]),
        heart_radius=0.3,
    )
    placed = place_body(anatomy, canvas, size=128, motion=motion, inflow=None)
    times = np.arange(0, motion.breath_s, 0.05)
    breath = np.array([motion.amplitudes(time)[0] for time in times])
    out, full = times[breath.argmin()], times[breath.argmax()]
    still = placed.still[1]
    ribs = [placed.at(time)[BONE] - still for time in (out, full)]
    rows = slice(40, 90)
    scores = [
        (np.roll(ribs[0], shift, axis=0)[rows] * ribs[1][rows]).sum()
        for shift in range(12)
    ]
    expected = 128 * motion.modes(np.array([0.5]), np.array([0.5]))[0][1][0]
    assert int(np.argmax(scores)) == pytest.approx(float(expected), abs=1.5)
