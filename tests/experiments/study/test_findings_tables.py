"""The tables of the findings and the README say what the results say."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import stdev

import pytest

from tests.experiments.documents import FINDINGS, README, RESULTS, tables
from tests.experiments.study.measured import mean, unannotated_machines

Line = Mapping[str, str]


def share(name: str) -> Callable[[Line], str]:
    """Return how a table writes a share: percent, mean ± deviation."""

    def text(line: Line) -> str:
        middle, sd = line[f"{name} mean"], line[f"{name} sd"]
        return f"{100 * float(middle):.1f} ± {100 * float(sd):.1f}" if middle else "–"

    return text


def difference(line: Line) -> str:
    """Return points of Dice above the row that the table compares with."""
    marks = {name.rpartition(" ")[2]: name for name in line if name[:7] == "dice - "}
    middle, low, high = (line[marks[one]] for one in ("mean", "low", "high"))
    if not middle:
        return "–"
    interval = f" [{100 * float(low):+.1f}, {100 * float(high):+.1f}]" if low else ""
    return f"{100 * float(middle):+.1f}{interval}"


def gigabytes(line: Line) -> str:
    rounds, megabytes = line["cost/rounds mean"], line["cost/mb_per_round mean"]
    if not megabytes or float(megabytes) == 0:
        return "–"
    return f"{float(rounds) * float(megabytes) / 1000:.1f}"


def second_machines(line: Line) -> str:
    found = unannotated_machines(line["row"])
    return f"{mean(found)} ± {stdev(found.values()):.1f}"


COLUMNS = {
    "Dice": share("test/dice"),
    "worst silo": share("test/worst_site_dice"),
    "unseen domain": share("unseen/neuro/dice"),
    "5-shot there": share("few_shot/neuro/5/dice"),
    "Δ": difference,
    "seeds": lambda line: line["seeds"],
    "traffic, GB": gigabytes,
    "unannotated machines": second_machines,
}


def read(name: str) -> dict[str, Line]:
    with (RESULTS / name).open(encoding="utf-8", newline="") as stream:
        return {line["row"]: line for line in csv.DictReader(stream)}


STEPS = "small/table_unseen-100_equal-steps.csv"


@pytest.mark.parametrize(
    ("document", "heading", "files"),
    [
        (
            FINDINGS,
            "## Four silos with nothing in common",
            [
                STEPS,
                "small/table_unseen-100_equal-traffic.csv",
                "small/table_unseen-100_equal-length.csv",
            ],
        ),
        (
            FINDINGS,
            "## Eleven silos",
            ["gaia/table_gaia-unseen-100_equal-steps.csv"],
        ),
        (
            FINDINGS,
            "## Silos that annotate different devices",
            ["labels/table_unseen-100-disjoint-labels_equal-steps.csv"],
        ),
        (
            FINDINGS,
            "## Frames that nobody has annotated",
            [
                "unannotated/table_unseen-100-half-of-the-machines-annotated"
                "_equal-steps.csv"
            ],
        ),
        (
            FINDINGS,
            "## What each part is worth",
            [
                "ablation/table_unseen-100_ablation-of-the-gate.csv",
                "ablation/table_unseen-100_ablation-of-fedefm.csv",
            ],
        ),
        (README, "### Against whom", [STEPS]),
    ],
)
def test_every_cell_is_that_of_the_results(
    document: Path, heading: str, files: list[str]
) -> None:
    found = tables(document, heading)
    assert found
    known = {name: line for file in files for name, line in read(file).items()}
    for head, lines in found:
        assert len(lines) > 3
        for name, *cells in lines:
            for column, cell in zip(head[1:], cells, strict=True):
                assert cell == COLUMNS[column](known[name]), (name, column)


def test_what_a_start_is_worth_with_few_shots() -> None:
    ((head, lines),) = tables(FINDINGS, "## Four silos with nothing in common", "start")
    assert head[1:] == ["1", "5", "10", "20", "50"]
    known = read(STEPS)
    for name, *cells in lines:
        for count, cell in zip(head[1:], cells, strict=True):
            wanted = share(f"few_shot/neuro/{count}/dice")(known[name])
            assert cell == wanted, (name, count)
    assert {"random", "local", "FedAvg", "FedEFM"} < {name for name, *_ in lines}


METHODS = {
    "FedAvg": "FedAvg",
    "FedEFM": "FedEFM",
    "EMD gate": "EMD-gated, standardised",
    "gossip": "gossip on the ring",
    "feedback of neighbours": "feedback of neighbours",
    "relay, 8 times as often": "relay, 8 times as often",
    "tour": "tour",
    "pooled": "pooled",
}
FGA_GATE = ", on FGA-Net's features of stride 2"


def test_how_much_unseen_data_it_takes() -> None:
    heading = "## How much unseen data it takes"
    ((head, lines),) = tables(FINDINGS, heading, "network, unseen")
    assert head[1:] == list(METHODS)
    assert {name.split(",")[0] for name, *_ in lines} == {"sam-tiny", "small FGA-Net"}
    for name, *cells in lines:
        network, share_unseen = name.removesuffix(" %").split(", ")
        scenario = f"unseen {share_unseen}"
        if network != "sam-tiny":
            scenario = f"{network}, {scenario}"
        slug = scenario.lower().replace(", ", "-").replace(" ", "-")
        known = read(f"unseen/table_{slug}_equal-steps.csv")
        for heading, cell in zip(head[1:], cells, strict=True):
            row = METHODS[heading]
            line = known.get(row) or known.get(row + FGA_GATE)
            assert (line is None) == (cell == "–"), (name, heading)
            if line is not None:
                assert line["seeds"] == "3", (name, heading)
                middle = 100 * float(line["test/dice mean"])
                assert cell == f"{middle:.1f}", (name, heading)
