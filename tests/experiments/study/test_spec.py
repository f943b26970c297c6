"""How a study is read, and that all its mistakes are told at once."""

from pathlib import Path

import pytest

from clients.sites import load_sites
from experiments.partition_sites import silo_names
from experiments.study.budget import budget_problems, count_study
from experiments.study.study_file import STUDIES, find_study, read_study
from strategies.settings import SettingsError
from tests.experiments.study.tiny import (
    PARTITION,
    row,
    spec_of,
    study_table,
    write_study,
)


def mistakes_of(folder: Path, *rows: dict, **top: object) -> str:
    with pytest.raises(SettingsError) as caught:
        spec_of(folder, *rows, **top)
    return str(caught.value)


def test_a_study_is_named_after_its_file_and_has_defaults(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    assert (spec.name, spec.title, spec.seeds, spec.tune_seed) == (
        "tiny",
        "tiny",
        (0,),
        0,
    )
    assert spec.base["train.steps"] == 1  # of the file
    assert spec.base["train.weight-decay"] == 0.01  # of pyproject.toml
    assert spec.base["mlflow"] is False


def test_the_first_seed_tunes_unless_another_is_named(tmp_path: Path) -> None:
    assert spec_of(tmp_path, seeds=[3, 4]).tune_seed == 3
    assert spec_of(tmp_path, seeds=[3, 4], tune_seed=9).tune_seed == 9


def test_later_settings_win_over_earlier_ones(tmp_path: Path) -> None:
    trial = {"train.batch-size": 5}
    table = study_table(
        {**row("A", train__steps=3, train__batch_size=3), "trials": [trial]}
    )
    table["scenario"][0]["settings"] = {"train.steps": 2, "num-rounds": 2}
    path = write_study(tmp_path, table)

    spec = read_study(path, ["train.learning-rate=0.5", "train.batch-size=7"])
    found = spec.settings_of(spec.scenarios[0], spec.rows[0], 0, seed=11)

    assert found["num-rounds"] == 2  # scenario over base
    assert found["train.steps"] == 3  # row over scenario
    assert found["train.batch-size"] == 7  # command line over trial
    assert found["train.learning-rate"] == 0.5
    assert found["seed"] == 11
    assert (
        read_study(path).settings_of(spec.scenarios[0], spec.rows[0], 0, 0)[
            "train.batch-size"
        ]
        == 5
    )  # trial over row


def test_a_key_of_the_study_can_be_set_from_the_command_line(tmp_path: Path) -> None:
    path = write_study(tmp_path, study_table())
    assert read_study(path, ["study.seeds=[4, 5]"]).seeds == (4, 5)
    budget = ["study.budget.steps-per-silo=7", 'study.budget.equal-steps=["rivals"]']
    assert read_study(path, budget).steps_per_silo == 7


def test_common_trials_are_those_of_rows_without_their_own(tmp_path: Path) -> None:
    common = [{"train.learning-rate": 1e-3}, {"train.learning-rate": 2e-3}]
    own = {**row("B"), "trials": [{"fedefm.beta": 0.1}, {"fedefm.beta": 0.2}]}
    inherits = {**row("C"), "trials-of": "B"}
    spec = spec_of(tmp_path, row("A"), own, inherits, trials=common)
    a, b, c = spec.rows
    assert a.trials == tuple(common)
    assert b.trials[1] == {"fedefm.beta": 0.2}
    assert c.trials == ()
    assert spec.trials_for(c) == b.trials


def test_rows_that_share_a_training_have_the_same_settings(tmp_path: Path) -> None:
    local = row("local", fedefm__teachers="none", fedefm__feedback="none")
    ensemble = {
        "name": "ensemble",
        "group": "rivals",
        "same-training-as": "local",
        "model-of": "ensemble",
    }
    one, other = spec_of(tmp_path, {**local, "model-of": "silos"}, ensemble).rows
    assert one.settings == other.settings
    assert (one.model_of, other.model_of) == ("silos", "ensemble")


def test_rows_with_more_trials_than_others_are_named(tmp_path: Path) -> None:
    two = [{"train.learning-rate": 1e-3}, {"train.learning-rate": 2e-3}]
    found = mistakes_of(tmp_path, row("A"), row("B"), {**row("C"), "trials": two})
    assert "1: 'A', 'B'; 2: 'C'" in found


def test_all_mistakes_of_shape_are_told_at_once_with_hints(tmp_path: Path) -> None:
    broken = {**row("A"), "modelof": "global", "trials": [3]}
    table = study_table(broken, {"group": "g"}, seeds=["x"])
    table["scenario"] = [{"name": "none"}, {"name": "p", "partition": {"silos": "2"}}]
    with pytest.raises(SettingsError) as caught:
        read_study(write_study(tmp_path, table))
    found = str(caught.value)
    assert "row 'A' has an unknown key 'modelof' (did you mean 'model-of'?)" in found
    assert "row 'A': trials must be a list of tables, got [3]" in found
    assert "a [[row]] lacks name" in found
    assert "seeds must be a list of whole numbers" in found
    assert "scenario 'none' needs either sites or a partition" in found
    assert "partition of scenario 'p': silos must be a whole number" in found


def test_settings_that_no_run_has_are_told_by_row_and_trial(tmp_path: Path) -> None:
    trials = [{"train.learning-rate": -1.0}, {"train.learnin-rate": 1.0}]
    found = mistakes_of(tmp_path, {**row("A"), "trials": trials})
    assert "row 'A', trial 1: train.learning-rate must be > 0" in found
    assert "row 'A', trial 2: train.learnin-rate is unknown" in found
    assert "did you mean train.learning-rate?" in found


def test_a_sites_file_that_is_not_there_is_looked_for_beside_the_study(
    tmp_path: Path,
) -> None:
    table = study_table(row("A"))
    table["scenario"] = [{"name": "ours", "sites": "my_sites.toml"}]
    with pytest.raises(SettingsError, match="relative path begins at the folder") as it:
        read_study(write_study(tmp_path, table))
    assert "scenario 'ours': its sites file is not there" in str(it.value)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("kind", "pool", "kind must be one of federation, pooled, untrained"),
        ("model-of", "all", "model-of must be one of global, silos"),
        ("table", "best", "table must be one of equal-steps"),
        ("count", "none", "count must be one of all, own"),
        ("scenarios", ["aprt"], "there is no 'aprt' (did you mean 'apart'?)"),
        ("trials-of", "B", "trials-of: there is no 'B'"),
        ("same-training-as", "B", "same-training-as must name a row that trains"),
        ("pooled-steps-factor", 2, "is a number > 0 for kind = 'pooled'"),
        ("shots", [0], "shots must be numbers >= 1"),
    ],
)
def test_what_a_row_cannot_be_is_refused(
    tmp_path: Path, key: str, value: object, said: str
) -> None:
    table = {"name": "A", "group": "g", key: value}
    assert said in mistakes_of(tmp_path, table)


