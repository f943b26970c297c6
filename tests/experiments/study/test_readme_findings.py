"""What the README says of the studies is what they measured."""

from collections.abc import Iterator

import pytest

from tests.experiments.documents import README, prose, unsaid
from tests.experiments.study.measured import (
    GATE,
    OFTEN,
    RELAY,
    SCENARIOS,
    Claims,
    ablation,
    dice,
    gap,
    gigabytes,
    numbers,
    ranged,
    shots,
    student,
    unannotated_machines,
    wins,
)


def the_tour() -> Iterator[str]:
    tour, average = dice("tour"), dice("FedAvg")
    times = gigabytes("tour") / gigabytes("FedAvg")
    yield (
        f"{gap(tour, dice(RELAY))} points ({student(tour, dice(RELAY))}) above the "
        f"next and level with pooled training, at {times:.0f} times FedAvg's traffic"
    )
    short, long = dice("tour, traffic of FedAvg"), dice("tour, as long as FedAvg")
    yield f"it is {gap(short, average)} points above FedAvg, in FedAvg's time below"
    assert float(gap(dice(OFTEN), long)) > 0


def the_gate() -> Iterator[str]:
    gate, alike = ablation(GATE), ablation("EMD-gated, uniform gate")
    points = ranged(gate, alike, "points")
    assert wins(gate, alike) == 5
    there, chance = map(unannotated_machines, ("EMD gate", "uniform gate"))
    assert wins(there, chance) == len(there) == 5
    yield (
        f"{points} above teachers that count alike, and on machines of which no silo "
        f"has annotated a frame {ranged(there, chance)}, both in five of five seeds"
    )
    assert float(gap(unannotated_machines(OFTEN), there)) > 0
    eleven, eleven_alike, often = (
        dice(row, study="gaia") for row in (GATE, "EMD-gated, uniform gate", OFTEN)
    )
    assert wins(eleven, eleven_alike) == len(eleven) == 3
    yield f"looks the same ({ranged(eleven, eleven_alike)}, three seeds only)"
    assert float(gap(often, eleven)) > 0
    assert float(gap(dice("FedAvg, 2 times as often"), dice(GATE))) > 0


def the_weight() -> Iterator[str]:
    ours = ablation("FedEFM")
    for row in ("w = 1", "w = random"):
        assert abs(float(gap(ablation(row), ours))) <= 0.1, row
    points = ranged(dice("FedEFM"), dice("FedAvg"), "points")
    yield f"FedEFM is {points} above FedAvg"


def few_shots() -> Iterator[str]:
    tour = shots("tour", 5)
    yield (
        f"the tour is a start {gap(tour, shots('random', 5))} points above a random "
        f"one with 5 frames"
    )
    for row in ("pooled", OFTEN):
        assert abs(float(gap(tour, shots(row, 5)))) < 1, row


CLAIMS = the_tour, the_gate, the_weight, few_shots


@pytest.mark.parametrize("claims", CLAIMS, ids=lambda one: str(one.__name__))
def test_the_sentences_say_what_was_measured(claims: Claims) -> None:
    assert unsaid(README, "### Against whom", claims()) == []


@pytest.mark.parametrize(
    ("study", "scenario"),
    [
        ("unseen", "unseen 50"),
        *((one, SCENARIOS[one]) for one in ("small", "gaia", "labels", "unannotated")),
    ],
)
def test_the_tour_beats_every_federation_there(study: str, scenario: str) -> None:
    means = {
        row: sum(values.values()) / len(values)
        for (place, row, part, measure), values in numbers(study).items()
        if (place, part, measure) == (scenario, "test", "dice")
        and not row.startswith("pooled")
        and not row.endswith(("at home", "oracle"))
    }
    assert len(means) > 7
    assert max(means, key=lambda row: means[row]) == "tour"


def test_seeds_of_the_studies() -> None:
    said = (
        "three seeds for methods and for eleven silos, five for what else is said of "
        "the EMD"
    )
    assert said in prose(README, "### Against whom")
    seeds = {"small": 3, "gaia": 3, "ablation": 5, "labels": 5}
    for study, count in seeds.items():
        assert len(dice(GATE, study)) == count, study
    assert len(dice(GATE, "unseen", scenario="unseen 100")) == 3
    assert len(unannotated_machines("EMD gate")) == 5
