"""Backgrounds without devices."""

import numpy as np
import pytest

from clients.fluoroscopy.anatomy import (
    Anatomy,
    build_animal,
    build_human,
    build_neuro,
    build_phantom,
    build_simulation,
)

BUILDERS = (build_human, build_animal, build_phantom, build_simulation, build_neuro)
ROUTE = np.stack((np.linspace(-0.1, 0.8, 50), np.full(50, 0.5)), axis=1)


@pytest.mark.parametrize("build", BUILDERS)
def test_depths_are_those_of_bodies(build: Anatomy) -> None:
    depth = build(np.random.default_rng(0), 64, ROUTE)
    assert depth.shape == (64, 64)
    assert np.isfinite(depth).all()
    # A factor e^-6 is the most that fluoroscopy looks through.
    assert 0 < depth.min() and depth.max() < 6


@pytest.mark.parametrize("build", BUILDERS)
def test_patients_differ_and_one_patient_stays_the_same(build: Anatomy) -> None:
    first, again, other = (
        build(np.random.default_rng(seed), 64, ROUTE) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert np.abs(first - other).mean() > 0.01


@pytest.mark.parametrize("build", BUILDERS)
def test_a_patient_looks_alike_at_any_image_size(build: Anatomy) -> None:
    small, large = (build(np.random.default_rng(3), size, ROUTE) for size in (64, 128))
    halved = large.reshape(64, 2, 64, 2).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), halved.ravel())[0, 1] > 0.9


def test_a_phantom_has_the_walls_of_a_tube_along_the_route() -> None:
    depth = build_phantom(np.random.default_rng(4), 256, ROUTE)
    profile = np.median(depth[100:156, 60:120], axis=1)  # across the route
    middle = 28
    wall = int(profile[:middle].argmax())
    assert 5 <= middle - wall <= 12  # 0.028 to 0.045 of 256 px
    assert profile[wall] > profile[middle] + 0.05


def test_outside_the_skull_there_is_air() -> None:
    depth = build_neuro(np.random.default_rng(5), 128, ROUTE)
    assert depth[:4, :4].mean() < depth[60:70, 40:90].mean() - 0.5
