"""Figures of a run, drawn from the events of `metrics.jsonl` and nothing else.

There are numbers and site names in these figures, never pixels: the server has no
images. Drawn with matplotlib's objects and no global state, so that a server without
a screen, or with several threads, can draw.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from server.drift import warned_rounds
from server.edge_figures import draw_edges, draw_topology
from server.edge_heatmap import draw_edge_heatmap
from server.figure_style import (
    COLOURS,
    GLOBAL_STYLE,
    WORST_COLOUR,
    LineStyles,
    label,
    line_styles,
    save,
    tidy,
)
from server.series import (
    Event,
    edges_by_round,
    last_value,
    mean_edges,
    overall_series,
    site_names,
    site_series,
    worst_site,
)
from server.topology_map import draw_topology_map
from strategies.topologies.underlay import Position
from strategies.topology import Neighbours

LOSSES = {"teacher/loss": "teachers (mean)", "student/loss": "students (mean)"}
DRIFT_METRICS = ("drift/consensus_distance", *LOSSES)


def draw_all(
    events: Sequence[Event],
    folder: Path,
    *,
    neighbours: Neighbours | None = None,
    positions: Mapping[str, Position] | None = None,
) -> list[Path]:
    """Draw every figure that the events allow.

    Args:
        events: From `read_events`.
        folder: Where `curves.png`, `drift.png`, `edges.png`, `edge_heatmap.png`,
            `topology.png` and `topology_map.png` go.
        neighbours: Who teaches whom in any round, for the map; `Topology.union()`.
        positions: Latitude and longitude of the silos, degrees, for the map. Without
            both there is no map.

    Returns:
        Paths of the figures: always the curves; the drift if a round measured it;
        three about edges if a round had some; the map if asked for.
    """
    paths = [draw_curves(events, folder / "curves.png")]
    if any(last_value(overall_series(events, name)) for name in DRIFT_METRICS):
        paths.append(draw_drift(events, folder / "drift.png"))
    if by_round := edges_by_round(events):
        paths.append(draw_edges(events, folder / "edges.png"))
        paths.append(draw_edge_heatmap(events, folder / "edge_heatmap.png"))
        path = folder / "topology.png"
        paths.append(draw_topology(site_names(events), mean_edges(by_round), path))
    if neighbours is not None and positions:
        path = folder / "topology_map.png"
        paths.append(draw_topology_map(neighbours, positions, path))
    return paths


def draw_curves(events: Sequence[Event], path: Path) -> Path:
    """Draw validation Dice and training loss over the rounds.

    One line a site and a black one for the global value; the site whose Dice is worst
    in the last round has its own colour and its number at the end of its line.

    Args:
        events: From `read_events`; missing numbers leave gaps.
        path: PNG to write.

    Returns:
        The path.
    """
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    dice, loss = figure.subplots(1, 2)
    sites, worst = site_names(events), worst_site(events)
    styles = line_styles(sites, worst)
    for axes, metric in ((dice, "val/dice"), (loss, "train/loss")):
        for site in sites:
            axes.plot(*site_series(events, site, metric), **styles[site])
        axes.plot(*overall_series(events, metric), **GLOBAL_STYLE)
        axes.set_xlabel("round (0 = local warm-up)")
        tidy(axes)
    dice.set(title="Validation Dice", ylabel="Dice", ylim=(0, 1))
    loss.set(title="Training loss", ylabel="loss")
    loss.set_ylim(bottom=0)
    last = last_value(site_series(events, worst, "val/dice")) if worst else None
    if last is not None:
        _mark_end(dice, last)
    _add_legend(figure, styles, worst)
    return save(figure, path)


def draw_drift(events: Sequence[Event], path: Path) -> Path:
    """Draw how far the silos are apart, and what teachers and students get wrong.

    Left: the consensus distance, with a mark where `server.drift` warns. Right, where
    somebody teaches: the loss on the students' own frames, of teachers and students.

    Args:
        events: From `read_events`; missing numbers leave gaps.
        path: PNG to write.

    Returns:
        The path.
    """
    losses = {name: overall_series(events, metric) for metric, name in LOSSES.items()}
    is_taught = any(last_value(series) for series in losses.values())
    figure = Figure(figsize=(10 if is_taught else 5.4, 4.0), layout="constrained")
    distance, *others = figure.subplots(1, 1 + is_taught, squeeze=False)[0]
    rounds, values = overall_series(events, DRIFT_METRICS[0])
    distance.plot(rounds, values, **GLOBAL_STYLE)
    for number in warned_rounds(zip(rounds, values, strict=True)):
        height = values[rounds.index(number)]
        distance.plot(number, height, "v", markersize=11, color=WORST_COLOUR, zorder=5)
        distance.annotate(
            "keeps growing",
            (number, height),
            xytext=(-9, 4),
            textcoords="offset points",
            ha="right",
            color=WORST_COLOUR,
        )
    distance.set(title="Consensus distance of the silos", ylabel="share of the mean")
    for loss in others:
        for (name, series), colour in zip(losses.items(), COLOURS, strict=False):
            loss.plot(*series, label=name, color=colour, linewidth=1.8, marker=".")
        loss.set(title="Loss on the students' own frames", ylabel="loss")
        loss.legend(frameon=False)
    for axes in (distance, *others):
        axes.set_xlabel("round (0 = local warm-up)")
        axes.set_ylim(bottom=0)
        axes.margins(y=0.15)
        tidy(axes)
    return save(figure, path)


def _mark_end(axes: Axes, last: tuple[int, float]) -> None:
    """Write the number of the worst site at the end of its line."""
    axes.annotate(
        f"{last[1]:.2f}",
        last,
        xytext=(6, 0),
        textcoords="offset points",
        color=WORST_COLOUR,
        va="center",
        fontweight="bold",
        annotation_clip=False,
    )


def _add_legend(figure: Figure, styles: LineStyles, worst: str | None) -> None:
    handles = [Line2D([], [], **GLOBAL_STYLE)]
    labels = ["global"]
    for site, style in styles.items():
        handles.append(Line2D([], [], **style))
        labels.append(label(site) + (" (worst Dice)" if site == worst else ""))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(len(labels), 6),
        frameon=False,
        fontsize=9,
    )
