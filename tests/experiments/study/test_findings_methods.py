"""What the findings say of methods and rivals is what `small` measured."""

from collections.abc import Iterator

import pytest

from experiments.study.figures.traffic import frontier, prices_of
from experiments.study.reading import read_findings
from experiments.study.spec import TABLES
from experiments.study.study_file import find_study, read_study
from experiments.study.tables import Sections, sections_of
from tests.experiments.documents import FINDINGS, RESULTS, prose, unsaid
from tests.experiments.study.measured import (
    GATE,
    HOME,
    OFTEN,
    RELAY,
    Claims,
    ablation,
    dice,
    gap,
    gigabytes,
    mean,
    numbers,
    ranged,
    shots,
    student,
    wins,
)

HEADING = "## Four silos with nothing in common"


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
    two = ablation("tour")
    assert wins(two, eight) == len(two) == 5
    yield f"two steps are {ranged(two, eight)} above eight, in five of five seeds"
    snapshots = ablation("tour, mean of its snapshots")
    assert len(snapshots) == 5
    yield f"very last changes nothing ({ranged(two, snapshots)})"


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


CLAIMS = for_its_traffic, the_tour, the_tour_and_the_emd, at_home, few_shots, fedefm


@pytest.mark.parametrize("claims", CLAIMS, ids=lambda one: str(one.__name__))
def test_the_sentences_say_what_was_measured(claims: Claims) -> None:
    assert unsaid(FINDINGS, HEADING, claims()) == []


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
    times = gigabytes("tour") / gigabytes("FedAvg")
    said = prose(FINDINGS, HEADING)
    assert f"The price: {times:.0f} times FedAvg's traffic" in said
