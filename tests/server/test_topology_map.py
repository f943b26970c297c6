"""The map of who teaches whom, looked at through its pixels."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from server.figure_style import COLOURS
from server.topology_map import draw_topology_map
from strategies.topology import Neighbours, build_topology, load_underlay

POINT = tuple(int(COLOURS[0][index : index + 2], 16) for index in (1, 3, 5))
LINE = (0x55, 0x55, 0x55)


def draw(
    path: Path, neighbours: Neighbours, positions: dict[str, tuple[float, float]]
) -> np.ndarray:
    draw_topology_map(neighbours, positions, path)
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    return picture[..., ::-1]


def pieces(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Return the middles (across, down) of the pieces of one colour."""
    mask = (picture == colour).all(axis=-1).astype(np.uint8)
    _, _, stats, middles = cv2.connectedComponentsWithStats(mask)
    return middles[1:][stats[1:, cv2.CC_STAT_AREA] > 20]


def test_silos_lie_where_they_stand(tmp_path: Path) -> None:
    positions = {"north": (60.0, 0.0), "west": (0.0, -30.0), "east": (0.0, 30.0)}
    picture = draw(tmp_path / "map.png", dict.fromkeys(positions, ()), positions)
    north, *lower = sorted(pieces(picture, POINT).tolist(), key=lambda point: point[1])
    west, east = sorted(lower)
    assert west[1] == pytest.approx(east[1], abs=2)
    assert north[0] == pytest.approx((west[0] + east[0]) / 2, abs=2)
    # A degree is as wide as high at the middle latitude, 30 degrees.
    across, up = east[0] - west[0], west[1] - north[1]
    assert across / up == pytest.approx(np.cos(np.radians(30)), rel=0.02)


def test_an_arrow_over_the_date_line_leaves_the_map_and_comes_back(
    tmp_path: Path,
) -> None:
    positions = {"fiji": (-18.0, 170.0), "lima": (-12.0, -77.0), "bonn": (50.0, 7.0)}
    neighbours = {"bonn": (), "fiji": ("lima",), "lima": ()}
    picture = draw(tmp_path / "map.png", neighbours, positions)
    lima, bonn, fiji = sorted(pieces(picture, POINT).tolist())
    below_bonn = picture[int(bonn[1]) + 100 : int(fiji[1]) + 20]
    across = (np.abs(below_bonn.astype(int) - LINE).max(axis=-1) < 3).nonzero()[1]
    # Nothing runs across the map (names take 100 px); both edges see a part.
    assert not ((across > lima[0] + 100) & (across < fiji[0] - 100)).any()
    assert (across < lima[0] - 20).sum() > 20
    assert (across > fiji[0] + 5).sum() > 5


def test_without_positions_silos_stand_on_a_circle(tmp_path: Path) -> None:
    names = [f"ward-{number}" for number in range(6)]
    neighbours = build_topology("ring", names).union()
    picture = draw(tmp_path / "map.png", neighbours, {"ward-0": (1.0, 2.0)})
    points = pieces(picture, POINT)
    assert len(points) == 6
    radius = np.linalg.norm(points - points.mean(axis=0), axis=1)
    np.testing.assert_allclose(radius, radius.mean(), rtol=0.02)


def test_teaching_both_ways_is_one_line_with_two_heads(tmp_path: Path) -> None:
    positions = {"a": (0.0, 0.0), "b": (0.0, 10.0)}
    lone = draw(tmp_path / "1.png", {"a": (), "b": ("a",)}, positions)
    both = draw(tmp_path / "2.png", {"a": ("b",), "b": ("a",)}, positions)
    heads = [
        (np.abs(p.astype(int) - LINE).max(axis=-1) < 3).sum() for p in (lone, both)
    ]
    assert heads[0] < heads[1] < 1.5 * heads[0]


@pytest.mark.parametrize(
    ("design", "network"), [("complete", "amazon"), ("matcha", "gaia")]
)
def test_dense_graphs_are_drawn_too(tmp_path: Path, design: str, network: str) -> None:
    underlay = load_underlay(network)
    found = build_topology(design, underlay.nodes, underlay=underlay).union()
    picture = draw(tmp_path / "map.png", found, dict(underlay.positions))
    assert len(pieces(picture, POINT)) > 5


def test_odd_cases_do_not_stop_a_run(tmp_path: Path) -> None:
    together = {"a": (1.0, 2.0), "b": (1.0, 2.0), "$x_1^2$": (1.0, 2.0)}
    neighbours = build_topology("complete", list(together)).union()
    assert draw(tmp_path / "1.png", neighbours, together).size
    assert draw(tmp_path / "2.png", {"a": ()}, {}).size
    assert draw(tmp_path / "3.png", {"a": ()}, {"a": (90.0, 180.0)}).size
