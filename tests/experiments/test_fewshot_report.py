import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.image import imread
from rich.console import Console

from experiments.fewshot import FinetuneResult, FinetuneSettings
from experiments.fewshot_figures import draw_fewshot
from experiments.fewshot_report import (
    Spread,
    fewshot_table,
    gains_of,
    spread_of,
    write_report,
)

CARD = {"model-name": "sam-tiny", "domains": ["human"], "weights-digest": "ab"}


def result(start: str, seed: int, dice: float, shots: int = 1) -> FinetuneResult:
    return FinetuneResult(
        shots=shots,
        start=start,
        seed=seed,
        chosen_step=10,
        validation_dice_at_start=0.1,
        validation_dice=0.5,
        test_dice=dice,
        test_cldice=dice / 2,
        test_dice_per_image=dice / 4,
        test_frames=32,
        missed=2,
        false_alarms=3,
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
    assert str(spread) == "0.400 ± 0.100"


def test_a_single_seed_has_a_mean_and_no_deviation() -> None:
    spread = Spread.of([0.3])
    assert math.isnan(spread.sd)
    assert str(spread) == "0.300"


def test_gains_are_paired_by_seed() -> None:
    results = study([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    (gain,) = gains_of(list(reversed(results)))
    assert gain.dice.mean == pytest.approx(0.3)
    assert gain.dice.sd == pytest.approx(0, abs=1e-12)
    assert gain.cldice.mean == pytest.approx(0.15)
    assert (gain.seeds_better, gain.seeds) == (3, 3)
    assert "foundation better than random: +0.300" in gain.verdict()


def test_a_foundation_that_does_not_help_is_called_so_in_the_table() -> None:
    results = study([0.4, 0.5, 0.6], [0.3, 0.5, 0.6])
    text = printed(results)
    assert "1 shot: foundation NO better than random: -0.033 ± 0.058 Dice" in text
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
    assert "0.200 ± 0.100" in text  # random Dice
    assert "0.250 ± 0.050" in text  # foundation clDice
    assert "+0.300 ± 0.000" in text
    assert "2.0 / 3.0" in text
    assert "pooled over 32 test frames" in text


def test_runs_that_training_did_not_help_are_owned_up_to() -> None:
    random, *others = study([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    assert "step 0" not in printed([random, *others])
    text = printed([replace(random, chosen_step=0), *others])
    assert "from random: step 0 is the best of 1 of 3 runs" in text
    assert "from foundation: step 0" not in text


def test_the_files_hold_every_run_and_what_follows_from_them(tmp_path: Path) -> None:
    results = study([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    write_report(results, FinetuneSettings(), CARD, tmp_path / "new")
    with (tmp_path / "new" / "fewshot.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["test-dice"]) for row in rows] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert rows[3]["start"] == "foundation"
    content = json.loads((tmp_path / "new" / "fewshot.json").read_text("utf-8"))
    assert len(content["runs"]) == 6
    assert content["settings"]["learning-rate"] == 2e-3
    assert content["foundation"]["domains"] == ["human"]
    random, foundation = content["summary"]
    assert random["test-dice"]["mean"] == pytest.approx(0.2)
    assert foundation["test-dice"]["sd"] == pytest.approx(0.1)
    assert content["verdict"] == [gain.verdict() for gain in gains_of(results)]


def test_a_missing_deviation_is_null_in_the_file(tmp_path: Path) -> None:
    write_report(study([0.1], [0.4]), FinetuneSettings(), CARD, tmp_path)
    content = json.loads((tmp_path / "fewshot.json").read_text("utf-8"))
    assert content["summary"][0]["test-dice"]["sd"] is None


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_figure_is_drawn_with_one_or_more_seeds(tmp_path: Path, seeds: int) -> None:
    results = study([0.1, 0.2, 0.3][:seeds], [0.4, 0.5, 0.6][:seeds])
    path = draw_fewshot(results, tmp_path / "fewshot.png", domain="neuro")
    pixels = imread(path)
    assert pixels.shape[1] > pixels.shape[0] > 400
    assert pixels.std() > 0.05  # not a blank page


def test_a_row_takes_its_own_runs_only() -> None:
    results = [result("random", 0, 0.1), result("random", 0, 0.9, shots=5)]
    assert spread_of(results, 5, "random", "test_dice").mean == 0.9