def test_a_scenario_takes_trials_only_from_one_that_has_its_rows(
    tmp_path: Path,
) -> None:
    two = [{"train.learning-rate": 1e-3}, {"train.learning-rate": 2e-3}]
    table = study_table(row("A"), {**row("B"), "scenarios": ["alike"]}, trials=two)
    table["scenario"].append(
        {"name": "alike", "partition": PARTITION, "trials-of": "apart"}
    )
    path = write_study(tmp_path, table)
    with pytest.raises(SettingsError) as caught:
        read_study(path)
    assert "scenario 'alike': 'apart' has not the row 'B' to tune" in str(caught.value)
    table["scenario"][1]["trials-of"] = "aprt"
    with pytest.raises(SettingsError, match="trials-of: there is no 'aprt'"):
        read_study(write_study(tmp_path, table))
    table["scenario"][1]["trials-of"] = "alike"  # nor from itself
    with pytest.raises(SettingsError, match="trials-of: there is no 'alike'"):
        read_study(write_study(tmp_path, table))


def test_a_strategy_without_silo_models_is_judged_by_the_global_one(
    tmp_path: Path,
) -> None:
    found = mistakes_of(
        tmp_path, {**row("A", strategy="fedavg"), "model-of": "personal"}
    )
    assert "silos have no models of their own with strategy 'fedavg'" in found


