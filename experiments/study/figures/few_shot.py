"""Dice after finetuning on domains that nobody holds, by labelled frames."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.study.figures.style import GREY, finish, highlighted, row_styles
from experiments.study.findings import Findings, Key
from experiments.study.statistics import Summary
from experiments.study.tables import Sections
from server.figure_style import label, save

SHIFT = 0.05  # of the space between two counts


def draw_few_shot(
    findings: Findings, scenario: str, sections: Sections, path: Path
) -> Path | None:
    """Draw Dice after finetuning against the number of labelled frames.

    A line joins neighbouring counts alone: where a row was not finetuned, it breaks.

    Args:
        findings: All results.
        scenario: Name of a scenario.
        sections: Rows by group.
        path: PNG to write.

    Returns:
        The path; None if the scenario has no few-shot result.
    """
    shots = findings.shots(scenario)
    domains = list(dict.fromkeys(domain for domain, _ in shots))
    if not domains:
        return None
    figure = Figure(figsize=(1 + 4.4 * len(domains), 4.8), layout="constrained")
    panels = figure.subplots(1, len(domains), sharey=True, squeeze=False)[0]
    styles = row_styles(findings, highlighted(findings, scenario, sections))
    middle = (len(styles) - 1) / 2  # bars of many rows stand side by side
    shifts = {name: SHIFT * (place - middle) for place, name in enumerate(styles)}
    for axes, domain in zip(panels, domains, strict=True):
        counts = [0, *(count for one, count in shots if one == domain)]
        for row in (one for rows in sections.values() for one in rows):
            found = _transfer(findings, Key(scenario, row.name), domain, counts)
            if any(one is not None for one in found[1:]):  # it was finetuned
                style = styles.get(row.name, {**GREY, "marker": "."})
                places = np.arange(len(counts)) + shifts.get(row.name, 0.0)
                means = [np.nan if one is None else 100 * one.mean for one in found]
                axes.plot(places, means, **style)
                if row.name in styles:
                    sds = [100 * ((one and one.sd) or 0.0) for one in found]
                    bars = {"fmt": "none", "capsize": 2, "ecolor": style["color"]}
                    axes.errorbar(places, means, yerr=sds, **bars)
        axes.set_xticks(range(len(counts)), list(map(str, counts)))
        axes.set(xlabel="labelled frames (0: as it came)", title=label(domain))
    panels[0].set_ylabel("Dice on test frames of the domain, %")
    finish(figure, panels, f"Finetuning on domains nobody holds, {scenario}")
    return save(figure, path)


def _transfer(
    findings: Findings, key: Key, domain: str, counts: Sequence[int]
) -> list[Summary | None]:
    """Return the Dice for every count; None where the row was not finetuned so."""
    names = (
        f"few_shot/{domain}/{count}/dice" if count else f"unseen/{domain}/dice"
        for count in counts
    )
    return [findings.summary(key, name) for name in names]
