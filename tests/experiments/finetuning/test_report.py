import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.image import imread
from rich.console import Console

from experiments.finetuning.fewshot import ALL, FinetuneError, FinetuneResult
from experiments.finetuning.figures import draw_curves, draw_fewshot
from experiments.finetuning.files import read_results, results_of, write_results
from experiments.finetuning.report import (
    Row,
    Spread,
    fewshot_table,
    gains_of,
    spread_of,
)


def result(start: str, seed: int, dice: float, shots: int = 1) -> FinetuneResult:
    return FinetuneResult(
        shots=shots,
        start=start,
        seed=seed,
        chosen_step=10,
        validation_at_start=0.1,
        validation=0.5,
        scores={
            "dice": dice,
            "cldice": dice / 2,
            "dice-per-image": dice / 4,
            "missed": 2,
            "false-alarms": 3,
        },
        test_frames=32,
        curve=(
            {"step": 0, "train-loss": math.nan, "validation": 0.1},
            {"step": 5, "train-loss": 1.5, "validation": 0.5},
        ),
    )


def study(random: list[float], foundation: list[float]) -> list[FinetuneResult]:
    return [
        result(start, seed, dice)
        for start, values in (("random", random), ("foundation", foundation))
        for seed, dice in enumerate(values)
    ]


def printed(results: list[FinetuneResult]) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(fewshot_table(results))
    # A narrow table wraps its caption: words count, line breaks do not.
    return " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]


def test_the_deviation_is_that_of_a_sample() -> None:
    # Deviations -0.1, 0, 0.1: sqrt((0.01 + 0.01) / (3 - 1)) = 0.1.
    spread = Spread.of([0.3, 0.4, 0.5])
    assert spread.mean == pytest.approx(0.4)
    assert spread.sd == pytest.approx(0.1)
    # Half a 95 % interval: 4.303 * 0.1 / sqrt(3).
    assert str(spread) == "0.400 ± 0.248"


def test_a_single_seed_has_a_mean_and_no_deviation() -> None:
    spread = Spread.of([0.3])
    assert math.isnan(spread.sd)
    assert str(spread) == "0.300"


