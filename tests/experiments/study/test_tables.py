"""The rules of the tables: bold, ties, missing seeds, numbers that nobody has."""

from pathlib import Path

from experiments.study.columns import (
    cost_columns,
    quality_columns,
    transfer_columns,
)
from experiments.study.findings import Findings
from experiments.study.reading import read_findings
from experiments.study.spec import StudySpec
from experiments.study.tables import (
    ablations_of,
    leader_of,
    markdown,
    sections_of,
    wide_rows,
)
from tests.experiments.study.fake_study import (
    SCENARIO,
    job,
    measures,
    put,
    put_rows,
    result,
    row,
    study,
)

ROWS = {
    "Pooled": [0.90, 0.92, 0.94],
    "FedAvg": [0.70, 0.72, 0.74],
    "FedProx": [0.71, 0.72, 0.76],
    "Gate": [0.75, 0.80, 0.79],
}
SPEC = study(
    row("Pooled", "bounds"), row("FedAvg"), row("FedProx"), row("Gate", "ours")
)


def read(folder: Path, spec: StudySpec = SPEC) -> Findings:
    return read_findings(folder, spec)


def cells_of(lines: list[str], name: str) -> dict[str, str]:
    """Return the cells of a row by heading."""
    heads = [one.strip() for one in lines[0].strip("|").split("|")]
    for line in lines[2:]:
        cells = [one.strip() for one in line.strip("|").split("|")]
        if cells[0].strip("*").startswith(name):
            return dict(zip(heads, cells, strict=True))
    raise AssertionError(f"no row {name}")


def quality(findings: Findings) -> list[str]:
    columns = quality_columns(findings, SCENARIO)
    sections = sections_of(findings.spec, SCENARIO, "equal-steps")
    return markdown(findings, SCENARIO, sections, columns)


def test_a_cell_is_mean_and_deviation_in_percent(tmp_path: Path) -> None:
    put_rows(tmp_path, ROWS)
    lines = quality(read(tmp_path))
    cells = cells_of(lines, "FedAvg")
    assert cells["Dice"] == "72.0 ± 2.0"
    assert cells["HD95 px"] == "4.0 ± 0.0"
    assert cells["worst site"] == "62.0 ± 2.0"
    assert cells["Δ to FedAvg"] == "–"
    # +5, +8 and +5 points: three seeds give the range.
    assert cells_of(lines, "Gate")["Δ to FedAvg"] == "+6.0 [+5.0, +8.0] 3/3"


def test_bold_is_the_highest_mean_of_a_section_of_several(tmp_path: Path) -> None:
    put_rows(tmp_path, ROWS)
    lines = quality(read(tmp_path))
    assert cells_of(lines, "FedProx")["row"] == "**FedProx**"
    assert cells_of(lines, "FedProx")["Dice"] == "**73.0 ± 2.6**"
    assert cells_of(lines, "FedAvg")["row"] == "FedAvg"
    assert cells_of(lines, "Gate")["row"] == "Gate"  # alone in its section
    assert cells_of(lines, "Pooled")["row"] == "Pooled"
    text = "\n".join(lines)
    assert "Highest mean Dice of *rivals*: FedProx; within one sd of it: FedAvg" in text


def test_the_upper_bound_never_leads(tmp_path: Path) -> None:
    put_rows(tmp_path, ROWS)
    rows = [row("Pooled"), row("FedAvg"), row("FedProx")]
    assert leader_of(read(tmp_path), SCENARIO, rows) == ("FedProx", ["FedAvg"], 2)
    assert leader_of(read(tmp_path), SCENARIO, rows[:2]) == ("FedAvg", [], 1)
    assert leader_of(read(tmp_path), SCENARIO, rows[:1]) is None


def test_the_highest_row_is_compared_with_the_other_leaders_and_with_pooled(
    tmp_path: Path,
) -> None:
    put_rows(tmp_path, ROWS)
    text = "\n".join(quality(read(tmp_path)))
    assert "*ours*: Gate" not in text  # who is alone wins nothing
    # t(0.975, 2) = 4.3027; the differences have deviations of 2.6458 and 1.7321.
    assert (
        "- Gate against FedProx: +5.0 [+3.0, +8.0] 3/3 points of Dice; "
        "by Student's t [-1.6, +11.6]." in text
    )
    assert (
        "- Gate against Pooled: -14.0 [-15.0, -12.0] 0/3 points of Dice; "
        "by Student's t [-18.3, -9.7]." in text
    )


def test_nothing_is_compared_with_a_row_that_was_not_trained(tmp_path: Path) -> None:
    put_rows(tmp_path, {**ROWS, "Random": [0.1, 0.1, 0.2]})
    spec = study(*SPEC.rows, row("Random", "untrained", kind="untrained"))
    lines = quality(read(tmp_path, spec))
    assert cells_of(lines, "Random")["Δ to FedAvg"].endswith("0/3")
    assert "- Gate against FedProx" in "\n".join(lines)
    assert "against Random" not in "\n".join(lines)


