"""Test scores against the number of labelled frames, and how training went.

Means with 95 % intervals over seeds, and every single run beside them: three seeds are
too few to hide behind a bar. Drawn with matplotlib's objects and no global state;
colours are from Okabe and Ito ("Color Universal Design", 2008).
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.finetuning.fewshot import (
    SCORE_TITLES,
    SCORES,
    FinetuneResult,
    shots_order,
    shots_text,
)
from experiments.finetuning.report import Row, rows_of, runs_of, spread_of, task_of

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")  # by method
RANDOM_COLOURS = ("#7F7F7F", "#A65628", "#5F8A7B", "#A08CA0", "#A89060")
MARKERS = {"random": "s", "foundation": "o"}
DPI = 150
SPREAD = 0.36  # of the distance between two numbers of shots, for all lines

Line = tuple[str, str]  # method and start


def draw_fewshot(results: Sequence[FinetuneResult], path: Path, *, domain: str) -> Path:
    """Draw the study.

    Args:
        results: Of the whole study.
        path: PNG to write.
        domain: What was finetuned on, for the title.

    Returns:
        The path.
    """
    figure = Figure(figsize=(9.5, 4.6), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, name in zip(panels, SCORES[task_of(results)], strict=True):
        title = SCORE_TITLES[name]
        _draw_metric(axes, results, name)
        axes.set(title=title, ylabel=f"{title} on test frames (1 = perfect)")
    seeds = len({one.seed for one in results})
    frames = max(one.test_frames for one in results)
    figure.suptitle(
        f"Finetuning on {domain}: mean and 95 % t-interval, "
        f"seeds: {seeds}, test frames: {frames}",
        fontsize=11,
    )
    _add_legend(figure, panels[0])
    return _save(figure, path)


def draw_curves(results: Sequence[FinetuneResult], path: Path) -> Path:
    """Draw loss and validation score of every run against its steps.

    Args:
        results: Of the whole study, with their curves.
        path: PNG to write.

    Returns:
        The path.
    """
    shots = sorted({one.shots for one in results}, key=shots_order)
    figure = Figure(figsize=(3.2 * max(len(shots), 2), 5.6), layout="constrained")
    panels = figure.subplots(2, len(shots), squeeze=False, sharex=True, sharey="row")
    title = SCORE_TITLES[SCORES[task_of(results)][0]]
    for column, count in enumerate(shots):
        for place, (method, start) in enumerate(_lines(results)):
            colour = _colour(results, (method, start))
            for one in runs_of(results, Row(method, count, start)):
                steps = [point["step"] for point in one.curve]
                for axes, key in zip(
                    panels[:, column], ("train-loss", "validation"), strict=True
                ):
                    axes.plot(
                        steps,
                        [point[key] for point in one.curve],
                        color=colour,
                        linewidth=1.2,
                        alpha=0.8,
                        zorder=place,
                        label=_label((method, start), results),
                    )
                panels[1, column].plot(
                    one.chosen_step, one.validation, marker="*", color=colour
                )
        panels[0, column].set_title(f"shots: {shots_text(count)}", fontsize=10)
        panels[1, column].set(xlabel="step", ylim=(0, 1))
    panels[0, 0].set_ylabel("training loss")
    panels[1, 0].set_ylabel(f"validation {title} (★ = chosen)")
    for axes in panels.flat:
        _tidy(axes)
    _add_legend(figure, panels[0, 0])
    return _save(figure, path)


def _draw_metric(axes: Axes, results: Sequence[FinetuneResult], name: str) -> None:
    shots = sorted({one.shots for one in results}, key=shots_order)
    lines = _lines(results)
    width = SPREAD / len(lines)
    for number, line in enumerate(lines):
        side = (number - (len(lines) - 1) / 2) * width
        colour, marker = _colour(results, line), MARKERS[line[1]]
        rows = [row for row in rows_of(results) if (row.method, row.start) == line]
        spreads = [spread_of(results, row, name) for row in rows]
        axes.errorbar(
            [shots.index(row.shots) + side for row in rows],
            [spread.mean for spread in spreads],
            yerr=[spread.half_width for spread in spreads],
            color=colour,
            marker=marker,
            markersize=6,
            linewidth=1.8,
            linestyle="--" if line[1] == "random" else "-",
            capsize=3,
            label=_label(line, results),
        )
        runs = [one for one in results if (one.method, one.start) == line]
        axes.plot(
            [shots.index(one.shots) + side + width / 3 for one in runs],
            [one.scores[name] for one in runs],
            linestyle="none",
            marker=marker,
            markersize=3,
            alpha=0.55,
            color=colour,
        )
    axes.set_xticks(range(len(shots)), [shots_text(count) for count in shots])
    axes.set_xlim(-0.5, len(shots) - 0.5)
    axes.set_ylim(0, 1)
    axes.set_xlabel("labelled frames (shots); small marks: single runs")
    _tidy(axes)


def _lines(results: Sequence[FinetuneResult]) -> list[Line]:
    return list(dict.fromkeys((row.method, row.start) for row in rows_of(results)))


def _colour(results: Sequence[FinetuneResult], line: Line) -> str:
    methods = list(dict.fromkeys(method for method, _ in _lines(results)))
    colours = RANDOM_COLOURS if line[1] == "random" else COLOURS
    return colours[methods.index(line[0])]


def _label(line: Line, results: Sequence[FinetuneResult]) -> str:
    method, start = line
    several = len({one.method for one in results}) > 1
    return f"{method}, from {start}" if several else f"from {start} weights"


def _add_legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    by_label = dict(zip(labels, handles, strict=True))
    figure.legend(
        by_label.values(),
        by_label.keys(),
        loc="outside lower center",
        ncols=max(int(figure.get_figwidth() / 2.4), 1),
        frameon=False,
    )


def _tidy(axes: Axes) -> None:
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path) -> Path:
    # Whole or not at all, as the tables are.
    temporary = path.with_name(f".{path.name}.part")
    figure.savefig(temporary, dpi=DPI, format="png")
    return temporary.replace(path)
