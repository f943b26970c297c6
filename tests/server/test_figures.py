import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgb
from matplotlib.image import imread

from server.edge_figures import draw_edges, draw_topology
from server.edge_heatmap import draw_edge_heatmap
from server.figure_style import WORST_COLOUR, label, line_styles
from server.figures import draw_all, draw_curves, draw_drift
from server.records import EdgeRecord

SITES = ["a", "_b", "c$", "a very long name of a hospital in a town"]


def make_events(num_rounds: int, *, edges: bool = True) -> list[Mapping[str, Any]]:
    events: list[Mapping[str, Any]] = [{"event": "start", "sites": SITES}]
    for number in range(num_rounds + 1):
        sites: dict[str, Any] = {
            site: {"val/dice": 0.8 - 0.1 * index, "train/loss": 1.0 / (number + 1)}
            for index, site in enumerate(SITES)
        }
        sites["a"] = {"val/dice": None}
        events.append(
            {
                "event": "round",
                "round": number,
                "sites": sites,
                "global": {"val/dice": 0.6},
                "edges": make_edges() if edges and number else [],
            }
        )
    return events


def make_edges() -> list[dict[str, Any]]:
    return [
        {"student": student, "teacher": teacher, "score": 0.7, "weight": 0.3}
        for student in SITES
        for teacher in SITES
        if student != teacher
    ]


def count_pixels(path: Path, colour: str) -> int:
    distance = np.abs(imread(path)[..., :3] - np.array(to_rgb(colour))).max(axis=-1)
    return int((distance < 0.02).sum())


def test_every_figure_is_a_picture_with_something_on_it(tmp_path: Path) -> None:
    paths = draw_all(make_events(3), tmp_path)
    assert [path.name for path in paths] == [
        "curves.png",
        "edges.png",
        "edge_heatmap.png",
        "topology.png",
    ]
    for path in paths:
        assert imread(path)[..., :3].std() > 0.02


def test_a_run_without_teachers_has_curves_only(tmp_path: Path) -> None:
    paths = draw_all(make_events(2, edges=False), tmp_path)
    assert [path.name for path in paths] == ["curves.png"]


def test_the_worst_site_has_a_colour_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    assert count_pixels(draw_curves(make_events(3), path), WORST_COLOUR) > 500
    assert count_pixels(draw_curves([], path), WORST_COLOUR) == 0


def test_the_worst_line_is_the_only_one_in_its_colour() -> None:
    names = [f"site {index}" for index in range(20)]
    styles = line_styles(names, worst="site 3")
    looks = {(style["color"], style["linestyle"]) for style in styles.values()}
    assert len(looks) == 20
    worst = [name for name, style in styles.items() if style["color"] == WORST_COLOUR]
    assert worst == ["site 3"]


def test_a_score_missing_everywhere_still_gives_a_figure(tmp_path: Path) -> None:
    edges = [{"student": "a", "teacher": "b", "score": None, "weight": None}]
    event = {"event": "round", "round": 1, "sites": {"a": {}, "b": {}}, "edges": edges}
    assert len(draw_all([event], tmp_path)) == 4


def test_without_edges_the_edge_figure_says_so(tmp_path: Path) -> None:
    path = draw_edges(make_events(1, edges=False), tmp_path / "edges.png")
    darkness = 1 - imread(path)[..., :3].min(axis=-1)
    assert 0 < (darkness > 0.5).mean() < 0.01  # a line of text and nothing else


def test_many_edges_are_drawn_by_student(tmp_path: Path) -> None:
    sites = [f"site {index}" for index in range(8)]
    edges = [
        {"student": a, "teacher": b, "score": 0.5, "weight": 1.0}
        for a in sites
        for b in sites
        if a != b
    ]
    event = {"event": "round", "round": 1, "sites": {s: {} for s in sites}}
    paths = draw_all([{**event, "edges": edges}], tmp_path)
    assert len(paths) == 4


def find_arrow_head(path: Path) -> float:
    """Return where an upright arrow is widest: 0 = top, 1 = bottom of the figure."""
    grey = np.abs(imread(path)[..., :3] - np.array(to_rgb("#555555"))).max(axis=-1)
    widths = (grey < 0.05).sum(axis=-1)
    height = len(widths)
    inner = slice(int(0.22 * height), int(0.88 * height))  # neither title nor names
    return float(np.argmax(widths[inner]) + inner.start) / height


def test_an_arrow_points_from_the_teacher_at_the_student(tmp_path: Path) -> None:
    upwards = tmp_path / "upwards.png"
    downwards = tmp_path / "downwards.png"
    # "a" stands above "b".
    draw_topology(["a", "b"], [EdgeRecord("a", "b", None, 1.0)], upwards)
    draw_topology(["a", "b"], [EdgeRecord("b", "a", None, 1.0)], downwards)
    assert find_arrow_head(upwards) < 0.4
    assert find_arrow_head(downwards) > 0.6


def test_a_name_is_shortened_and_never_a_formula() -> None:
    assert label("a very long name of a hospital") == "a very long name of…"
    assert label("$x$") == r"\$x\$"


@pytest.mark.parametrize("num_rounds", [0, 1])
def test_a_run_of_one_round_can_be_drawn(tmp_path: Path, num_rounds: int) -> None:
    assert draw_curves(make_events(num_rounds), tmp_path / "x.png").exists()


