import csv
import io
import json
import statistics

import pytest
from rich.console import Console

from clients.adaptation.scores import SCORE_TITLES, AdaptationScores, MeanScores
from clients.data.errors import DataError
from experiments.adaptation.differences import paired_differences
from experiments.adaptation.plan import ROWS
from experiments.adaptation.row_titles import ROW_TITLES, row_title
from experiments.adaptation.tables import AdaptationTable, RowKey

OURS = (0.60, 0.62, 0.67)
DIRECT = (0.50, 0.56, 0.50)


def scored(iou: float, frames: int = 32) -> AdaptationScores:
    means = MeanScores(
        frames=frames,
        iou=iou,
        f1=iou + 0.1,
        accuracy=0.995,
        sensitivity=0.8,
        cldice=iou + 0.2,
    )
    return AdaptationScores(left_out=1, overall=means, by_class={"guidewire": means})


NOTHING = AdaptationScores(left_out=33, overall=None, by_class={})


def study() -> AdaptationTable:
    runs = [("", "direct", seed, scored(iou)) for seed, iou in enumerate(DIRECT)]
    runs += [("", "ours", seed, scored(iou)) for seed, iou in enumerate(OURS)]
    runs += [("", "real", 0, scored(0.7)), ("", "sam-box", 0, NOTHING)]
    return AdaptationTable.of("Held-out domain", runs)


def test_a_cell_is_mean_and_sample_deviation_over_seeds_in_percent() -> None:
    # 60, 62, 67: mean 63, squares 9 + 1 + 16 = 26, 26 / 2 = 13, root 3.61.
    cells = {line[0]: line[1:] for line in study().cells()}
    assert cells["Ours (student)"][0] == "63.00 ± 3.61"
    assert cells["Ours (student)"][2] == "99.50 ± 0.00"
    assert cells["Direct transfer"][0] == "52.00 ± 3.46"
    assert cells["Ours (student)"][-2:] == ["3", "32"]


def test_one_seed_has_no_deviation_and_nothing_measured_has_no_mean() -> None:
    cells = {line[0]: line[1:] for line in study().cells()}
    assert cells["SAM, real labels"][0] == "70.00 ± –"
    assert cells["SAM, box"] == ["–"] * len(SCORE_TITLES) + ["1", "0"]


def test_rows_stand_in_the_order_in_which_they_came() -> None:
    assert [key.row for key in study().rows] == ["direct", "ours", "real", "sam-box"]


def test_markdown_has_a_line_for_every_row_and_as_many_cells_as_headings() -> None:
    text = study().markdown()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 4
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    assert lines[0].startswith("| row | IoU | F1 | Accuracy | Sensitivity | clDice |")
    assert "| Ours (student) | 63.00 ± 3.61 |" in lines[3]
    assert "**Held-out domain**" in text
    assert "standard deviation over seeds" in text


def test_csv_has_every_seed_in_full_precision() -> None:
    lines = list(csv.DictReader(io.StringIO(study().csv())))
    assert len(lines) == 8
    ours = [line for line in lines if line["row"] == "ours"]
    assert [float(line["iou"]) for line in ours] == list(OURS)
    assert [line["seed"] for line in ours] == ["0", "1", "2"]
    assert ours[0]["guidewire.iou"] == "0.6"
    assert ours[0]["catheter.iou"] == ""
    assert lines[-1]["iou"] == ""
    assert lines[-1]["left-out"] == "33"


def test_the_summary_is_json_and_holds_the_same_numbers() -> None:
    summary = json.loads(json.dumps(study().summary(), allow_nan=False))
    ours = next(line for line in summary if line["row"] == "ours")
    assert ours["seeds"] == [0, 1, 2]
    assert ours["iou"]["mean"] == pytest.approx(statistics.fmean(OURS))
    assert ours["iou"]["sd"] == pytest.approx(statistics.stdev(OURS))
    assert summary[2]["iou"] == {"mean": 0.7, "sd": None}
    assert summary[3]["iou"] == {"mean": None, "sd": None}


