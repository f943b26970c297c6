"""Every number in the README's sentences on the studies is that of their results."""

import csv
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from experiments.study.figures.traffic import frontier, prices_of
from experiments.study.reading import read_findings
from experiments.study.spec import TABLES
from experiments.study.statistics import paired_difference, student_interval
from experiments.study.study_file import find_study, read_study
from experiments.study.tables import Sections, sections_of

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "experiments" / "results"
HOME = "local, at home"
GATE = "EMD-gated, standardised"
OFTEN = "FedAvg, 4 times as often"
RELAY = "relay, 8 times as often"

Seeds = dict[int, float]
"""Points of Dice by seed."""


@cache
def prose() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("### Against whom", 1)[1].split("\n### ", 1)[0]
    lines = (line for line in section.splitlines() if not line.startswith("|"))
    return " ".join(" ".join(lines).split())


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
    scenario: str = "unseen 100",
) -> Seeds:
    values = numbers(study)[scenario, row, part, measure]
    return {seed: 100 * value for seed, value in values.items()}


def shots(row: str, count: int) -> Seeds:
    return dice(row, part=f"few_shot/neuro/{count}")


def ablation(row: str, measure: str = "dice") -> Seeds:
    return dice(row, study="ablation", measure=measure)


def mean(values: Seeds) -> str:
    return f"{sum(values.values()) / len(values):.1f}"


def gap(one: Seeds, other: Seeds) -> str:
    """Return the paired difference."""
    found = paired_difference(one, other)
    assert found is not None
    return f"{found.mean:.1f}"


def ranged(one: Seeds, other: Seeds) -> str:
    """Return the paired difference and the range that its seeds leave."""
    found = paired_difference(one, other)
    assert found is not None
    return f"{found.mean:.1f} [{found.low:.1f}, {found.high:.1f}]"


def student(one: Seeds, other: Seeds) -> str:
    """Return the 95 % interval of the difference by Student's t."""
    ends = student_interval(one, other)
    assert ends is not None
    return f"t [{ends[0]:.1f}, {ends[1]:.1f}]"


def wins(one: Seeds, other: Seeds) -> int:
    return sum(one[seed] > other[seed] for seed in one.keys() & other.keys())


def for_its_traffic() -> Iterator[str]:
    spec = read_study(find_study("small"))
    every: Sections = {}
    for table in TABLES:
        for rows in sections_of(spec, "unseen 100", table).values():
            every.setdefault("all", []).extend(rows)
    prices = prices_of(read_findings(RESULTS / "small", spec), "unseen 100", every)
    names = "tour, traffic of FedAvg", "labelled simulated frames", RELAY, "tour"
    assert tuple(frontier(prices)) == names
    simulated = prices["labelled simulated frames"]
    above = ranged(dice("labelled simulated frames"), dice(GATE))
    yield (
        f"are {simulated.dice:.1f} for {simulated.gigabytes:.1f} GB, {above} above the "
        f"gate over teachers"
    )


def the_tour() -> Iterator[str]:
    tour, average = dice("tour"), dice("FedAvg")
    next_best, often = dice(RELAY), dice(OFTEN)
    pooled, carried = dice("pooled"), dice("pooled, moments carried")
    yield f"{gap(tour, next_best)} points ({student(tour, next_best)}) above the next,"
    yield f"{gap(tour, often)} ({student(tour, often)}) above the best of averaging"
    yield f"it is level: {gap(tour, pooled)} ({student(tour, pooled)}) to one whose"
    yield f"{gap(tour, carried)} ({student(tour, carried)}) to one that, as the tour"
    short = dice("tour, traffic of FedAvg")
    yield (
        f"it is {gap(short, average)} above it in three of three seeds "
        f"({student(short, average)})"
    )
    assert wins(short, average) == 3
    long = dice("tour, as long as FedAvg")
    yield (
        f"In no more time than FedAvg it loses: {mean(long)}, where averaging 4 times "
        f"as often has {mean(often)} with less traffic"
    )


def the_tour_and_the_emd() -> Iterator[str]:
    gated = ablation("tour, EMD-gated retention")
    alike = ablation("tour, uniform retention")
    eight = ablation("tour, 8 steps a visit")
    assert len(gated) == len(alike) == len(eight) == 5
    yield (
        f"gating them makes {mean(gated)}, all alike {mean(alike)} and none at all "
        f"{mean(eight)}, seed by seed {ranged(gated, alike)} and {ranged(gated, eight)}"
    )


def at_home() -> Iterator[str]:
    yield (
        f"{mean(dice(HOME))} over all silos' frames, each measured with its own model, "
        f"where the tour has {mean(dice('tour'))} and FedBN "
        f"{mean(dice('FedBN, at home'))}"
    )
    own = dice("local", part="unseen/neuro")
    yield f"on the unseen domain silos' own models have {mean(own)}"


