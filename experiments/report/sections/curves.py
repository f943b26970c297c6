"""Losses and scores of every site over the rounds."""

from markupsafe import Markup

from experiments.report.line_chart import Line, legend, line_chart, line_style
from experiments.report.markup import (
    EMPTY,
    Section,
    figure,
    joined,
    paragraph,
    side_by_side,
)
from experiments.report.run import Run

METRICS = {
    "train/loss": "Training loss",
    "val/loss": "Validation loss",
    "val/dice": "Validation Dice",
    "val/cldice": "Validation clDice",
}
SHARES = ("val/dice", "val/cldice")
ALL = "all sites"
ROUNDS = "round (0 = local warm-up)"


def curves_section(run: Run) -> Section | None:
    """Draw a chart for every metric; None before the first round has ended."""
    by_metric = {metric: _lines(run, metric) for metric in METRICS}
    drawn = {metric: lines for metric, lines in by_metric.items() if lines}
    if not drawn:
        return None
    charts = [
        _chart(METRICS[metric], lines, is_share=metric in SHARES)
        for metric, lines in drawn.items()
    ]
    longest = max(drawn.values(), key=len)
    parts = [legend(longest), side_by_side([*charts, _drift(run)])]
    if len(run.rounds) == 1:
        parts.append(paragraph("One round so far: dots in place of lines.", "note"))
    parts += [
        paragraph(f"Round {one.number}: {text}", "warning")
        for one in run.rounds
        for text in one.warnings
    ]
    return Section("curves", "Curves by site", joined(parts))


def _lines(run: Run, metric: str) -> list[Line]:
    """Return a line for every site with a number, then that of all.

    Lines go on over rounds after which nobody measured.
    """
    lines = []
    rounds = [
        one
        for one in run.rounds
        if metric in one.overall or any(metric in site for site in one.sites.values())
    ]
    for index, site in enumerate(run.site_names):
        points = [
            (float(one.number), one.sites.get(site, {}).get(metric)) for one in rounds
        ]
        if any(value is not None for _, value in points):
            lines.append(Line(site, points, line_style(index)))
    overall = [(float(one.number), one.overall.get(metric)) for one in rounds]
    if any(value is not None for _, value in overall):
        lines.append(Line(ALL, overall, "all"))
    return lines


def _chart(title: str, lines: list[Line], *, is_share: bool) -> Markup:
    chart = line_chart(
        lines,
        description=f"{title} over the rounds, {len(lines)} lines",
        x_name=ROUNDS,
        y_range=(0.0, 1.0) if is_share else None,
    )
    return figure(chart, title)


def _drift(run: Run) -> Markup:
    """Draw how far the silos' models are apart."""
    points = [
        (float(one.number), one.overall.get("drift/consensus_distance"))
        for one in run.rounds
    ]
    if all(value is None for _, value in points):
        return EMPTY
    chart = line_chart(
        [Line("distance", points, "all")],
        description="Distance between the silos' models over the rounds",
        x_name=ROUNDS,
    )
    return figure(chart, "Distance between the silos' models (relative)")
