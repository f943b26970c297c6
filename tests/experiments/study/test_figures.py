"""What the figures show; that they can be drawn of little, and are the same twice."""

from pathlib import Path

import pytest
from matplotlib.image import imread

from experiments.study.figures.few_shot import draw_few_shot
from experiments.study.figures.learning import draw_learning, mean_curve
from experiments.study.figures.matrices import draw_matrices
from experiments.study.figures.scores import draw_scores
from experiments.study.figures.style import highlighted
from experiments.study.figures.traffic import Price, draw_traffic, frontier, prices_of
from experiments.study.findings import Key
from experiments.study.reading import read_findings
from experiments.study.tables import sections_of
from tests.experiments.study.fake_study import (
    SCENARIO,
    job,
    put,
    put_rows,
    result,
    row,
    study,
)

SPEC = study(
    row("Pooled", "bounds"),
    row("FedAvg"),
    row("FedProx"),
    row("Gate", "ours"),
    row("Relay", "ours"),
    seeds=(0, 1),
)
SECTIONS = sections_of(SPEC, SCENARIO, "equal-steps")


def point(number: int, dice: float | None, sent: int) -> dict[str, float | None]:
    return {"round": number, "dice": dice, "bytes": sent, "steps": number}


def test_of_many_rows_named_are_pooled_reference_and_the_highest_of_each_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.study.figures.style.MAX_NAMED", 4)
    scores = {"Pooled": [0.9], "FedAvg": [0.5], "FedProx": [0.6], "Relay": [0.7]}
    put_rows(tmp_path, {**scores, "Gate": [0.65, 0.66]})
    findings = read_findings(tmp_path, SPEC)
    found = highlighted(findings, SCENARIO, SECTIONS)
    assert found == ["Pooled", "FedAvg", "FedProx", "Relay"]


def test_of_few_rows_all_that_have_results_are_named(tmp_path: Path) -> None:
    put_rows(tmp_path, {"Gate": [0.5], "Relay": [0.7], "FedAvg": [0.6]})
    findings = read_findings(tmp_path, SPEC)
    assert highlighted(findings, SCENARIO, SECTIONS) == ["FedAvg", "Gate", "Relay"]


def test_rows_without_results_are_not_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_rows(tmp_path, {"Gate": [0.5]})
    findings = read_findings(tmp_path, SPEC)
    for most in (4, 0):
        monkeypatch.setattr("experiments.study.figures.style.MAX_NAMED", most)
        assert highlighted(findings, SCENARIO, SECTIONS) == ["Gate"]


def test_a_mean_curve_has_the_points_that_all_seeds_have(tmp_path: Path) -> None:
    curves = (
        [point(1, 0.2, 10), point(2, 0.4, 20), point(3, 0.6, 30)],
        [point(1, None, 30), point(2, 0.6, 40)],
    )
    for seed, curve in enumerate(curves):
        put(tmp_path, job("FedAvg", seed), result(0.5, curve=curve))
    findings = read_findings(tmp_path, SPEC)
    found = mean_curve(findings, Key(SCENARIO, "FedAvg"))
    assert found == [{"round": 2.0, "dice": pytest.approx(0.5), "bytes": 30.0}]
    assert mean_curve(findings, Key(SCENARIO, "Gate")) == []


def test_all_figures_are_drawn_and_the_same_twice(tmp_path: Path) -> None:
    put_rows(tmp_path, {"Pooled": [0.9, 0.8], "FedAvg": [0.5], "Gate": [0.6, 0.7]})
    silent = [point(1, 0.3, 0), point(2, 0.4, 0)]
    put(tmp_path, job("Relay", 0), result(0.4, curve=silent))
    findings = read_findings(tmp_path, SPEC)
    for draw in (draw_learning, draw_few_shot, draw_scores, draw_traffic):
        paths = [tmp_path / f"{draw.__name__}-{number}.png" for number in (1, 2)]
        for path in paths:
            assert draw(findings, SCENARIO, SECTIONS, path) == path
        assert paths[0].read_bytes() == paths[1].read_bytes()
        assert imread(paths[0]).std() > 0


def test_without_results_nothing_is_drawn(tmp_path: Path) -> None:
    findings = read_findings(tmp_path, SPEC)
    path = tmp_path / "figure.png"
    for draw in (draw_learning, draw_few_shot, draw_scores, draw_traffic):
        assert draw(findings, SCENARIO, SECTIONS, path) is None
    assert draw_matrices({}, path, title="None") is None
    assert not path.exists()


def test_prices_are_means_of_rows_that_send_and_share_one_model(
    tmp_path: Path,
) -> None:
    put_rows(tmp_path, {"Pooled": [0.9], "FedAvg": [0.5, 0.7], "At home": [0.8]})
    silent = result(0.4)
    put(tmp_path, job("Relay", 0), {**silent, "cost": {**silent["cost"], "bytes": 0}})
    rows = [*SPEC.rows, row("At home", model_of="silos")]
    spec = study(*rows, seeds=(0, 1))
    sections = sections_of(spec, SCENARIO, "equal-steps")
    found = prices_of(read_findings(tmp_path, spec), SCENARIO, sections)
    assert list(found) == ["Pooled", "FedAvg"]
    assert found["FedAvg"] == pytest.approx((0.004, 60.0, 10 * 2**0.5))


def test_on_the_frontier_are_rows_that_none_beats_for_less() -> None:
    prices = {
        "dear": Price(4.0, 60.0, 0.0),
        "cheap": Price(1.0, 40.0, 1.0),
        "cheap, worse": Price(1.0, 30.0, 1.0),
        "dear, no better": Price(5.0, 60.0, 0.0),
        "between": Price(2.0, 50.0, 0.0),
        "between, worse": Price(3.0, 49.0, 0.0),
    }
    assert frontier(prices) == ["cheap", "between", "dear"]
    assert frontier({}) == []


def test_matrices_with_gaps_and_many_rows_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.study.figures.matrices.MAX_PANELS", 2)
    matrix = {"east": {"east": 0.9, "west": None}, "west": {"west": 0.8}}
    path = tmp_path / "matrices.png"
    many = {f"row {number}": matrix for number in range(3)}
    assert draw_matrices(many, path, title="Three, of which two fit") == path
    assert imread(path).std() > 0
