"""What the README's front page says came out is what the committed runs say."""

import csv
import json
import statistics
from typing import Any

import pytest
from scipy.stats import t as student

from tests.experiments.documents import README, RESULTS, prose, tables

HEADING = "## What came out"
RUNS = RESULTS / "front_page"
CLASS_COLUMNS = {
    "Dice": ("pooled.dice", 3),
    "IoU": ("pooled.iou", 3),
    "HD95, px": ("device-image.hd95-px", 1),
    "ASSD, px": ("device-image.assd-px", 1),
    "breaks": ("device-image.breaks", 2),
    "tip error, px": ("device-image.tip-error-px", 1),
    "AUC": ("pooled.auc", 3),
}


def table(first: str) -> list[dict[str, str]]:
    """Return the lines of the table whose first column is headed so."""
    ((head, lines),) = tables(README, HEADING, first)
    return [dict(zip(head, line, strict=True)) for line in lines]


def result(run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RUNS / run / "result.json").read_text())
    return found


def events(run: str) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for line in (RUNS / run / "metrics.jsonl").read_text().splitlines()
    ]


def starts() -> dict[tuple[str, str], list[dict[str, str]]]:
    """Return the few-shot runs by frames and start, in the order of seeds."""
    with (RUNS / "fedefm" / "fewshot.csv").open(encoding="utf-8", newline="") as stream:
        lines = sorted(csv.DictReader(stream), key=lambda line: int(line["seed"]))
    keys = sorted({(line["shots"], line["start"]) for line in lines})
    return {
        key: [one for one in lines if (one["shots"], one["start"]) == key]
        for key in keys
    }


def spread(values: list[float], sign: str = "") -> str:
    """Return the mean and half of its 95 % t-interval as the README writes them."""
    half = (
        student.ppf(0.975, len(values) - 1)
        * statistics.stdev(values)
        / len(values) ** 0.5
    )
    return f"{statistics.mean(values):{sign}.3f} ± {half:.3f}"


def test_every_hospital() -> None:
    found = result("fedefm")
    lines = table("hospital")
    assert {line["hospital"] for line in lines} == {*found["sites"], "all frames"}
    for line in lines:
        scores = {**found["test"], "all frames": found["global"]}[line["hospital"]]
        assert line["Dice"] == f"{scores['test/dice']:.3f}"
        assert line["clDice"] == f"{scores['test/cldice']:.3f}"


def test_every_class() -> None:
    scores = result("fedefm")["global"]
    lines = table("all frames")
    assert [line["all frames"] for line in lines] == ["catheter", "guidewire"]
    for line in lines:
        for heading, (name, digits) in CLASS_COLUMNS.items():
            value = scores[f"test/{line['all frames']}/{name}"]
            assert line[heading] == f"{value:.{digits}f}", heading


def test_few_shots() -> None:
    runs = starts()
    lines = table("labelled frames")
    assert [line["labelled frames"] for line in lines] == ["1", "5", "10"]
    for line in lines:
        dice = {}
        for start in ("random", "foundation"):
            mine = runs[line["labelled frames"], start]
            dice[start] = [float(one["test-dice"]) for one in mine]
            assert line[f"{start}: Dice"] == spread(dice[start])
            assert line[f"{start}: clDice"] == spread(
                [float(one["test-cldice"]) for one in mine]
            )
        gains = [a - b for a, b in zip(dice["foundation"], dice["random"], strict=True)]
        assert line["gain in Dice"] == spread(gains, "+")


def test_the_foundation_untouched_was_best_twice() -> None:
    chosen = [one["chosen-step"] for runs in starts().values() for one in runs]
    mine = [
        one["chosen-step"]
        for key, runs in starts().items()
        for one in runs
        if key[1] != "random"
    ]
    assert (len(chosen), len(mine), mine.count("0")) == (18, 9, 2)
    assert "In two of nine runs the untouched foundation was the best choice" in prose(
        README, HEADING
    )


@pytest.mark.parametrize(
    ("row", "run"),
    [
        ("FedEFM, EMD", "fedefm"),
        ("FedEFM, weight 1", "weight_one"),
        ("FedAvg", "fedavg"),
        ("one model on tour", "tour"),
    ],
)
def test_every_strategy(row: str, run: str) -> None:
    (line,) = (
        one
        for one in table("strategy (`endofed simulate …`)")
        if next(iter(one.values())).startswith(row)
    )
    scores = result(run)["global"]
    sent = sum(
        one.get(f"bytes_{way}", 0) for one in events(run) for way in ("up", "down")
    )
    assert line["Dice"] == f"{scores['test/dice']:.3f}"
    assert line["clDice"] == f"{scores['test/cldice']:.3f}"
    assert line["traffic"] == f"{sent / 1e9:.1f} GB"


def test_what_the_score_says() -> None:
    shares = json.loads((RUNS / "fedefm" / "score_variance.json").read_text())["shares"]
    rounds = [one for one in events("fedefm") if one.get("edges")]
    first, last = (
        statistics.mean(e["score"] for e in one["edges"])
        for one in (rounds[0], rounds[-1])
    )
    climbs = f"climbs from {first:.1f} to {last:.1f}"
    said = f"{100 * shares['round']:.0f} % of its variance is the round, "
    said += f"{100 * shares['host+student+pair']:.0f} % which silo and which teacher"
    assert climbs in prose(README, HEADING)
    assert said in prose(README, HEADING)
    assert f"{100 * shares['rest']:.0f} % the rest" in prose(README, HEADING)


def test_the_runs_are_those_that_the_commands_make() -> None:
    cards = {
        one.parent.name: json.loads(one.read_text())
        for one in RUNS.glob("*/foundation.json")
    }
    weight = {
        run: card["settings"]["fedefm.edge-weight"] for run, card in cards.items()
    }
    assert weight["weight_one"] == "one" != weight["fedefm"]
    assert cards["fedavg"]["settings"]["strategy"] == "fedavg"
    assert cards["tour"]["settings"]["fedefm.route"] == "tour"
    assert {card["seed"] for card in cards.values()} == {0}
    digests = {
        tuple(site["data-digest"] for site in card["sites"]) for card in cards.values()
    }
    assert len(digests) == 1, "the four strategies saw the same frames"
