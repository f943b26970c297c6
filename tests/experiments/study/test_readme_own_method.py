"""The method and the study that the README writes down work as they stand there."""

import re
from pathlib import Path
from typing import Any

import pytest

from experiments.study.budget import budget_problems, count_study
from experiments.study.study_file import read_study
from strategies.rivals.method import Memory, Method
from strategies.rivals.registry import RIVALS, Rival
from strategies.settings import STRATEGIES, RunSettings
from tests.strategies.rivals.toy_federation import (
    Silos,
    by_silo,
    listed,
    play,
    state,
    terms,
)

README = Path(__file__).parents[3] / "README.md"
SECTION = "### A method and a study of your own"


def block(language: str) -> str:
    section = README.read_text(encoding="utf-8").split(SECTION, 1)[1]
    return re.findall(rf"```{language}\n(.*?)```", section, re.S)[0]


@pytest.fixture
def median(monkeypatch: pytest.MonkeyPatch) -> type[Method]:
    found: dict[str, Any] = {}
    exec(block("python"), found)  # our own README
    kind: type[Method] = found["Median"]
    monkeypatch.setitem(RIVALS, "median", Rival(kind))
    monkeypatch.setattr("strategies.settings.STRATEGIES", (*STRATEGIES, "median"))
    return kind


def test_one_broken_hospital_does_not_move_the_median(
    median: type[Method], run_config: dict[str, Any]
) -> None:
    method = median(terms(RunSettings.from_run_config(run_config), ("a", "b", "c")))
    silos = Silos(by_silo(a=1.0, b=3.0, c=1e9))
    after = play(method, Memory(state(0.0)), silos)
    assert listed(after.theta) == {"w": [3.0]}
    assert {task.weights["w"].item() for task in silos.asked[0]} == {0.0}
    assert listed(play(method, after, Silos(by_silo())).theta) == {"w": [3.0]}


def test_the_study_of_the_readme_can_be_run(
    median: type[Method], tmp_path: Path
) -> None:
    site = '[[site]]\nname = "{0}"\ndomain = "{0}"\n'
    sites = "\n".join(site.format(one) for one in ("human", "phantom"))
    (tmp_path / "my_sites.toml").write_text(sites)
    path = tmp_path / "my_study.toml"
    path.write_text(block("toml"))
    spec = read_study(path)
    assert [row.name for row in spec.rows] == ["pooled", "FedAvg", "median"]
    budgets = count_study(spec, {"our hospitals": ("human", "phantom")})
    assert budget_problems(spec, budgets) == []
    assert {one.per_silo for one in budgets.values()} >= {320}


def test_the_registry_is_named_as_it_is() -> None:
    section = README.read_text(encoding="utf-8").split(SECTION, 1)[1]
    assert '`"median": Rival(Median),` in `strategies/rivals/registry.py`' in section
    assert block("python").startswith("# strategies/rivals/median.py\n")
