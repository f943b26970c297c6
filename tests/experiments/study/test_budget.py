"""Steps as they are counted beforehand, by hand and against those really taken."""

from pathlib import Path
from typing import Any

import pytest

import clients.optimisation
from experiments.study.budget import budget_problems, count_row_steps, count_study
from experiments.study.steps import CENTRE, OWN, VISITORS, Budget, RoundSteps
from experiments.study.study_file import read_study
from experiments.study.training import settings_of, train
from strategies.settings import RunSettings, SettingsError
from tests.experiments.study.tiny import (
    SILOS,
    dotted,
    job_of,
    plan_of,
    row,
    spec_of,
    study_table,
    write_study,
)

FOUR = ("a", "b", "c", "d")


def budget_of(
    run_config: dict[str, Any],
    silos: tuple[str, ...] = FOUR,
    *,
    kind: str = "federation",
    factor: float = 0.0,
    **settings: Any,  # noqa: ANN401 - of a run
) -> Budget:
    found = RunSettings.from_run_config({**run_config, **dotted(settings)})
    return count_row_steps(kind, factor, found, silos)


def test_visitors_make_the_busiest_silo_busier_and_nobody_else() -> None:
    one = RoundSteps(1)
    one.add_phase([(OWN, "a", 3), (OWN, "b", 3), (VISITORS, "b", 2)])
    one.add_phase([(OWN, "a", 1)])
    assert (one.total(), one.total(OWN), one.total(VISITORS)) == (9, 7, 2)
    assert one.sequential == 5 + 1


def test_fedavg_takes_its_steps_in_every_round(run_config: dict[str, Any]) -> None:
    budget = budget_of(run_config, strategy="fedavg", num_rounds=13, train__steps=16)
    assert budget.per_silo == budget.own_per_silo == budget.sequential == 208
    assert budget.after(2) == {"steps": 32, "sequential": 32}


def test_fedefm_has_a_warm_up_and_visitors(run_config: dict[str, Any]) -> None:
    budget = budget_of(
        run_config,
        num_rounds=12,
        train__steps=14,
        fedefm__warmup_steps=16,
        fedefm__overseas_steps=2,
    )
    assert budget.own_per_silo == 16 + 12 * 14
    assert budget.total(VISITORS) == 4 * 12 * 2
    assert budget.per_silo == 208
    assert budget.sequential == 208
    assert budget.after(0) == {"steps": 16, "sequential": 16}


def test_one_copy_stands_for_all_visitors_only_while_all_are_alike(
    run_config: dict[str, Any],
) -> None:
    settings = {
        "num_rounds": 1,
        "fedefm__topology": "complete",
        "fedefm__overseas_steps": 2,
    }
    alike = budget_of(run_config, **settings)
    apart = budget_of(run_config, **settings, fedefm__feedback="none")
    assert alike.total(VISITORS) == 4 * 2
    assert apart.total(VISITORS) == 4 * 3 * 2


def test_steps_at_the_centre_are_shared_by_all(run_config: dict[str, Any]) -> None:
    budget = budget_of(
        run_config,
        num_rounds=12,
        train__steps=14,
        fedefm__teach_on="proxy",
        fedefm__proxy_steps=8,
    )
    cost = budget.cost()
    assert (cost["steps_per_silo"], cost["server_steps"]) == (184, 96)
    assert cost["total_steps_per_silo"] == 208
    assert cost["sequential_steps"] == 184 + 96  # the centre waits for the silos


def test_steps_on_a_hospitals_unlabelled_frames_are_those_of_a_visitor(
    run_config: dict[str, Any],
) -> None:
    budget = budget_of(
        run_config,
        num_rounds=12,
        train__steps=14,
        fedefm__teach_on="proxy",
        fedefm__proxy_frames="hospital",
        fedefm__proxy_steps=8,
    )
    assert (budget.total(VISITORS), budget.total(CENTRE)) == (96, 0)
    assert (budget.per_silo, budget.sequential) == (208, 184 + 96)