def few_shots() -> Iterator[str]:
    over = {n: gap(shots("tour", n), shots("random", n)) for n in (1, 5, 10, 50)}
    yield (
        f"the tour is {over[1]} points above a random start with 1 frame, {over[5]} "
        f"with 5 (ten were the aim), {over[10]} with 10 and {over[50]} with 50"
    )
    yield (
        f"({mean(shots('random', 10))} with 10, {mean(shots('random', 50))} with 50); "
        f"with 5 frames"
    )
    tour = shots("tour", 5)
    yield (
        f"averaging 4 times as often ({gap(tour, shots(OFTEN, 5))}, "
        f"{student(tour, shots(OFTEN, 5))}), the relay ({gap(tour, shots(RELAY, 5))}) "
        f"and pooled training ({gap(tour, shots('pooled', 5))})"
    )
    before = dice("tour", part="unseen/neuro")
    yield f"(the tour {mean(shots('tour', 1))}, not {mean(before)})"
    for row in ("FedAvg", "FedEFM", "tour", "EMD-gated"):
        came = sum(dice(row, part="unseen/neuro").values())
        assert sum(shots(row, 1).values()) < came, row


def fedefm() -> Iterator[str]:
    ours, average = dice("FedEFM"), dice("FedAvg")
    twice = dice("FedAvg, 2 times as often")
    assert wins(ours, average) == 3
    yield (
        f"it is {gap(ours, average)} above FedAvg in three of three seeds "
        f"({student(ours, average)}), at twice the traffic, and {gap(twice, ours)} "
        f"below plain averaging twice as often"
    )