def test_gains_are_paired_by_seed() -> None:
    results = study([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    (gain,) = gains_of(list(reversed(results)))
    assert gain.first.mean == pytest.approx(0.3)
    assert gain.first.sd == pytest.approx(0, abs=1e-12)
    assert gain.second.mean == pytest.approx(0.15)
    assert (gain.seeds_better, gain.seeds) == (3, 3)
    assert "foundation better than random: +0.300" in gain.verdict()


def test_a_foundation_that_does_not_help_is_called_so_in_the_table() -> None:
    results = study([0.4, 0.5, 0.6], [0.3, 0.5, 0.6])
    text = printed(results)
    assert "1 shot: foundation NO better than random: -0.033 ± 0.143 Dice" in text
    assert "0 of 3 seeds" in text


def test_equal_values_are_no_gain() -> None:
    assert "NO better" in gains_of(study([0.4, 0.5], [0.4, 0.5]))[0].verdict()


def test_a_gain_that_not_every_seed_has_is_not_called_clear() -> None:
    text = printed(study([0.1, 0.2, 0.5], [0.4, 0.5, 0.4]))
    assert "not clearly better than random" in text
    assert "2 of 3 seeds" in text


def test_the_table_has_a_row_for_each_number_of_shots_and_start() -> None:
    one = study([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    table = fewshot_table(one + [replace(each, shots=5) for each in one])
    assert table.row_count == 4
    text = printed(one)
    assert "0.200 ± 0.248" in text  # random Dice
    assert "0.250 ± 0.124" in text  # foundation clDice
    assert "+0.300 ± 0.000" in text
    assert "2.0 / 3.0" in text
    assert "32 test frames, classes pooled" in text


def test_runs_that_training_did_not_help_are_owned_up_to() -> None:
    random, *others = study([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    assert "step 0" not in printed([random, *others])
    text = printed([replace(random, chosen_step=0), *others])
    assert "from random: step 0 is the best of 1 of 3 runs" in text
    assert "from foundation: step 0" not in text


IDENTITY = {"settings": {"steps": 3}, "data-digest": "ab"}


def test_the_files_hold_every_run_and_what_follows_from_them(tmp_path: Path) -> None:
    results = study([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    folder = tmp_path / "new"
    write_results(folder, results, identity=IDENTITY, data={"domain": "neuro"})
    with (folder / "fewshot.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["test-dice"]) for row in rows] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert rows[3]["start"] == "foundation"
    content = json.loads((folder / "results.json").read_text("utf-8"))
    assert len(content["runs"]) == 6
    assert content["settings"]["domain"] == "neuro"
    random, foundation = content["summary"]
    assert random["test-dice"]["mean"] == pytest.approx(0.2)
    # Student: t(0.975, 2 degrees) = 4.3027, from a printed table.
    half = 4.3027 * 0.1 / math.sqrt(3)
    assert foundation["test-dice"]["low"] == pytest.approx(0.5 - half, abs=1e-4)
    assert content["verdict"] == [gain.verdict() for gain in gains_of(results)]
    table = (folder / "fewshot.md").read_text("utf-8")
    assert "| full | 1 | foundation | 0.500 ± 0.248 |" in table
    with (folder / "learning_curves.csv").open(encoding="utf-8") as stream:
        curve = list(csv.DictReader(stream))
    assert len(curve) == 12
    assert curve[1]["step"] == "5"


def test_what_was_written_can_be_read_to_go_on(tmp_path: Path) -> None:
    results = study([0.1, float("nan")], [0.4, 0.5])
    results.append(replace(results[0], shots=ALL))
    write_results(tmp_path, results, identity=IDENTITY, data={}, best_model="x")
    content = read_results(tmp_path, IDENTITY)
    read = results_of(content)
    assert content["best-model"] == "x"
    assert [one.task for one in read] == [one.task for one in results]
    assert math.isnan(read[1].scores["dice"])
    assert read[2] == results[2]
    assert read[2].curve[1] == results[2].curve[1]


def test_a_folder_without_a_study_is_a_new_one(tmp_path: Path) -> None:
    assert read_results(tmp_path, IDENTITY) == {}


def test_a_study_with_other_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    write_results(tmp_path, study([0.1], [0.2]), identity=IDENTITY, data={})
    other = {"settings": {"steps": 4}, "data-digest": "ab"}
    with pytest.raises(FinetuneError, match="differs in steps; nothing already"):
        read_results(tmp_path, other)
    with pytest.raises(FinetuneError, match="differs in data-digest"):
        read_results(tmp_path, {**IDENTITY, "data-digest": "cd"})


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 9, "identity": {}}'])
def test_a_damaged_record_is_not_written_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(FinetuneError, match="cannot read"):
        read_results(tmp_path, IDENTITY)
    assert (tmp_path / "results.json").read_text() == text


def test_a_missing_deviation_is_null_in_the_file(tmp_path: Path) -> None:
    write_results(tmp_path, study([0.1], [0.4]), identity=IDENTITY, data={})
    content = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert content["summary"][0]["test-dice"]["sd"] is None


def test_curves_are_drawn(tmp_path: Path) -> None:
    path = draw_curves(study([0.1, 0.2], [0.4, 0.5]), tmp_path / "curves.png")
    assert imread(path).std() > 0.05


def test_seeds_with_one_start_only_make_no_gain() -> None:
    results = study([0.1], [0.4, 0.9])
    (gain,) = gains_of(results)
    assert gain.seeds == 1
    assert gain.first.mean == pytest.approx(0.3)
    assert gains_of(study([0.1], [])) == []


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_figure_is_drawn_with_one_or_more_seeds(tmp_path: Path, seeds: int) -> None:
    results = study([0.1, 0.2, 0.3][:seeds], [0.4, 0.5, 0.6][:seeds])
    path = draw_fewshot(results, tmp_path / "fewshot.png", domain="neuro")
    pixels = imread(path)
    assert pixels.shape[1] > pixels.shape[0] > 400
    assert pixels.std() > 0.05  # not a blank page


def test_a_row_takes_its_own_runs_only() -> None:
    results = [result("random", 0, 0.1), result("random", 0, 0.9, shots=5)]
    assert spread_of(results, Row("full", 5, "random"), "dice").mean == 0.9