def test_the_study_decides_seeds_and_places_itself(tmp_path: Path) -> None:
    assert "seed is decided by the study" in mistakes_of(tmp_path, row("A", seed=1))


def test_a_domain_that_a_silo_holds_is_not_unseen(tmp_path: Path) -> None:
    found = mistakes_of(tmp_path, unseen=["phantom"])
    assert "'phantom' cannot be unseen: a silo of scenario 'apart' has labels" in found
    assert "'moon' is no simulated domain" in mistakes_of(tmp_path, unseen=["moon"])


def test_a_domain_that_silos_hold_without_labels_may_be_tested_on(
    tmp_path: Path,
) -> None:
    site = '[[site]]\nname = "{}"\n[[site.source]]\ndomain = "human"\n'
    bare = '[[site.source]]\ndomain = "phantom"\nlabels = "none"\n'
    (tmp_path / "sites.toml").write_text(site.format("a") + site.format("b") + bare)
    table = study_table(unseen=["phantom"])
    table["scenario"] = [{"name": "apart", "sites": "sites.toml"}]
    assert read_study(write_study(tmp_path, table)).unseen == ("phantom",)
    table["unseen"] = ["human"]
    with pytest.raises(SettingsError, match="'human' cannot be unseen"):
        read_study(write_study(tmp_path, table))


def test_a_network_that_cannot_be_built_is_told_before_any_job(
    tmp_path: Path,
) -> None:
    found = mistakes_of(tmp_path, row("A", model__name="fga-net-small"))
    assert "row 'A': image_size must be a multiple of 32, at least 64" in found
    found = mistakes_of(tmp_path, row("A", fedefm__grid_size=4))
    assert "row 'A': fedefm.grid-size is 4, but the encoder yields a map of (2, 2)" in (
        found
    )
    spec_of(tmp_path, row("A", fedefm__grid_size=4, strategy="fedavg"))


def test_a_partition_that_cannot_be_is_told(tmp_path: Path) -> None:
    table = study_table()
    table["scenario"][0]["partition"] = {**PARTITION, "silos": 3}
    with pytest.raises(SettingsError, match="at least 3 data types"):
        read_study(write_study(tmp_path, table))


def test_a_budget_names_groups_that_there_are(tmp_path: Path) -> None:
    budget = {"steps-per-silo": 4, "equal-steps": ["rivls"]}
    found = mistakes_of(tmp_path, budget=budget)
    assert "there is no 'rivls' (did you mean 'rivals'?)" in found
    assert "[budget] needs both" in mistakes_of(tmp_path, budget={"steps-per-silo": 4})


def test_a_file_that_is_no_toml_or_not_there_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("title = ")
    with pytest.raises(SettingsError, match="not valid TOML"):
        read_study(path)
    with pytest.raises(SettingsError, match="one of these names"):
        find_study("nothing-like-it")


@pytest.mark.parametrize("name", sorted(one.stem for one in STUDIES.glob("*.toml")))
def test_the_studies_that_come_along_are_right_and_on_equal_terms(name: str) -> None:
    path = find_study(name)
    assert f"endofed study {name}" in path.read_text()
    spec = read_study(path)
    silos_of = {
        one.name: silo_names(one.partition.silos)
        if one.partition is not None
        else [site.name for site in load_sites(str(one.sites))]
        for one in spec.scenarios
    }
    assert budget_problems(spec, count_study(spec, silos_of)) == []