def test_the_terminal_shows_rows_and_counts_in_eighty_columns() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(study().rich())
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "63.00 ± 3.61" in text
    assert "seeds: 1-3" in " ".join(text.split())
    assert "frames: 0-32" in " ".join(text.split())


def test_several_variants_have_a_column_and_rows_of_their_own() -> None:
    table = AdaptationTable.of(
        "Learning rate",
        [("lr 1e-3", "ours", 0, scored(0.5)), ("lr 1e-4", "ours", 0, scored(0.6))],
    )
    assert table.headings()[:2] == ["variant", "row"]
    assert [line[:3] for line in table.cells()] == [
        ["lr 1e-3", "Ours (student)", "50.00 ± –"],
        ["lr 1e-4", "Ours (student)", "60.00 ± –"],
    ]
    assert table.spread(RowKey("lr 1e-4", "ours"), "iou").mean == 0.6
    assert study().headings()[0] == "row"


def test_a_run_that_comes_twice_is_refused() -> None:
    twice = [("", "ours", 0, scored(0.5)), ("", "ours", 0, scored(0.6))]
    with pytest.raises(DataError, match="got 2 runs of 1 different"):
        AdaptationTable.of("Twice", twice)
    with pytest.raises(DataError, match="needs runs"):
        AdaptationTable.of("Empty", [])


def test_differences_are_taken_seed_by_seed() -> None:
    # 10, 6 and 17 points: mean 11, squares 1 + 25 + 36 = 62, 62 / 2 = 31, root 5.57.
    found = paired_differences(study(), "ours", "direct")
    assert [values["iou"] for values in found.by_seed.values()] == pytest.approx(
        [0.10, 0.06, 0.17]
    )
    assert found.spread("iou").mean == pytest.approx(0.11)
    assert found.spread("iou").sd == pytest.approx(31**0.5 / 100)
    assert found.better("iou") == 3
    assert found.sentence() == (
        "Ours (student) against Direct transfer: +11.00 ± 5.57 points of IoU, better "
        "in 3 of 3 seeds"
    )


def test_only_seeds_of_both_rows_are_compared() -> None:
    found = paired_differences(study(), "real", "ours")
    assert list(found.by_seed) == [0]
    assert found.sentence().endswith("+10.00 ± – points of IoU, better in 1 of 1 seeds")
    with pytest.raises(DataError, match="share no measured seed"):
        paired_differences(study(), "ours", "sam-box")


def test_variants_can_be_compared_and_must_be_named_where_not_clear() -> None:
    table = AdaptationTable.of(
        "Learning rate",
        [
            ("lr 1e-3", "direct", 0, scored(0.45)),
            ("lr 1e-3", "ours", 0, scored(0.5)),
            ("lr 1e-4", "direct", 0, scored(0.58)),
            ("lr 1e-4", "ours", 0, scored(0.6)),
        ],
    )
    with pytest.raises(DataError, match="One line 'ours' was wanted, the table has 2"):
        paired_differences(table, "ours", "direct")
    within = paired_differences(table, "ours", "direct", variant="lr 1e-4")
    assert within.by_seed[0]["iou"] == pytest.approx(0.02)
    across = paired_differences(
        table, "ours", "ours", variant="lr 1e-4", baseline_variant="lr 1e-3"
    )
    assert across.by_seed[0]["iou"] == pytest.approx(0.1)
    assert across.sentence().startswith(
        "Ours (student) (lr 1e-4) against Ours (student) (lr 1e-3): +10.00"
    )


def test_every_row_of_a_study_has_a_title_of_its_own() -> None:
    assert set(ROWS) <= set(ROW_TITLES)
    assert len({row_title(row) for row in ROWS}) == len(ROWS)
    assert row_title("student-points-box") == "Student, points and box"
    assert row_title("something new") == "something new"