def test_a_row_without_results_is_left_out_and_one_with_few_says_so(
    tmp_path: Path,
) -> None:
    put_rows(tmp_path, {"FedAvg": [0.5, 0.6, 0.7], "Gate": [0.6, 0.7]})
    lines = quality(read(tmp_path))
    assert not any("Pooled" in line for line in lines)
    cells = cells_of(lines, "Gate")
    assert cells["row"] == "Gate (2 of 3 seeds)"
    assert cells["Δ to FedAvg"] == "+10.0 2/2"


def test_a_distance_that_no_frame_has_is_left_out_of_the_mean(tmp_path: Path) -> None:
    test = result(0.5)["test"]
    for seed, value in enumerate((None, float("nan"), 6.0)):
        found = result(0.5, test={**test, "hd95_px": value})
        put(tmp_path, job("FedAvg", seed), found)
    assert cells_of(quality(read(tmp_path)), "FedAvg")["HD95 px"] == "6.0 (1 of 3)"


def test_transfer_is_the_mean_over_draws_in_the_order_of_shots(tmp_path: Path) -> None:
    shots = {"10": {"dice": [0.6, 0.8]}, "2": {"dice": [0.1, 0.3]}}
    found = result(0.5, few_shot={"neuro": shots}, unseen={"neuro": measures(0.25)})
    put(tmp_path, job("FedAvg", 0), found)
    findings = read(tmp_path)
    columns = transfer_columns(findings, SCENARIO)
    heads = ["neuro, unseen", "neuro, 2-shot", "neuro, 10-shot"]
    assert [column.heading for column in columns] == heads
    sections = sections_of(findings.spec, SCENARIO, "equal-steps")
    lines = markdown(findings, SCENARIO, sections, columns)
    assert list(cells_of(lines, "FedAvg").values())[1:] == ["25.0", "20.0", "70.0"]


def test_rounds_to_reach_are_counted_with_the_pooled_row_of_the_same_seed(
    tmp_path: Path,
) -> None:
    # 90 % of 0.8 is 0.72: of 0.76 in 4 rounds only the last; 0.7 never comes so far.
    put_rows(tmp_path, {"Pooled": [0.8, 0.8, 0.8], "FedAvg": [0.76, 0.7, 1.0]})
    findings = read(tmp_path)
    sections = sections_of(findings.spec, SCENARIO, "equal-steps")
    lines = markdown(findings, SCENARIO, sections, cost_columns(findings, SCENARIO))
    cells = cells_of(lines, "FedAvg")
    assert cells["rounds to 90 %"] == "3.5 (2 of 3)"  # 4 and 3 rounds
    assert cells["MB to 90 %"] == "3.5 (2 of 3)"
    assert cells["steps to 90 %"] == "28 (2 of 3)"
    assert cells["MB a round"] == "1.00"


def test_who_never_comes_so_far_is_called_never(tmp_path: Path) -> None:
    put_rows(tmp_path, {"Pooled": [0.8], "FedAvg": [0.5]})
    findings = read(tmp_path)
    sections = sections_of(findings.spec, SCENARIO, "equal-steps")
    lines = markdown(findings, SCENARIO, sections, cost_columns(findings, SCENARIO))
    assert cells_of(lines, "FedAvg")["rounds to 90 %"] == "never"


def test_ablations_stand_apart_and_are_compared_with_their_first_row(
    tmp_path: Path,
) -> None:
    group = "ablation: the weight"
    spec = study(row("FedAvg"), row("w = 1", group), row("w = random", group))
    scores = {"FedAvg": [0.5] * 3, "w = 1": [0.6] * 3, "w = random": [0.55] * 3}
    put_rows(tmp_path, scores)
    findings = read(tmp_path, spec)
    assert list(sections_of(spec, SCENARIO, "equal-steps")) == ["rivals"]
    sections = ablations_of(spec, SCENARIO)
    columns = quality_columns(findings, SCENARIO, base="w = 1")
    lines = markdown(findings, SCENARIO, sections, columns)
    cells = cells_of(lines, "w = random")
    assert cells["Δ to FedAvg"] == "+5.0 [+5.0, +5.0] 3/3"
    assert cells["Δ to w = 1"] == "-5.0 [-5.0, -5.0] 0/3"


def test_the_chosen_trial_is_shown_by_its_settings(tmp_path: Path) -> None:
    trials = ({"train.learning-rate": 2e-3}, {"train.learning-rate": 4e-3})
    spec = study(row("FedAvg", trials=trials), seeds=(0,))
    put(tmp_path, job("FedAvg", 0, trial=1), result(0.5))
    findings = read(tmp_path, spec)
    sections = sections_of(spec, SCENARIO, "equal-steps")
    lines = markdown(findings, SCENARIO, sections, cost_columns(findings, SCENARIO))
    assert cells_of(lines, "FedAvg")["trial"] == "learning-rate 0.004"


def test_the_wide_table_has_numbers_in_full(tmp_path: Path) -> None:
    put_rows(tmp_path, ROWS)
    findings = read(tmp_path)
    sections = sections_of(findings.spec, SCENARIO, "equal-steps")
    rows = wide_rows(findings, SCENARIO, sections, quality_columns(findings, SCENARIO))
    gate = next(one for one in rows if one["row"] == "Gate")
    assert abs(float(str(gate["test/dice mean"])) - 0.78) < 1e-12
    assert (gate["dice - FedAvg wins"], gate["seeds"]) == (3, 3)
    assert rows[0].keys() == rows[-1].keys()
