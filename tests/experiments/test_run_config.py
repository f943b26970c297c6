import json
from pathlib import Path

import pytest

from clients.sites import load_sites
from experiments.adaptation.plan import (
    check_rows,
    merge_tables,
    plan_of,
    read_table,
)
from experiments.run_config import (
    PROJECT_FOLDER,
    default_run_config,
    flatten,
    resolve_run_config,
    sites_of,
)
from server.journal import public_settings
from strategies.settings import RunSettings, SettingsError, SettingValue

CONFIGS = PROJECT_FOLDER / "experiments" / "configs"


def test_nested_tables_become_dotted_keys() -> None:
    nested = {"a": 1, "b": {"c": True, "d": {"e": "x"}}}
    assert flatten(nested) == {"a": 1, "b.c": True, "b.d.e": "x"}


def test_the_defaults_are_complete(run_config: dict[str, SettingValue]) -> None:
    assert default_run_config() == run_config
    RunSettings.from_run_config(default_run_config())


def test_later_words_win(tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text("seed = 1\n[train]\nsteps = 3\nbatch-size = 5\n")
    resolved = resolve_run_config(config=config, overrides=["train.steps=4"])
    assert resolved["seed"] == 1
    assert resolved["train.steps"] == 4
    assert resolved["train.batch-size"] == 5
    assert resolved["num-rounds"] == default_run_config()["num-rounds"]


def test_a_bare_word_is_a_text() -> None:
    assert resolve_run_config(overrides=["strategy=fedavg"])["strategy"] == "fedavg"
    assert resolve_run_config(overrides=['strategy="fedavg"'])["strategy"] == "fedavg"


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    resolved = resolve_run_config(sites=Path("s.toml"), output=Path("run"))
    assert resolved["sites"] == str(tmp_path / "s.toml")
    assert resolved["output"] == str(tmp_path / "run")


@pytest.mark.parametrize("override", ["train.steps", "=3", ""])
def test_an_override_without_a_value_is_refused(override: str) -> None:
    with pytest.raises(SettingsError, match="wants key=value"):
        resolve_run_config(overrides=[override])


def test_a_config_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "broken.toml"
    config.write_text("seed = = 1")
    with pytest.raises(SettingsError, match="not valid TOML"):
        resolve_run_config(config=config)
    with pytest.raises(SettingsError, match="cannot be read"):
        resolve_run_config(config=tmp_path / "missing.toml")


@pytest.mark.parametrize(
    "path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: str(path.stem)
)
def test_every_config_that_ships_is_valid_and_opens_with_its_command(
    path: Path,
) -> None:
    text = path.read_text()
    assert f"experiments/configs/{path.name}" in text.split("\n\n")[0]
    if path.stem.startswith("sites_"):
        assert load_sites(str(path))
    elif path.stem.startswith("adapt_"):
        table = merge_tables(read_table(path), {"study": {"model": "random"}})
        check_rows(plan_of(table, []))
    else:
        resolve_run_config(config=path)


def test_the_default_federation_has_four_hospitals() -> None:
    assert len(sites_of(default_run_config())) == 4


def test_the_literal_paper_differs_from_the_default_where_the_paper_does() -> None:
    literal = resolve_run_config(config=CONFIGS / "fedefm_literal.toml")
    settings = RunSettings.from_run_config(literal).fedefm
    assert settings.feedback == "none"
    assert settings.weight_scope == "loss"
    assert settings.reduction == "sum"
    assert settings.beta_in(1) == 0.5
    assert settings.emd_gradient == "none"


def earlier_run(folder: Path, **changes: object) -> Path:
    folder.mkdir()
    told = {**public_settings(default_run_config()), **changes}
    (folder / "settings.json").write_text(json.dumps(told))
    return folder


def test_a_resumed_run_has_the_earlier_settings_unless_told_otherwise(
    tmp_path: Path,
) -> None:
    run = earlier_run(tmp_path / "run", **{"train.steps": 5, "seed": 3})
    resolved = resolve_run_config(resume=run, overrides=["num-rounds=40"])
    assert (resolved["train.steps"], resolved["seed"]) == (5, 3)
    assert resolved["num-rounds"] == 40
    assert resolved["resume"] == str(run)
    assert resolved["sites"] == resolved["output"] == ""


def test_paths_that_a_run_folder_does_not_keep_are_asked_for(tmp_path: Path) -> None:
    run = earlier_run(tmp_path / "run", sites="custom")
    with pytest.raises(SettingsError, match=r"as sites.*with --sites FILE"):
        resolve_run_config(resume=run)
    again = resolve_run_config(resume=run, sites=tmp_path / "s.toml")
    assert again["sites"] == str(tmp_path / "s.toml")


def test_a_folder_that_is_no_run_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Give the folder of a run"):
        resolve_run_config(resume=tmp_path)
