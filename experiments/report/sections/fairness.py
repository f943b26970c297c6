"""How evenly the model serves the sites."""

from markupsafe import Markup

from experiments.report.bar_chart import named_bars
from experiments.report.formats import number
from experiments.report.line_chart import Line, legend, line_chart
from experiments.report.markup import (
    Section,
    figure,
    joined,
    paragraph,
    side_by_side,
)
from experiments.report.run import Run

SERIES = {
    "val/dice": ("all frames", "all"),
    "fair/worst_site_dice": ("worst site", "warn"),
    "fair/std": ("sd over sites", "s0"),
}


def fairness_section(run: Run) -> Section | None:
    """Show the spread over sites; None before there is a score."""
    parts, charts = _test_by_site(run)
    lines = _lines(run)
    if lines:
        chart = line_chart(
            lines,
            description="Validation Dice of all frames, worst site and spread",
            x_name="round (0 = local warm-up)",
            y_range=(0.0, 1.0),
        )
        caption = "Validation Dice over the rounds"
        charts.append(figure(joined([chart, legend(lines)]), caption))
    if not charts:
        return None
    return Section("fairness", "Fairness", joined([*parts, side_by_side(charts)]))


def _test_by_site(run: Run) -> tuple[list[Markup], list[Markup]]:
    """Return a sentence and a chart of the test scores; nothing without a test."""
    scores = {
        site: values.get("test/dice") for site, values in run.test_by_site.items()
    }
    known = {site: value for site, value in scores.items() if value is not None}
    if not known:
        return [], []
    worst = min(sorted(known), key=lambda site: known[site])
    overall = run.test_overall
    chart = named_bars(
        dict(sorted(scores.items())),
        description=f"Test Dice of {len(scores)} sites, worst {worst}",
        marked=worst if len(known) > 1 else None,
        line_at=overall.get("test/dice"),
    )
    sentence = (
        f"Worst: {worst} with {number(known[worst])}; best "
        f"{number(max(known.values()))}; standard deviation over the sites "
        f"{number(overall.get('test/fair/std'))}. Few frames a site make these "
        "differences uncertain."
    )
    caption = "Test Dice by site (line: all frames; marked: the worst)"
    return [paragraph(sentence)], [figure(chart, caption)]


def _lines(run: Run) -> list[Line]:
    lines = []
    for metric, (name, style) in SERIES.items():
        points = [(float(one.number), one.overall.get(metric)) for one in run.rounds]
        if any(value is not None for _, value in points):
            lines.append(Line(name, points, style))
    return lines
