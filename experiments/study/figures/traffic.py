"""What a row's Dice costs: test Dice against bytes, and which rows cost least for it.

A row is on the frontier if no row has its mean Dice or more for fewer bytes. The
frontier is read off test frames, which flatters it as bold print in tables does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from experiments.study.columns import DICE
from experiments.study.figures.style import (
    GB,
    GREY,
    finish,
    highlighted,
    make_traffic_axis,
    row_styles,
)
from experiments.study.findings import Findings, Key
from experiments.study.tables import Sections
from server.figure_style import COLOURS, save

BYTES = "cost/bytes"
MARKERS = "osD^"
FRONTIER = "most Dice for the traffic"


class Price(NamedTuple):
    """Means over seeds of what a row sends and reaches."""

    gigabytes: float  # both ways, all silos
    dice: float  # on all sites' test frames, %
    sd: float  # of the Dice over seeds; 0 with one seed


def prices_of(
    findings: Findings, scenario: str, sections: Sections
) -> dict[str, Price]:
    """Return what the rows' one model for all has cost and reaches.

    Args:
        findings: All results.
        scenario: Name of a scenario.
        sections: Rows by group.

    Returns:
        By row, in the order of the sections; without rows that send nothing, and
        without those that are judged by silos' own models.
    """
    found = {}
    for row in (one for rows in sections.values() for one in rows):
        key = Key(scenario, row.name)
        dice, sent = findings.summary(key, DICE), findings.summary(key, BYTES)
        if row.model_of == "global" and dice and sent and sent.mean > 0:
            sd = 100 * (dice.sd or 0.0)
            found[row.name] = Price(sent.mean / GB, 100 * dice.mean, sd)
    return found


def frontier(prices: Mapping[str, Price]) -> list[str]:
    """Return the rows that no other one beats at their traffic or less.

    Args:
        prices: By row.

    Returns:
        Their names, cheapest first; of two rows with the same price the first.
    """
    found: list[str] = []
    for name in sorted(prices, key=lambda one: (prices[one][0], -prices[one].dice)):
        if not found or prices[name].dice > prices[found[-1]].dice:
            found.append(name)
    return found


def draw_traffic(
    findings: Findings, scenario: str, sections: Sections, path: Path
) -> Path | None:
    """Draw mean test Dice against bytes; named rows with their deviation over seeds.

    Args:
        findings: All results.
        scenario: Name of a scenario.
        sections: Rows by group, of all tables.
        path: PNG to write.

    Returns:
        The path; None if fewer than two rows send anything.
    """
    prices = prices_of(findings, scenario, sections)
    if len(prices) < 2:
        return None
    oracles = {  # which know masks that no hospital has
        row.name
        for rows in sections.values()
        for row in rows
        if row.settings.get("fedefm.edge-weight") == "oracle"
    }
    best = frontier({one: prices[one] for one in prices if one not in oracles})
    wanted = dict.fromkeys([*highlighted(findings, scenario, sections), *best])
    styles = row_styles(findings, [name for name in wanted if name in prices])
    figure = Figure(figsize=(7.5, 5.6), layout="constrained")
    axes = figure.subplots()
    bound = findings.spec.upper_bound
    if found := findings.summary(Key(scenario, bound), DICE):
        axes.axhline(100 * found.mean, color="black", linestyle=":", label=bound)
    front = [prices[name][:2] for name in best]
    line = {"color": "black", "linewidth": 0.8, "zorder": 2}
    axes.step(*zip(*front, strict=True), where="post", label=FRONTIER, **line)
    for name, price in prices.items():
        if name not in styles:
            axes.plot(*price[:2], "o", color=GREY["color"], markersize=4)
    for place, (name, style) in enumerate(styles.items()):
        marker = MARKERS[place // len(COLOURS) % len(MARKERS)]
        look = {"fmt": marker, "color": style["color"], "capsize": 3, "zorder": 3}
        axes.errorbar(*prices[name], label=style["label"], **look)
    make_traffic_axis(axes)
    axes.set_ylabel("Dice on all sites' test frames, %")
    finish(figure, [axes], f"Dice and traffic, {scenario}")
    return save(figure, path)