def test_two_models_of_a_silo_take_twice_the_steps(run_config: dict[str, Any]) -> None:
    budget = budget_of(run_config, strategy="ditto", num_rounds=13, train__steps=8)
    assert budget.own_per_silo == budget.sequential == 208


def test_a_relay_has_one_silo_at_work_at_a_time(run_config: dict[str, Any]) -> None:
    budget = budget_of(run_config, strategy="relay", num_rounds=13, train__steps=16)
    assert (budget.per_silo, budget.sequential) == (208, 832)


def test_the_diagonal_is_a_measurement_and_no_training(
    run_config: dict[str, Any],
) -> None:
    plain = budget_of(run_config, num_rounds=2)
    measured = budget_of(run_config, num_rounds=2, fedefm__diagonal=True)
    assert measured.per_silo == plain.per_silo
    assert measured.sequential == plain.sequential
    assert measured.cost()["control_steps"] == 2 * 4 * 2


def test_the_pooled_model_takes_the_steps_of_all(run_config: dict[str, Any]) -> None:
    settings = {"num_rounds": 13, "train__steps": 16, "kind": "pooled"}
    budget = budget_of(run_config, **settings)
    assert (budget.per_silo, budget.sequential) == (208, 832)
    as_many = budget_of(run_config, **settings, factor=1)
    assert (as_many.per_silo, as_many.sequential) == (52, 208)


def test_what_is_not_trained_takes_nothing(run_config: dict[str, Any]) -> None:
    assert budget_of(run_config, kind="untrained").per_silo == 0


def test_rows_that_take_other_numbers_of_steps_are_named(tmp_path: Path) -> None:
    rows = [
        row("fits", strategy="fedavg", num_rounds=2),
        row("own fit", num_rounds=1, fedefm__warmup_steps=1),
        row("short", strategy="fedavg"),
        row("elsewhere", "others", strategy="fedavg"),
    ]
    rows[1]["count"] = "own"
    spec = spec_of(
        tmp_path, *rows, budget={"steps-per-silo": 2, "equal-steps": ["rivals"]}
    )
    problems = budget_problems(spec, count_study(spec, {"apart": SILOS}))
    assert len(problems) == 1
    assert problems[0].startswith("row 'short' takes 1 steps per silo (1 own, 0 of")


# ------------------------------------------------- against a real training ----
REAL: dict[str, dict[str, Any]] = {
    "fedefm": {"train__steps": 2, "fedefm__feedback": "none", "fedefm__diagonal": True},
    "proxy": {"fedefm__teach_on": "proxy", "fedefm__proxy_steps": 3},
    "by class": {"fedefm__teach_on": "proxy", "fedefm__teacher_classes": "annotated"},
    "overseas by class": {"fedefm__teacher_classes": "annotated"},
    "gossip": {"strategy": "gossip", "rival__visit_steps": 2},
}


@pytest.mark.parametrize("name", REAL)
def test_as_many_steps_are_taken_as_were_counted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path, row(name, **REAL[name]))
    taken: list[object] = []
    monkeypatch.setattr(
        clients.optimisation, "take_step", lambda *_, **__: taken.append(1)
    )
    monkeypatch.setattr("server.rounds.draw_all", lambda *_, **__: [])

    trained = train(job, tmp_path / "training")

    cost = trained.cost
    counted = cost["total_steps_per_silo"] * len(SILOS) + cost["control_steps"]
    assert len(taken) == counted > 0
    assert trained.curve[-1]["steps"] == cost["total_steps_per_silo"]


def test_a_job_is_counted_with_the_settings_of_its_run(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, row("A", strategy="fedavg", train__steps=3))
    ((scenario, one),) = plan.pairs()
    job = plan.final_jobs(scenario, one, 0)[0]
    assert settings_of(job).train.steps == 3
    assert settings_of(job).sites == job.sites


def test_silos_that_a_design_cannot_join_are_told(tmp_path: Path) -> None:
    table = study_table(row("A", fedefm__topology="edges", fedefm__edges="x>y"))
    spec = read_study(write_study(tmp_path, table))
    with pytest.raises(SettingsError, match="x"):
        count_study(spec, {"apart": SILOS})