def test_two_threads_draw_the_same_figure(tmp_path: Path) -> None:
    events = make_events(3)
    draw_curves(events, tmp_path / "alone.png")
    threads = [
        threading.Thread(target=draw_curves, args=(events, tmp_path / f"{index}.png"))
        for index in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = imread(tmp_path / "alone.png")
    for index in range(2):
        assert np.array_equal(imread(tmp_path / f"{index}.png"), alone)


def round_event(
    number: int, edges: list[EdgeRecord], **overall: float
) -> dict[str, Any]:
    return {
        "event": "round",
        "round": number,
        "sites": {"a": {}, "b": {}},
        "global": overall,
        "edges": [edge.to_json() for edge in edges],
    }


def test_the_drift_is_drawn_where_a_round_measured_it(tmp_path: Path) -> None:
    events = [
        round_event(n, [], **{"drift/consensus_distance": d})
        for n, d in enumerate([0.01, 0.02, 0.04, 0.08])
    ]
    assert [p.name for p in draw_all(events, tmp_path)] == ["curves.png", "drift.png"]
    warned = count_pixels(tmp_path / "drift.png", WORST_COLOUR)
    calm = count_pixels(draw_drift(events[:3], tmp_path / "calm.png"), WORST_COLOUR)
    assert warned > 50
    assert calm == 0


def test_the_map_is_drawn_where_positions_are_handed_over(tmp_path: Path) -> None:
    events = [round_event(1, [EdgeRecord("a", "b", 0.9, 1.0)])]
    neighbours = {"a": ("b",), "b": ("a",)}
    positions = {"a": (52.5, 13.4), "b": (48.9, 2.4)}
    plain = draw_all(events, tmp_path, neighbours=neighbours, positions={})
    mapped = draw_all(events, tmp_path, neighbours=neighbours, positions=positions)
    assert [path.name for path in mapped if path not in plain] == ["topology_map.png"]


def test_a_heavy_weight_is_bright_and_a_missing_one_grey(tmp_path: Path) -> None:
    edges = [EdgeRecord("a", "b", 0.5, 1.0), EdgeRecord("b", "a", 0.5, 0.0)]
    events = [round_event(1, edges), round_event(2, edges[:1])]
    path = draw_edge_heatmap(events, tmp_path / "heatmap.png")
    bright, dark = (to_hex(colormaps["cividis"](place)) for place in (1.0, 0.0))
    # Two rounds of one edge against one round of the other.
    ratio = count_pixels(path, bright) / count_pixels(path, dark)
    assert 1.8 < ratio < 2.3
    assert count_pixels(path, "#E5E5E5") > 5000


def test_controls_are_hatched_below_the_scores(tmp_path: Path) -> None:
    edges = [EdgeRecord("a", "b", 0.5, 1.0), EdgeRecord("b", "a", 0.7, 1.0)]
    controls = [EdgeRecord("a", "a", 0.9, None), EdgeRecord("b", "b", 0.9, None)]
    without = draw_edge_heatmap([round_event(1, edges)], tmp_path / "without.png")
    path = draw_edge_heatmap([round_event(1, edges + controls)], tmp_path / "with.png")
    brightest = to_hex(colormaps["cividis"](1.0))
    lower = imread(path)[imread(path).shape[0] // 2 :, ..., :3]
    drawn = np.abs(lower - np.array(to_rgb(brightest))).max(axis=-1) < 0.02
    assert drawn.sum() > 2000  # the controls scored most
    hatched = lower[drawn.any(axis=1)][:, drawn.any(axis=0)]
    assert hatched.std(axis=(0, 1)).max() > 0.02  # and no even area
    assert imread(path).shape[0] >= imread(without).shape[0]


def test_a_control_is_no_arrow_but_a_number_at_its_silo(tmp_path: Path) -> None:
    edge, own = EdgeRecord("a", "b", 0.9, 1.0), EdgeRecord("b", "b", 0.95, None)
    plain = draw_topology(["a", "b"], [edge], tmp_path / "plain.png")
    marked = draw_topology(["a", "b"], [edge, own], tmp_path / "marked.png")
    assert count_pixels(marked, "#555555") == pytest.approx(
        count_pixels(plain, "#555555"), rel=0.2
    )
    assert count_pixels(marked, "#000000") > count_pixels(plain, "#000000")


def test_a_teacher_that_is_no_site_can_be_drawn(tmp_path: Path) -> None:
    edges = [EdgeRecord("a", "global", 0.9, 1.0), EdgeRecord("b", "global", 0.8, 1.0)]
    assert len(draw_all([round_event(1, edges)], tmp_path)) == 4


def test_controls_alone_can_be_drawn(tmp_path: Path) -> None:
    assert (
        len(draw_all([round_event(1, [EdgeRecord("a", "a", 1.0, None)])], tmp_path))
        == 4
    )


def test_more_edges_than_can_be_named_are_drawn_by_student(tmp_path: Path) -> None:
    sites = [f"site {index:02}" for index in range(20)]
    edges = [EdgeRecord(s, t, 0.5, 1.0) for s in sites for t in sites if s != t]
    path = draw_edge_heatmap([round_event(1, edges)], tmp_path / "heatmap.png")
    assert imread(path).shape[0] <= 13.0 * 150 + 1