def the_gate() -> Iterator[str]:
    gate, alike = ablation(GATE), ablation("EMD-gated, uniform gate")
    chance, oracle = ablation("EMD-gated, random gate"), ablation("EMD-gated, oracle")
    raw, centred = ablation("EMD-gated, raw EMD"), ablation("EMD-gated")
    node = ablation(f"{GATE}, one node")
    assert wins(gate, alike) == wins(gate, chance) == len(gate) == 5
    assert wins(gate, node) == 3
    points = ranged(gate, alike).replace(" ", " points ", 1)
    yield (
        f"It is {points} above teachers that count alike and {ranged(gate, chance)} "
        f"above a random gate, in five of five seeds"
    )
    yield f"{gap(gate, alike)} points above teachers that count alike, which is not"
    late = {seed: gate[seed] for seed in (3, 4)}
    yield (
        f"less in the two that came after it was designed (on average "
        f"{gap(late, alike)} and {gap(late, chance)})"
    )
    yield ranged(oracle, gate).replace(" ", " above it ", 1)
    yield f"({mean(raw)} and {mean(centred)} to the {mean(alike)} of teachers that"
    yield (
        ranged(gate, node).replace(" ", " lower ", 1) + ", in three of five seeds, "
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
    transport = ranged(coarse, its_node)
    yield (
        f"choose by {seen_coarse - seen:.1f}, the gate is "
        f"{ranged(gate, coarse)} lower and transport gains it {transport}"
    )
    small = ranged(dice(GATE), dice("FedAvg"))
    yield f"they lie {small} above FedAvg and below averaging twice as often"


WORST = "worst_site_dice"


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
    yield ranged(ours, half).replace(" ", " points ", 1) + " are lost"
    abroad, distilled = ablation("overseas off"), ablation("distillation off")
    yield f"({ranged(ours, abroad)} and {ranged(ours, distilled)})"


def unseen(row: str, scenario: str, measure: str = "dice") -> Seeds:
    return dice(row, study="unseen", scenario=scenario, measure=measure)


def how_much_unseen_data_it_takes() -> Iterator[str]:
    shares = ("unseen 0", "unseen 50", "unseen 100")
    none, half = shares[:2]
    below = [gap(unseen("pooled", one), unseen("FedAvg", one)) for one in shares]
    yield (
        f"FedAvg is {below[0]} points below pooled training where all silos hold all "
        f"types, {below[1]} where half is unseen and {below[2]} where all is"
    )
    mended = [ranged(unseen("FedEFM", o), unseen("FedAvg", o)) for o in (none, half)]
    yield f"has little to mend ({mended[0]} and {mended[1]} to FedAvg)"
    for one in (none, half):
        assert float(gap(unseen("FedAvg", one), unseen(GATE, one))) > 2
    ahead = [ranged(unseen("tour", one), unseen(RELAY, one)) for one in shares]
    yield f"it gains {ahead[0]} at 0 %, {ahead[1]} at 50 % and {ahead[2]} at 100 %"


def fga_net() -> Iterator[str]:
    none, every = places = ("small FGA-Net, unseen 0", "small FGA-Net, unseen 100")
    gaps, third = [], []
    for one in places:
        ours, average = unseen("FedEFM", one), unseen("FedAvg", one)
        gaps.append(ranged(ours, average))
        third.append(f"{ours[2]:.1f} for {average[2]:.1f}")
        assert all(abs(ours[seed] - average[seed]) < 2 for seed in (0, 1))
    yield f"({third[0]} at 0 %, {third[1]} at 100 %), in all {gaps[0]} and {gaps[1]}."
    half, gate_row = (
        "small FGA-Net, unseen 50",
        f"{GATE}, on FGA-Net's features of stride 2",
    )
    average = unseen("FedAvg", half)
    yield f"it is level with FedAvg ({ranged(unseen('FedEFM', half), average)})"
    yield f"is {ranged(average, unseen(gate_row, half))} below FedAvg at 50 %"
    gate = unseen(gate_row, none)
    assert sorted(round(one, 1) for one in gate.values())[:2] == [0.0, 0.0]
    worst = unseen("tour", every, WORST)
    assert sorted(f"{one:.1f}" for one in worst.values())[:1] == ["0.0"]
    assert sum(one < 1 for one in worst.values()) == 1
    yield "at one silo in one seed of three at 100 % (Dice 0.0 there)"


def eleven_silos() -> Iterator[str]:
    def gaia(row: str) -> Seeds:
        return dice(row, study="gaia", scenario="Gaia, unseen 100")

    tour, often, pooled = gaia("tour"), gaia(OFTEN), gaia("pooled")
    assert wins(tour, often) == wins(pooled, tour) == len(tour) == 3
    yield (
        f"{gap(tour, often)} points ({student(tour, often)}) above averaging 4 times "
        f"as often and {gap(pooled, tour)} ({student(pooled, tour)}) below pooled"
    )
    average, ours, gate = gaia("FedAvg"), gaia("FedEFM"), gaia(GATE)
    ends = min(average.values()), max(average.values())
    yield f"FedAvg lies between {ends[0]:.1f} and {ends[1]:.1f}"
    assert (wins(ours, average), wins(gate, average)) == (3, 2)
    points = ranged(ours, average).replace(" ", " points ", 1)
    yield f"FedEFM is {points} above it in three of three seeds"
    yield f"gate {ranged(gate, average)} in two"
    yield f"{ranged(often, ours)} above FedEFM and {ranged(often, gate)} above the gate"


def silos_that_annotate_different_devices() -> Iterator[str]:
    def labels(row: str) -> Seeds:
        found = dice(row, study="labels", scenario="unseen 100, disjoint labels")
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
        return dice(row, study="labels", scenario="unseen 100, disjoint labels")

    gate, node = labels(GATE), labels(f"{GATE}, one node")
    alike, chance = labels("EMD-gated, uniform gate"), labels("EMD-gated, random gate")
    above = ranged(labels("EMD-gated, oracle"), gate).replace(" ", " points ", 1)
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


def test_the_gate_collapsed_where_teachers_taught_what_they_never_heard_of() -> None:
    found: dict[str, list[float]] = {}
    with (RESULTS / "labels" / "tuning.csv").open(encoding="utf-8") as stream:
        for line in csv.DictReader(stream):
            found.setdefault(line["row"], []).append(float(line["validation dice"]))
    assert sum(one < 0.2 for one in found[GATE]) == 2
    assert min(found["EMD gate of annotators"]) > 0.57


CLAIMS = (
    silos_that_annotate_different_devices,
    gates_where_silos_annotate_different_devices,
    eleven_silos,
    how_much_unseen_data_it_takes,
    fga_net,
    for_its_traffic,
    the_tour,
    the_tour_and_the_emd,
    at_home,
    few_shots,
    fedefm,
    the_gate,
    the_weight,
    what_carries_fedefm,
)


@pytest.mark.parametrize("claims", CLAIMS, ids=lambda one: str(one.__name__))
def test_the_sentences_say_what_was_measured(
    claims: Callable[[], Iterator[str]],
) -> None:
    said = prose()
    for claim in claims():
        assert claim in said


def test_the_tour_is_above_every_federation_in_every_seed() -> None:
    federations = {
        row
        for scenario, row, part, measure in numbers("small")
        if (part, measure) == ("test", "dice")
        and not row.startswith("pooled")
        and not row.endswith("at home")  # every silo with a model of its own
    }
    assert len(federations) > 30
    tour = dice("tour")
    for row in federations - {"tour"}:
        assert wins(tour, dice(row)) == 3, row


def test_the_traffic_of_the_tour() -> None:
    def gigabytes(row: str) -> float:
        cost = ["rounds", "mb_per_round"]
        rounds, each = (numbers("small")["unseen 100", row, "cost", n] for n in cost)
        return sum(rounds[seed] * each[seed] for seed in rounds)

    times = gigabytes("tour") / gigabytes("FedAvg")
    assert f"The price: {times:.0f} times FedAvg's traffic" in prose()
    assert f"level with pooled training, at {times:.0f} times FedAvg's" in prose()


def test_the_tour_is_the_best_federation_of_every_scenario() -> None:
    means: dict[str, dict[str, float]] = {}
    for (scenario, row, part, measure), seeds in numbers("unseen").items():
        if (part, measure) == ("test", "dice") and row != "pooled":
            assert len(seeds) == 3, (scenario, row)
            means.setdefault(scenario, {})[row] = sum(seeds.values())
    assert len(means) == 6
    for scenario, rows in means.items():
        assert max(rows, key=lambda row: rows[row]) == "tour", scenario
