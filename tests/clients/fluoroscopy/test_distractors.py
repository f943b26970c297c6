"""Metal that is no device."""

import numpy as np
import pytest

from clients.fluoroscopy.canvas import Canvas
from clients.fluoroscopy.distractors import DISTRACTORS, draw_distractors

ROUTE = np.stack((np.linspace(-0.1, 0.9, 150), np.full(150, 0.5)), axis=1)
CANVAS = Canvas(96, 6)


@pytest.mark.parametrize("name", sorted(DISTRACTORS))
def test_every_distractor_is_small_metal_in_the_field(name: str) -> None:
    seen = 0
    for seed in range(6):
        steel = DISTRACTORS[name](np.random.default_rng(seed), CANVAS, ROUTE)
        assert np.isfinite(steel).all() and 0 <= steel.min() and steel.max() < 6
        assert (steel > 0.02).mean() < 0.12
        seen += bool((steel > 0.05).any())
    assert seen >= 4


def test_chances_decide_who_has_what() -> None:
    rng = np.random.default_rng(0)
    assert not draw_distractors(rng, CANVAS, ROUTE, {}).any()
    certain = {"sternal-wires": 1.0}
    assert draw_distractors(rng, CANVAS, ROUTE, certain).max() > 0.2
    some = [
        draw_distractors(
            np.random.default_rng(seed), CANVAS, ROUTE, {"clips": 0.5}
        ).any()
        for seed in range(40)
    ]
    assert 8 < sum(some) < 32


def test_one_distractor_more_changes_no_other() -> None:
    alone, both = (
        draw_distractors(np.random.default_rng(3), CANVAS, ROUTE, chances)
        for chances in ({"valve": 1.0}, {"valve": 1.0, "cable": 1.0})
    )
    assert (both >= alone - 1e-5).all() and both.sum() > alone.sum()
