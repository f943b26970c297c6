"""What the findings say of the EMD, part by part, is what five seeds measured."""

import csv
from collections.abc import Iterator

import pytest

from tests.experiments.documents import FINDINGS, RESULTS, unsaid
from tests.experiments.study.measured import (
    GATE,
    OFTEN,
    WORST,
    Claims,
    Seeds,
    ablation,
    dice,
    gap,
    mean,
    ranged,
    student,
    transport,
    unannotated_machines,
    wins,
)


def the_gate() -> Iterator[str]:
    gate, alike = ablation(GATE), ablation("EMD-gated, uniform gate")
    chance, oracle = ablation("EMD-gated, random gate"), ablation("EMD-gated, oracle")
    raw, centred = ablation("EMD-gated, raw EMD"), ablation("EMD-gated")
    node = ablation(f"{GATE}, one node")
    assert wins(gate, alike) == wins(gate, chance) == len(gate) == 5
    assert wins(gate, node) == 3
    points = ranged(gate, alike, "points")
    yield (
        f"It is {points} above teachers that count alike and {ranged(gate, chance)} "
        f"above a random gate, in five of five seeds"
    )
    late = {seed: gate[seed] for seed in (3, 4)}
    yield (
        f"less in the two that came after it was designed (on average "
        f"{gap(late, alike)} and {gap(late, chance)})"
    )
    yield ranged(oracle, gate, "above it")
    yield f"({mean(raw)} and {mean(centred)} to the {mean(alike)} of teachers that"
    yield (
        ranged(gate, node, "lower") + ", in three of five seeds, "
        "the worst silo "
        f"{float(gap(ablation(GATE, WORST), ablation(f'{GATE}, one node', WORST))):.0f}"
        " lower"
    )
    coarse, its_node = (
        ablation(f"EMD-gated, stride 4{one}") for one in ("", ", one node")
    )
    seen, seen_coarse = (
        dice(row, study="ablation", part="validation")[0]
        for row in (GATE, "EMD-gated, stride 4")
    )
    yield (
        f"choose by {seen_coarse - seen:.1f}, the gate is "
        f"{ranged(gate, coarse)} lower and transport gains it "
        f"{ranged(coarse, its_node)}"
    )
    small = ranged(dice(GATE), dice("FedAvg"))
    yield f"they lie {small} above FedAvg and below averaging twice as often"


def transport_everywhere() -> Iterator[str]:
    gains = dict(enumerate(gain for gate in transport() for gain in gate))
    nothing = dict.fromkeys(gains, 0.0)
    yield (
        f"In the {len(gains)} pairs of runs of all six gates, of whatever study, it is "
        f"{gap(gains, nothing)} points ({student(gains, nothing)}) above one node, in "
        f"{wins(gains, nothing)} of {len(gains)}, and in no comparison below"
    )
    assert all(sum(gate) > 0 for gate in transport())


def the_weight() -> Iterator[str]:
    ours = ablation("FedEFM")
    flat, chance = ablation("w = 1"), ablation("w = random")
    yield f"{ranged(flat, ours)} and {ranged(chance, ours)} to w = EMD"
    eight = ablation("grid 8 × 8 of stride 4")
    assert float(gap(ours, eight)) > 0
    yield f"it is {ranged(ours, eight)} lower"
    same = ("grid 1 × 1", "grid 6 × 6", "cross-reference masses", "EMD gradient: flow")
    for row in same:
        assert abs(float(gap(ablation(row), ours))) <= 0.2, row
    for row in ("T = 4", "beta = 0.5"):
        assert abs(float(gap(ablation(row), ours))) <= 1.0, row


def what_carries_fedefm() -> Iterator[str]:
    ours = ablation("FedEFM")
    nothing, half = ablation("nothing is fed back"), ablation("feedback of neighbours")
    yield f"without it the mean is no model ({mean(nothing)})"
    yield ranged(ours, half, "points") + " are lost"
    abroad, distilled = ablation("overseas off"), ablation("distillation off")
    yield f"({ranged(ours, abroad)} and {ranged(ours, distilled)})"


def silos_that_annotate_different_devices() -> Iterator[str]:
    def labels(row: str) -> Seeds:
        found = dice(row, study="labels")
        assert len(found) == 5
        return found

    tour, often, average = labels("tour"), labels(OFTEN), labels("FedAvg")
    pooled, ours = labels("pooled"), labels("FedEFM")
    assert (wins(tour, average), wins(tour, often), wins(ours, average)) == (5, 4, 4)
    yield (
        f"{gap(tour, pooled)} ({student(tour, pooled)}), {gap(tour, average)} "
        f"({student(tour, average)}) above FedAvg in five of five seeds, "
        f"{gap(tour, often)} ({student(tour, often)}) above averaging 4 times as often"
    )
    yield f"**FedEFM** is {ranged(ours, average)} above FedAvg in four of five seeds"
    for row in ("FedEFM, unannotated classes only", "FedEFM of annotators"):
        assert abs(float(gap(ours, labels(row)))) < 1


