"""The report's files: complete, honest about what is missing, the same every time."""

import csv
from pathlib import Path

import pytest

from experiments.study.findings import Key
from experiments.study.reading import flat_numbers, read_findings
from experiments.study.report import write_report
from experiments.study.tidy import tuning_rows
from tests.experiments.study.fake_study import (
    SCENARIO,
    SITES,
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
    row("Local", model_of="silos"),
    row("w = 1", "ablation: the weight"),
    row("w = random", "ablation: the weight"),
    row("FedAvg, twice", table="equal-traffic"),
)
SCORES = {
    "Pooled": [0.90, 0.92, 0.94],
    "FedAvg": [0.70, 0.72, 0.74],
    "w = 1": [0.7, 0.7, 0.7],
    "w = random": [0.6, 0.7, 0.71],
    "FedAvg, twice": [0.5, 0.5, 0.6],
}


def fill(folder: Path) -> Path:
    """Write all results but one; the row of local models has a cross-site matrix."""
    put_rows(folder, SCORES)
    for seed in (0, 1):
        cross = {
            owner: {site: {"dice": 0.8 if owner == site else 0.2} for site in SITES}
            for owner in SITES
        }
        cross["east"]["west"]["dice"] = 0.2 + 0.1 * seed
        told = {**job("Local", seed), "model_of": "silos"}
        put(folder, told, result(0.4, cross=cross))
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_report(fill(tmp_path_factory.mktemp("study")), SPEC)


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def text_of(folder: Path, spec: object = SPEC) -> str:
    return write_report(folder, spec)[0].read_text()  # type: ignore[arg-type]


def test_every_file_of_a_report_is_named_and_there(written: list[Path]) -> None:
    folder = written[0].parent
    assert {path.relative_to(folder).as_posix() for path in written} == {
        "README.md",
        "results.csv",
        "tuning.csv",
        "table_all-unseen_equal-steps.csv",
        "table_all-unseen_equal-traffic.csv",
        "table_all-unseen_ablation-the-weight.csv",
        "cross_site_all-unseen.csv",
        *(
            f"figures/{kind}_all-unseen_{table}.png"
            for kind in ("dice", "learning", "few_shot")
            for table in ("equal-steps", "equal-traffic")
        ),
        "figures/traffic_all-unseen.png",
        "figures/cross_site_all-unseen.png",
    }
    assert all(path.stat().st_size for path in written)


def test_a_report_from_the_same_results_has_the_same_bytes(
    written: list[Path], tmp_path: Path
) -> None:
    again = write_report(fill(tmp_path / "elsewhere"), SPEC, target=tmp_path / "out")
    assert again[0].parent == tmp_path / "out"
    for one, other in zip(written, again, strict=True):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes(), one.name


def test_missing_runs_stand_at_the_top(written: list[Path]) -> None:
    head = written[0].read_text().split("##")[0]
    assert "**Not complete: 1 of 18 runs have no result.**" in head
    assert "- scenario all unseen, row Local, seed 2: was not begun" in head


def test_rows_of_which_nothing_is_there_share_a_line(tmp_path: Path) -> None:
    put_rows(tmp_path, {"FedAvg": [0.5, 0.5, 0.5]})
    text = text_of(tmp_path, study(row("FedAvg"), row("FedProx"), row("SCAFFOLD")))
    assert "- scenario all unseen, rows not begun: FedProx; SCAFFOLD\n" in text
    assert "| FedProx" not in text
    assert "| FedAvg |" in text


def test_a_complete_study_says_so(tmp_path: Path) -> None:
    put_rows(tmp_path, {"FedAvg": [0.5, 0.5, 0.5]})
    assert "All 3 runs have results." in text_of(tmp_path, study(row("FedAvg")))


def test_an_empty_study_has_a_report_without_numbers(tmp_path: Path) -> None:
    text = text_of(tmp_path)
    assert "18 of 18 runs have no result" in text
    assert "rows not begun: " in text
    assert "| FedAvg" not in text


def test_why_a_job_failed_is_told(tmp_path: Path) -> None:
    failed = put(tmp_path, job("FedAvg", 0), None)
    (failed / "error.json").write_text('{"format": 1, "reason": "Too few sites."}')
    put(tmp_path, job("FedAvg", 1), '{"format": 1, "test"')
    put(tmp_path, job("FedAvg", 2), {"format": 2})
    tuned = put(tmp_path, job("FedAvg", 0, trial=1, purpose="tune"), None)
    (tuned / "error.json").write_text('{"format": 1, "reason": "No number."}')
    two = ({"seed": 0}, {"seed": 1})
    text = text_of(tmp_path, study(row("FedAvg", trials=two)))
    assert "row FedAvg, seed 0: failed: Too few sites." in text
    assert "row FedAvg, seed 1: has a result that cannot be read" in text
    assert "row FedAvg, seed 2: has a result of format 2, 1 was wanted" in text
    assert "row FedAvg, trial 2 (tuning): failed: No number." in text


