from dataclasses import fields
from pathlib import Path

import pytest

from experiments.adaptation.job import BUDGET, CLEANING, COARSE, FINE, STYLE
from experiments.adaptation.plan import (
    DEFAULT_ROWS,
    ROWS,
    check_rows,
    merge_tables,
    plan_of,
    read_table,
    split_overrides,
)
from experiments.adaptation.row_titles import ROW_TITLES
from experiments.adaptation.study_files import public_study
from experiments.commands.adapt import SMALL_FILE
from experiments.run_config import PROJECT_FOLDER
from strategies.adaptation_settings import AdaptationSettings
from strategies.settings import SettingsError
from tests.experiments.adaptation.small_study import ADAPT, STUDY, small_plan

CONFIGS = sorted((PROJECT_FOLDER / "experiments" / "configs").glob("adapt_*.toml"))


def table_of(**tables: object) -> dict:
    return merge_tables({"study": STUDY, "adapt": ADAPT, **tables})


def test_a_variant_changes_its_own_settings_and_shares_the_others() -> None:
    plan = plan_of(
        table_of(
            variant=[
                {"name": "slow", "adapt": {"learning-rate": 1e-5}, "rows": ["ours"]},
                {"name": "few", "frames": 2},
            ]
        )
    )
    slow, few = plan.variants
    assert (slow.settings.learning_rate, few.settings.learning_rate) == (1e-5, 1e-3)
    assert slow.settings.epochs == few.settings.epochs == ADAPT["epochs"]
    assert (slow.rows, few.rows) == (("ours",), DEFAULT_ROWS)
    assert (slow.frames, few.frames) == (0, 2)


def test_the_command_line_wins_over_file_and_variant() -> None:
    table = table_of(variant=[{"name": "slow", "adapt": {"learning-rate": 1e-5}}])
    plan = plan_of(table, ["adapt.learning-rate=0.5"])
    assert plan.variants[0].settings.learning_rate == 0.5


def test_a_later_table_replaces_the_variants_of_an_earlier_one() -> None:
    merged = merge_tables(
        table_of(variant=[{"name": "a"}, {"name": "b"}]),
        {"variant": [{"name": "c"}], "study": {"seeds": [4]}},
        {},
    )
    assert [one["name"] for one in merged["variant"]] == ["c"]
    assert merged["study"]["seeds"] == [4]
    assert merged["study"]["target-patients"] == STUDY["target-patients"]


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"study": {**STUDY, "moon": 1}}, "no setting 'moon'"),
        ({"study": {**STUDY, "seeds": 0}}, "seeds must be a list of int"),
        ({"study": {**STUDY, "seeds": [0, 0]}}, "different numbers"),
        ({"study": {**STUDY, "seeds": []}}, "different numbers"),
        ({"study": {**STUDY, "test-patients": 0}}, "test-patients must be at least 1"),
        ({"study": {**STUDY, "target": 3}}, "target must be str"),
        ({"study": {**STUDY, "model": ""}}, "--from"),
        ({"variant": [{"name": "a"}, {"name": "a"}]}, "two variants have one name"),
        ({"variant": [{"nome": "a"}]}, "but no 'nome'"),
        ({"adapt": {"epochs": 0}}, "adapt.epochs must be at least 1"),
        ({"adapt": {"epoch": 2}}, "did you mean adapt.epochs"),
    ],
)
def test_a_wrong_study_is_one_clear_error(tables: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        plan_of(table_of(**tables))


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ({"rows": ["theirs"]}, "rows must be some of"),
        ({"rows": []}, "rows must be some of"),
        ({"frames": -1}, "frames of a variant"),
        ({"labels-from": "truth"}, "labels-from must be one of"),
    ],
)
def test_a_variant_that_nobody_could_compute_is_refused(
    variant: dict, message: str
) -> None:
    plan = plan_of(table_of(variant=[{"name": "", **variant}]))
    with pytest.raises(SettingsError, match=message):
        check_rows(plan)


def test_settings_of_other_things_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"got 'data\.crop=none'"):
        plan_of(table_of(), ["data.crop=none"])


def test_a_study_file_may_have_its_own_tables_only(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[model]\nname = 'unet'\n")
    with pytest.raises(SettingsError, match="no 'model'"):
        read_table(file)
    file.write_text("[study")
    with pytest.raises(SettingsError, match="not valid"):
        read_table(file)
    with pytest.raises(SettingsError, match="cannot be read") as error:
        read_table(tmp_path / "none.toml")
    assert str(tmp_path) not in str(error.value)


def test_settings_of_a_study_are_told_from_those_of_the_method() -> None:
    study, others = split_overrides(
        ["study.seeds=[0,1]", "adapt.epochs=3", "study.target-patients=4"]
    )
    assert study == {"seeds": [0, 1], "target-patients": 4}
    assert others == ["adapt.epochs=3"]
    with pytest.raises(SettingsError, match="as TOML writes it"):
        split_overrides(["study.target=neuro"])


def test_a_study_that_was_kept_is_the_same_study() -> None:
    plan = small_plan([{"name": "a", "frames": 2}, {"name": "b", "rows": ["ours"]}])
    assert plan_of(merge_tables(public_study(plan))) == plan


def test_a_model_that_is_a_file_is_not_written_down() -> None:
    kept = public_study(small_plan(model="/home/doe/foundation.safetensors"))
    assert "doe" not in repr(kept)
    assert public_study(small_plan(model="models:/a@best"))["study"]["model"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_study_file_is_right_and_says_how_to_run_it(path: Path) -> None:
    table = merge_tables(read_table(path), {"study": {"model": "random"}})
    plan = plan_of(table)
    check_rows(plan)
    wanted = f"endofed adapt --config experiments/configs/{path.name}"
    assert wanted in path.read_text() or path.name == SMALL_FILE


def test_there_are_study_files_for_all_tables() -> None:
    names = {path.stem for path in CONFIGS}
    wanted = {"methods", "ablation", "prompts", "rates", "frames"}
    assert {f"adapt_{one}" for one in wanted} <= names


def test_every_row_has_a_title() -> None:
    assert set(ROWS) <= set(ROW_TITLES)


def test_every_setting_of_the_method_decides_the_name_of_some_stage() -> None:
    known = {*STYLE, *COARSE, *CLEANING, *FINE}
    # The source frames themselves are part of what a stage is named after.
    own = {one.name for one in fields(AdaptationSettings)} - {"source_domains"}
    assert own == known
    assert set(BUDGET) <= set(FINE)
