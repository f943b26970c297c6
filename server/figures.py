"""Figures of a run, drawn from the events of `metrics.jsonl` and nothing else.

There are numbers and site names in these figures, never pixels: the server has no
images. Drawn with matplotlib's objects and no global state, so that a server without
a screen, or with several threads, can draw.
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from server.edge_figures import draw_edges, draw_topology
from server.figure_style import (
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
    overall_series,
    site_names,
    site_series,
    worst_site,
)


def draw_all(events: Sequence[Event], folder: Path) -> list[Path]:
    """Draw every figure that the events allow.

    Args:
        events: From `read_events`.
        folder: Where `curves.png`, `edges.png` and `topology.png` go.

    Returns:
        Paths of the figures; the last two only if a round had edges.
    """
    paths = [draw_curves(events, folder / "curves.png")]
    by_round = edges_by_round(events)
    if by_round:
        paths.append(draw_edges(events, folder / "edges.png"))
        edges = by_round[max(by_round)]
        path = folder / "topology.png"
        paths.append(draw_topology(site_names(events), edges, path))
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