def test_a_trial_that_was_lost_is_named(tmp_path: Path) -> None:
    two = ({"seed": 0}, {"seed": 1})
    put(tmp_path, job("FedAvg", 0, purpose="tune"), result(0.5))
    put_rows(tmp_path, {"FedAvg": [0.5, 0.5, 0.5]})
    text = text_of(tmp_path, study(row("FedAvg", trials=two)))
    assert "row FedAvg, trial 2 (tuning): was not begun" in text


def test_a_seed_of_a_trial_that_is_not_the_chosen_one_counts_for_nothing(
    tmp_path: Path,
) -> None:
    two = ({"seed": 0}, {"seed": 1})
    for trial, dice in enumerate((0.3, 0.5)):
        put(tmp_path, job("FedAvg", 0, trial=trial, purpose="tune"), result(dice))
    put(tmp_path, job("FedAvg", 0, trial=1), result(0.5))
    put(tmp_path, job("FedAvg", 1, trial=0), result(0.9))
    text = text_of(tmp_path, study(row("FedAvg", trials=two)))
    assert "row FedAvg, seeds 1, 2: was not begun" in text
    assert "| FedAvg (1 of 3 seeds) | 50.0 |" in text


def test_results_made_with_other_settings_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, {**job("FedAvg", 0), "settings": {"seed": 0, "x": 1}}, result(0.9))
    new = {"evaluation.every-rounds": 1}  # a setting that came later, as it was
    put(tmp_path, {**job("FedAvg", 1), "settings": {"seed": 1, **new}}, result(0.5))
    put(tmp_path, job("Gone", 0), result(0.5))
    text = text_of(tmp_path, study(row("FedAvg")))
    assert "row FedAvg, seeds 0, 2: was not begun" in text
    assert "- 2 result(s) of other rows, or made with other settings" in text
    assert "| FedAvg (1 of 3 seeds) | 50.0 |" in text


def test_other_tables_hold_what_was_on_their_terms_in_the_first(tmp_path: Path) -> None:
    rows = [row("FedAvg"), row("Thrifty"), row("Dear"), row("Pooled", kind="pooled")]
    cheap = row("Ours", "traffic", table="equal-traffic")
    put_rows(tmp_path, {"FedAvg": [0.5], "Thrifty": [0.6], "Pooled": [0.8]})
    put_rows(tmp_path, {"Ours": [0.55]})
    dear = {**result(0.7)["cost"], "bytes": 9_000_000}
    put(tmp_path, job("Dear", 0), result(0.7, cost=dear))
    write_report(tmp_path, study(*rows, cheap))
    found = read_rows(tmp_path / "table_all-unseen_equal-traffic.csv")
    assert [one["row"] for one in found] == ["FedAvg", "Thrifty", "Pooled", "Ours"]


def test_results_that_the_study_does_not_name_are_left_out(tmp_path: Path) -> None:
    put_rows(tmp_path, {"FedAvg": [0.5] * 3, "Former": [0.9] * 3})
    put(tmp_path, job("FedAvg", 9), result(0.9))
    write_report(tmp_path, study(row("FedAvg")))
    rows = read_rows(tmp_path / "results.csv")
    assert {(one["row"], one["seed"]) for one in rows} == {
        ("FedAvg", str(seed)) for seed in range(3)
    }


def test_the_long_table_has_every_number_of_every_run(written: list[Path]) -> None:
    rows = read_rows(written[1])
    found = {
        (one["row"], one["seed"], f"{one['part']}/{one['measure']}"): one["value"]
        for one in rows
    }
    assert len(found) == len(rows)
    assert float(found["FedAvg", "1", "test/dice"]) == 0.72
    assert float(found["FedAvg", "1", "test/sites/west/dice"]) == pytest.approx(0.82)
    assert float(found["FedAvg", "1", "unseen/neuro/dice"]) == 0.36
    assert float(found["FedAvg", "1", "few_shot/neuro/1/dice"]) == pytest.approx(0.3)
    assert float(found["FedAvg", "1", "few_shot/neuro/1/dice draw 1"]) == 0.4
    assert float(found["Local", "1", "cross/east/west/dice"]) == pytest.approx(0.3)
    assert found["FedAvg", "1", "reach/rounds"] == ""  # never
    # Curves follow the accumulated model, and the silos' own are judged here.
    assert ("Local", "1", "reach/rounds") not in found


