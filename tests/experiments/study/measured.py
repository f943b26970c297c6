"""What the committed studies measured, and how the findings write it."""

import csv
from collections.abc import Callable, Iterator
from functools import cache

from experiments.study.statistics import Difference, paired_difference, student_interval
from tests.experiments.documents import RESULTS

HOME = "local, at home"
GATE = "EMD-gated, standardised"
OFTEN = "FedAvg, 4 times as often"
RELAY = "relay, 8 times as often"
WORST = "worst_site_dice"

SCENARIOS = {
    "small": "unseen 100",
    "ablation": "unseen 100",
    "gaia": "Gaia, unseen 100",
    "labels": "unseen 100, disjoint labels",
    "unannotated": "unseen 100, half of the machines annotated",
}
"""The scenario of a study that has but one."""

Seeds = dict[int, float]
"""Points of Dice by seed."""

Claims = Callable[[], Iterator[str]]
"""Tells words that must stand in a section, with the numbers that were measured."""


@cache
def numbers(study: str) -> dict[tuple[str, ...], Seeds]:
    """Return what was measured by scenario, row, part and measure."""
    found: dict[tuple[str, ...], Seeds] = {}
    with (RESULTS / study / "results.csv").open(encoding="utf-8", newline="") as stream:
        for line in csv.DictReader(stream):
            key = tuple(line[name] for name in ("scenario", "row", "part", "measure"))
            if line["value"]:
                found.setdefault(key, {})[int(line["seed"])] = float(line["value"])
    return found


def dice(
    row: str,
    study: str = "small",
    part: str = "test",
    measure: str = "dice",
    scenario: str | None = None,
) -> Seeds:
    """Return what a row has; the scenario may be left out where a study has one."""
    values = numbers(study)[scenario or SCENARIOS[study], row, part, measure]
    return {seed: 100 * value for seed, value in values.items()}


def shots(row: str, count: int) -> Seeds:
    return dice(row, part=f"few_shot/neuro/{count}")


def ablation(row: str, measure: str = "dice") -> Seeds:
    return dice(row, study="ablation", measure=measure)


def unannotated_machines(row: str) -> Seeds:
    """Return Dice on the second machines of `unannotated`, mean of the four."""
    parts = [
        dice(row, "unannotated", f"unseen/random-{number}") for number in (4, 5, 6, 7)
    ]
    return {seed: sum(one[seed] for one in parts) / 4 for seed in parts[0]}


def mean(values: Seeds) -> str:
    return f"{sum(values.values()) / len(values):.1f}"


def difference(one: Seeds, other: Seeds) -> Difference:
    found = paired_difference(one, other)
    assert found is not None
    return found


def gap(one: Seeds, other: Seeds) -> str:
    """Return the paired difference."""
    return f"{difference(one, other).mean:.1f}"


def ranged(one: Seeds, other: Seeds, unit: str = "") -> str:
    """Return the paired difference and the range that its seeds leave.

    Args:
        one: Dice of a row.
        other: Of what it is compared with.
        unit: A word behind the difference.
    """
    found = difference(one, other)
    words = f"{found.mean:.1f} {unit}".strip()
    return f"{words} [{found.low:.1f}, {found.high:.1f}]"


def student(one: Seeds, other: Seeds) -> str:
    """Return the 95 % interval of the difference by Student's t."""
    ends = student_interval(one, other)
    assert ends is not None
    return f"t [{ends[0]:.1f}, {ends[1]:.1f}]"


def wins(one: Seeds, other: Seeds) -> int:
    return sum(one[seed] > other[seed] for seed in one.keys() & other.keys())


def gigabytes(row: str) -> float:
    """Return the traffic of a whole run of `small`, mean over seeds."""
    rounds, each = (
        numbers("small")[SCENARIOS["small"], row, "cost", name]
        for name in ("rounds", "mb_per_round")
    )
    return sum(rounds[seed] * each[seed] for seed in rounds) / len(rounds) / 1000


def transport() -> list[list[float]]:
    """Return what every gate gains over its twin of one node, seed by seed."""
    gates = [
        ("ablation", GATE),
        ("ablation", "EMD-gated, stride 4"),
        ("labels", GATE),
        ("labels", "EMD gate of annotators"),
        ("unannotated", "EMD gate"),
        ("gaia", GATE),
    ]
    found = []
    for study, row in gates:
        gate, node = dice(row, study), dice(f"{row}, one node", study)
        assert gate.keys() == node.keys()
        found.append([gate[seed] - node[seed] for seed in gate])
    return found