def gates_where_silos_annotate_different_devices() -> Iterator[str]:
    def labels(row: str) -> Seeds:
        return dice(row, study="labels")

    gate, node = labels(GATE), labels(f"{GATE}, one node")
    alike, chance = labels("EMD-gated, uniform gate"), labels("EMD-gated, random gate")
    above = ranged(labels("EMD-gated, oracle"), gate, "points")
    yield f"A gate that knew the truth would be worth {above}"
    yield (
        f"level with FedAvg ({ranged(gate, labels('FedAvg'))}), with a random gate "
        f"({ranged(gate, chance)}) and with its twin of one node "
        f"({ranged(gate, node)}), and {ranged(gate, alike)} above teachers that count"
    )
    name = "gate of annotators"
    ours, our_alike = labels(f"EMD {name}"), labels(f"uniform {name}")
    assert wins(our_alike, alike) == 5
    yield (
        f"gain {ranged(our_alike, alike)} by it, in five of five seeds, the gate "
        f"{ranged(ours, gate)}; it then is {ranged(ours, labels(f'random {name}'))} "
        f"above a random one, {ranged(ours, our_alike)} above teachers that count "
        f"alike and {ranged(ours, labels(f'EMD {name}, one node'))} above one node"
    )


def frames_that_nobody_has_annotated() -> Iterator[str]:
    def both(row: str) -> Seeds:
        found = dice(row, study="unannotated")
        assert len(found) == 5
        return found

    def second(row: str, unit: str = "") -> str:
        return ranged(there, unannotated_machines(row), unit)

    gate, there = both("EMD gate"), unannotated_machines("EMD gate")
    for row in ("uniform gate", "random gate"):
        assert wins(gate, both(row)) == 3
        assert wins(there, unannotated_machines(row)) == 5
    assert wins(there, unannotated_machines("FedAvg")) == 4
    yield (
        f"There it is {second('uniform gate', 'points')} above "
        f"teachers that count alike and {second('random gate')} above a random gate, "
        f"in five of five seeds, and {second('FedAvg')} above FedAvg in four"
    )
    alike = unannotated_machines("uniform gate")
    yield f"do harm, {ranged(unannotated_machines('FedAvg'), alike)} below FedAvg"
    yield (
        f"the gate is {ranged(gate, both('uniform gate'))} and "
        f"{ranged(gate, both('random gate'))} above these controls, in three of five, "
        f"and {ranged(both('FedAvg'), gate)} *below* FedAvg"
    )
    node = "EMD gate, one node"
    assert wins(there, unannotated_machines(node)) == 4
    assert wins(gate, both(node)) == 3
    yield (
        f"one node a frame is {second(node)} lower on unannotated machines, in four "
        f"of five seeds, and {ranged(gate, both(node))} over all frames, in three"
    )
    simulated = "labelled simulated frames"
    above = {
        row: (ranged(unannotated_machines(row), there), ranged(both(row), gate))
        for row in (OFTEN, simulated)
    }
    yield (
        f"4 times as often is {above[OFTEN][0]} above it on unannotated machines and "
        f"{above[OFTEN][1]} over all frames, labelled simulated frames "
        f"{above[simulated][0]} and {above[simulated][1]}."
    )
    yield f"the gate is {second('EMD gate on simulated frames')} lower on unannotated"
    tour, pooled, often = both("tour"), both("pooled"), both(OFTEN)
    assert wins(tour, often) == 5
    yield (
        f"{gap(tour, pooled)} ({student(tour, pooled)}) to pooled training, "
        f"{gap(tour, often)} ({student(tour, often)}) above averaging"
    )
    yield f"is {ranged(both('FedEFM'), both('FedAvg'))} above FedAvg"


CLAIMS = {
    frames_that_nobody_has_annotated: "## Frames that nobody has annotated",
    the_gate: "## What each part is worth",
    transport_everywhere: "## What each part is worth",
    the_weight: "## What each part is worth",
    what_carries_fedefm: "## What each part is worth",
    silos_that_annotate_different_devices: "## Silos that annotate different devices",
    gates_where_silos_annotate_different_devices: (
        "## Silos that annotate different devices"
    ),
}


@pytest.mark.parametrize("claims", CLAIMS, ids=lambda one: str(one.__name__))
def test_the_sentences_say_what_was_measured(claims: Claims) -> None:
    assert unsaid(FINDINGS, CLAIMS[claims], claims()) == []


def test_the_gate_collapsed_where_teachers_taught_what_they_never_heard_of() -> None:
    found: dict[str, list[float]] = {}
    with (RESULTS / "labels" / "tuning.csv").open(encoding="utf-8") as stream:
        for line in csv.DictReader(stream):
            found.setdefault(line["row"], []).append(float(line["validation dice"]))
    assert sum(one < 0.2 for one in found[GATE]) == 2
    assert min(found["EMD gate of annotators"]) > 0.57
