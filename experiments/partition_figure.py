"""The figure of a partition: who holds what.

A matrix of silos and data types. A square is a type that no other silo holds, a circle
one that others hold as well: shape, colour and a bar tell the same, so that nobody
needs to see colours. The number is that of patients; it also sets the area.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from clients.partition import Partition
from server.figure_style import COLOURS, label, save

OWN = {"marker": "s", "color": COLOURS[1]}  # orange, with dark text
SHARED = {"marker": "o", "color": COLOURS[0]}  # blue, with white text
WANTED = {"color": "black", "linestyle": "--", "linewidth": 1.5}
OWN_TEXT, SHARED_TEXT = "black", "white"
CELL = 0.46  # inch, side of a cell of the matrix
WIDE_CELL = 0.8  # inch, where the name of the type stands in it
LARGEST = 24  # pt, side of the mark of the largest number of patients
ROOM, DIGIT = 4, 5  # pt, around a number and of each digit: no mark is smaller
NAMES_LEVEL = 4  # data types whose names fit side by side
PACKED = 0.75  # of a mark's side, to leave room for a name
MOST_COLUMNS = 24  # more own types than fit into these share columns
CAPTION = "number = patients; a mark's area grows with it"


class _Layout(NamedTuple):
    """Where the marks are."""

    columns: list[str]  # names above
    places: NDArray[np.int64]  # (silos, types), the column of a type in a silo's row
    is_packed: bool  # different silos' own types stand below each other

    @property
    def width(self) -> float:
        """Return the width of the matrix in inch."""
        cell = WIDE_CELL if self.is_packed else CELL
        return cell * max(len(self.columns), 6)


def draw_partition(partition: Partition, silos: list[str], path: Path) -> Path:
    """Draw who holds what, and each silo's unseen share.

    Args:
        partition: Who holds what; types that nobody holds are left out.
        silos: Name of each silo, as many as the partition has.
        path: PNG to write or replace.

    Returns:
        The path.
    """
    layout = _arrange(partition)
    figure = Figure(
        figsize=(layout.width + 4.6, CELL * len(silos) + 2.5), layout="constrained"
    )
    matrix, bars = figure.subplots(1, 2, sharey=True, width_ratios=(layout.width, 2.2))
    _draw_matrix(matrix, partition, layout)
    matrix.set_yticks(range(len(silos)), [label(silo) for silo in silos])
    matrix.set_ylim(len(silos) - 0.4, -0.6)
    _draw_cells(matrix, len(silos), len(layout.columns))
    _draw_bars(bars, partition)
    figure.suptitle(_title(partition), fontsize=12, fontweight="bold")
    _draw_legend(figure, partition)
    return save(figure, path)


def _arrange(partition: Partition) -> _Layout:
    """Give each type a column, or each silo's own types the same few columns."""
    own, held = partition.own(), partition.held()
    shared = np.flatnonzero(held.sum(axis=0) > 1)
    alone = np.flatnonzero(held.sum(axis=0) == 1)
    alone = alone[np.argsort(own[:, alone].argmax(axis=0), kind="stable")]
    names = [label(partition.types[column]) for column in (*shared, *alone)]
    places = np.zeros(held.shape, np.int64)
    places[:, shared] = np.arange(len(shared))
    is_packed = len(names) > MOST_COLUMNS
    if is_packed:
        ranks = own.cumsum(axis=1) - 1
        places[own] = len(shared) + ranks[own]
        most = int(own.sum(axis=1).max())
        names[len(shared) :] = [f"own {number}" for number in range(1, most + 1)]
    else:
        places[:, alone] = len(shared) + np.arange(len(alone))
    return _Layout(names, places, is_packed)


def _draw_matrix(axes: Axes, partition: Partition, layout: _Layout) -> None:
    own, most = partition.own(), partition.patients.max()
    for row, column in np.argwhere(partition.held()):
        count, place = partition.patients[row, column], layout.places[row, column]
        is_own = bool(own[row, column])
        size = float(np.sqrt(count / most))
        if layout.is_packed and is_own:
            name = label(partition.types[column])
            axes.text(place, row + 0.36, name, ha="center", va="center", fontsize=6.5)
            _draw_mark(axes, place, row - 0.12, int(count), PACKED * size, is_own)
        else:
            _draw_mark(axes, place, row, int(count), size, is_own)
    slanted = {"rotation": 45, "ha": "left"}
    is_level = layout.is_packed or len(layout.columns) <= NAMES_LEVEL
    axes.xaxis.tick_top()
    axes.set_xticks(
        range(len(layout.columns)), layout.columns, **({} if is_level else slanted)
    )
    axes.set_xlim(-0.6, len(layout.columns) - 0.4)


def _draw_mark(
    axes: Axes, x: float, y: float, count: int, size: float, is_own: bool
) -> None:
    """Draw a mark with its number; size is the wanted share of the largest side."""
    side = max(LARGEST * size, ROOM + DIGIT * len(str(count)))
    look = OWN if is_own else SHARED
    axes.plot(x, y, markersize=side, markeredgewidth=0, **look)
    axes.text(
        x,
        y,
        str(count),
        ha="center",
        va="center_baseline",
        fontsize=8,
        color=OWN_TEXT if is_own else SHARED_TEXT,
    )


def _draw_legend(figure: Figure, partition: Partition) -> None:
    entries = {
        "only this silo holds the type": {"linestyle": "", "markersize": 11, **OWN},
        "other silos hold it as well": {"linestyle": "", "markersize": 11, **SHARED},
    }
    if partition.wanted_unseen is not None:
        entries["wanted share"] = WANTED
    figure.legend(
        handles=[Line2D([], [], label=name, **look) for name, look in entries.items()],
        loc="outside lower center",
        ncols=len(entries),
        frameon=False,
        title=CAPTION,
        title_fontsize=9,
        fontsize=9,
    )


def _draw_cells(axes: Axes, rows: int, columns: int) -> None:
    """Draw pale lines between the cells and no box."""
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#DDDDDD", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


def _draw_bars(axes: Axes, partition: Partition) -> None:
    by_type, by_frames = partition.unseen_by_type(), partition.unseen_by_frames()
    rows = np.arange(len(by_type))
    axes.barh(rows, 100, height=0.62, color="#E5E5E5")
    axes.barh(rows, by_type, height=0.62, color=OWN["color"])
    axes.plot(by_frames, rows, "D", color="black", markersize=4.5, clip_on=False)
    for row, share in enumerate(by_type):
        axes.text(104, row, f"{share:.0f} %", va="center", fontsize=9)
    if partition.wanted_unseen is not None:
        axes.axvline(partition.wanted_unseen, **WANTED)
    axes.set_xlim(0, 128)
    axes.set_xticks([0, 50, 100], ["0", "50", "100 %"])
    axes.set_title("unseen types (bar)\nand frames (diamond)", fontsize=9)
    axes.tick_params(axis="y", which="both", length=0, labelleft=False)
    axes.spines[:].set_visible(False)


def _title(partition: Partition) -> str:
    silos, types = partition.patients.shape[0], int(partition.held().any(axis=0).sum())
    by_type = partition.unseen_by_type().mean()
    by_frames = partition.unseen_by_frames().mean()
    wanted = partition.wanted_unseen
    aim = "" if wanted is None else f"wanted {wanted:.0f} %, reached "
    return (
        f"Who holds what: {silos} silos, {types} data types\n"
        f"Mean unseen data: {aim}{by_type:.0f} % by type, {by_frames:.0f} % by frames"
    )
