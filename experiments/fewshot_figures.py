"""Test Dice and clDice against the number of labelled frames, both starts.

Means with sample standard deviations over seeds, and every single run beside them:
three seeds are too few to hide behind a bar. Drawn with matplotlib's objects and no
global state; the two colours are from Okabe and Ito ("Color Universal Design", 2008).
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.fewshot import STARTS, FinetuneResult
from experiments.fewshot_report import spread_of

START_STYLES = {"random": ("#7F7F7F", "s"), "foundation": ("#0072B2", "o")}
DPI = 150
DODGE = 0.09  # of the distance between two numbers of shots


def draw_fewshot(results: Sequence[FinetuneResult], path: Path, *, domain: str) -> Path:
    """Draw the study.

    Args:
        results: Of the whole study.
        path: PNG to write.
        domain: For the title.

    Returns:
        The path.
    """
    figure = Figure(figsize=(9.5, 4.3), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, name, title in zip(
        panels, ("test_dice", "test_cldice"), ("Dice", "clDice"), strict=True
    ):
        _draw_metric(axes, results, name)
        axes.set(title=title, ylabel=f"{title} on test frames (1 = perfect)")
    seeds = len({one.seed for one in results})
    frames = max(one.test_frames for one in results)
    figure.suptitle(
        f"Finetuning on the unseen domain “{domain}”: mean ± sd, "
        f"seeds: {seeds}, test frames: {frames}",
        fontsize=11,
    )
    handles, labels = panels[0].get_legend_handles_labels()
    by_label = dict(sorted(zip(labels, handles, strict=True)))
    figure.legend(
        by_label.values(),
        by_label.keys(),
        loc="outside lower center",
        ncols=len(labels),
        frameon=False,
    )
    figure.savefig(path, dpi=DPI)
    return path


def _draw_metric(axes: Axes, results: Sequence[FinetuneResult], name: str) -> None:
    shots = sorted({one.shots for one in results})
    for start, side in zip(STARTS, (-1, 1), strict=True):
        colour, marker = START_STYLES[start]
        places = [index + side * DODGE for index in range(len(shots))]
        spreads = [spread_of(results, count, start, name) for count in shots]
        axes.errorbar(
            places,
            [spread.mean for spread in spreads],
            yerr=[spread.sd for spread in spreads],
            color=colour,
            marker=marker,
            markersize=7,
            linewidth=1.8,
            capsize=4,
            label=f"from {start} weights",
        )
        runs = [one for one in results if one.start == start]
        axes.plot(
            [shots.index(one.shots) + side * (DODGE + 0.08) for one in runs],
            [getattr(one, name) for one in runs],
            linestyle="none",
            marker=marker,
            markersize=3.5,
            alpha=0.55,
            color=colour,
            label=f"single runs, {start}",
        )
    axes.set_xticks(range(len(shots)), [str(count) for count in shots])
    axes.set_xlim(-0.4, len(shots) - 0.6)
    axes.set_ylim(0, 1)
    axes.set_xlabel("labelled frames of the unseen domain (shots)")
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