def test_cross_site_matrices_are_means_over_seeds(written: list[Path]) -> None:
    rows = read_rows(written[0].with_name("cross_site_all-unseen.csv"))
    assert len(rows) == 9
    found = {(one["model of"], one["on the frames of"]): one["dice"] for one in rows}
    assert float(found["east", "west"]) == pytest.approx(0.25)
    assert float(found["west", "west"]) == pytest.approx(0.8)


def test_a_study_without_silo_models_has_no_matrix(tmp_path: Path) -> None:
    put_rows(tmp_path, {"FedAvg": [0.5] * 3})
    spec = study(row("FedAvg"))
    files = write_report(tmp_path, spec)
    assert not any("cross" in path.name for path in files)
    assert "on every site's" not in files[0].read_text()


def test_other_tables_show_pooled_and_reference_for_comparison(
    written: list[Path],
) -> None:
    rows = read_rows(written[0].with_name("table_all-unseen_equal-traffic.csv"))
    assert [one["row"] for one in rows] == ["Pooled", "FedAvg", "FedAvg, twice"]
    assert [one["table"] for one in rows] == ["equal-steps"] * 2 + ["equal-traffic"]


def test_a_table_whose_rows_are_not_finetuned_has_no_such_figure(
    tmp_path: Path,
) -> None:
    spec = study(
        row("Pooled", "bounds"),
        row("FedAvg"),
        row("FedAvg, twice", table="equal-traffic", shots=()),
    )
    put_rows(tmp_path, {name: SCORES[name] for name in ("Pooled", "FedAvg")})
    put_rows(tmp_path, {"FedAvg, twice": SCORES["FedAvg, twice"]})
    names = {path.name for path in write_report(tmp_path, spec)}
    assert "few_shot_all-unseen_equal-steps.png" in names
    assert "dice_all-unseen_equal-traffic.png" in names
    assert "few_shot_all-unseen_equal-traffic.png" not in names


def test_the_foot_tells_command_seeds_time_and_versions(written: list[Path]) -> None:
    foot = written[0].read_text().split("## How it was made")[1]
    assert "`endofed study small --report`" in foot
    assert "- seeds: 0, 1, 2" in foot
    assert "17.0 hours" in foot
    assert "- endofed 0.9, torch 2.13.0 (17 runs)" in foot


def test_trials_are_listed_with_the_chosen_one(tmp_path: Path) -> None:
    trials = ({"train.learning-rate": 2e-3}, {"train.learning-rate": 4e-3})
    spec = study(row("FedAvg", trials=trials), seeds=(0,))
    for trial, dice in enumerate((0.4, 0.5)):
        told = job("FedAvg", 0, trial=trial, purpose="tune")
        put(tmp_path, told, {"format": 1, "validation": {"dice": dice}})
    # Of an earlier choice there may be a run of the other trial.
    put(tmp_path, job("FedAvg", 0, trial=0), result(0.9))
    put(tmp_path, job("FedAvg", 0, trial=1), result(0.6))
    findings = read_findings(tmp_path, spec)
    assert findings.by_seed(Key(SCENARIO, "FedAvg"), "test/dice") == {0: 0.6}
    rows = tuning_rows(findings)
    assert [one["settings"] for one in rows] == [
        "learning-rate 0.002",
        "learning-rate 0.004",
    ]
    assert [one["validation dice"] for one in rows] == [0.4, 0.5]
    assert [one["chosen"] for one in rows] == [0, 1]
    text = text_of(tmp_path, spec)
    assert "trials a row: 2, chosen by Dice on the validation frames of seed 0" in text


def test_flat_numbers_know_no_number_that_is_not_one() -> None:
    found = flat_numbers(
        {
            "test": {"dice": float("nan"), "hd95_px": None, "breaks": 1},
            "few_shot": {"neuro": {"5": {"dice": [0.2, None, 0.4]}}},
            "cost": {"bytes": 3_000_000, "rounds": 0},
        }
    )
    assert found["test/dice"] is None
    assert found["test/hd95_px"] is None
    assert found["test/breaks"] == 1.0
    assert found["few_shot/neuro/5/dice"] == pytest.approx(0.3)
    assert (found["cost/mb"], found["cost/mb_per_round"]) == (3.0, None)
