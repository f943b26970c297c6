"""How a study keeps house while it is played, and how long it says it will take."""

from collections import Counter
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.study.jobs import (
    job_folder,
    job_id,
    read_error,
    training_folder,
    write_job,
    write_result,
)
from experiments.study.pace import Pace, hours
from experiments.study.plan import Plan
from experiments.study.pool import DIED, Ended
from experiments.study.run import Prepared, Progressed, _Game, prune
from experiments.study.spec import Job
from experiments.study.steps import OWN, Budget, RoundSteps
from tests.experiments.study.tiny import plan_of, row

TRIALS = [{"train.learning-rate": rate} for rate in (1e-3, 2e-3)]


def finish(plan: Plan, job: Job, dice: float) -> None:
    write_job(plan.study, job)
    write_result(plan.study, job, {"validation": {"dice": dice}}, duration_s=1.0)
    folder = training_folder(plan.study, job)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trained.json").write_text("{}")
    (folder / "theta.safetensors").touch()


def keeps_model(plan: Plan, job: Job) -> bool:
    return (training_folder(plan.study, job) / "theta.safetensors").exists()


def test_models_of_trials_that_nobody_chose_are_forgotten(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, row("A"), row("B", train__steps=2), trials=TRIALS)
    known = Progressed(plan.study)
    (scenario, a), (_, b) = plan.pairs()
    tunes_a, tunes_b = plan.tune_jobs(scenario, a), plan.tune_jobs(scenario, b)
    finish(plan, tunes_a[0], 0.2)
    finish(plan, tunes_a[1], 0.3)
    finish(plan, tunes_b[0], 0.2)  # its other trial is still open
    prune(plan, known)
    kept = [keeps_model(plan, job) for job in (*tunes_a, tunes_b[0])]
    assert kept == [False, True, True]


def test_a_model_that_another_row_may_choose_stays(tmp_path: Path) -> None:
    local = row("local", fedefm__teachers="none", fedefm__feedback="none")
    ensemble = {
        "name": "ensemble",
        "group": "g",
        "same-training-as": "local",
        "model-of": "ensemble",
    }
    plan = plan_of(tmp_path, local, ensemble, trials=TRIALS)
    known = Progressed(plan.study)
    (scenario, one), (_, other) = plan.pairs()
    for job, dice in zip(plan.tune_jobs(scenario, one), (0.2, 0.3), strict=True):
        finish(plan, job, dice)
    prune(plan, known)
    assert all(keeps_model(plan, job) for job in plan.tune_jobs(scenario, other))
    for job, dice in zip(plan.tune_jobs(scenario, other), (0.3, 0.2), strict=True):
        finish(plan, job, dice)
    prune(plan, known)  # both trials were chosen, by different rows
    assert all(keeps_model(plan, job) for job in plan.tune_jobs(scenario, other))


def test_the_time_left_is_that_of_steps_and_of_measuring(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, row("A"), seeds=[0, 1, 2])
    ((scenario, a),) = plan.pairs()
    jobs = plan.final_jobs(scenario, a, 0)
    steps = RoundSteps(1, {OWN: Counter({"silo-1": 60, "silo-2": 40})})
    pace = Pace({("apart", "A", 0): Budget(2, (steps,))}, workers=2)
    assert pace.seconds_left(jobs) is None

    result: dict[str, Any] = {
        "job": {"scenario": "apart", "row": "A", "trial": 0, "purpose": "final"},
        "cost": {"seconds": 50.0},
        "duration_s": 60.0,
    }
    pace.note(job_id(jobs[0]), result)
    # 0.5 s a step and 10 s to measure: two jobs of 60 s for two workers.
    assert pace.seconds_left(jobs[1:]) == 60.0
    # Three more that are not decided: five jobs of 60 s.
    assert pace.seconds_left(jobs[1:], undecided=3) == 150.0


def test_a_job_that_only_opened_its_training_took_all_its_time_to_measure(
    tmp_path: Path,
) -> None:
    plan = plan_of(tmp_path, row("A"), seeds=[0, 1])
    ((scenario, a),) = plan.pairs()
    jobs = plan.final_jobs(scenario, a, 0)
    steps = RoundSteps(1, {OWN: Counter({"silo-1": 100})})
    pace = Pace({("apart", "A", 0): Budget(2, (steps,))}, workers=1)
    told = {"scenario": "apart", "row": "A", "trial": 0, "purpose": "final"}
    pace.note("x", {"job": told, "cost": {"seconds": 50.0}, "duration_s": 8.0})
    assert pace.seconds_left(jobs[1:]) == 58.0


def test_times_are_told_in_minutes_or_hours() -> None:
    assert hours(None) == ""
    assert hours(20) == "about 1 min left"
    assert hours(1800) == "about 30 min left"
    assert hours(9000) == "about 2.5 h left"


class EagerPool:
    """Every result is there at once, but the workers tell of them one by one."""

    has_room = True

    def __init__(self, plan: Plan) -> None:
        self.jobs = {
            job_id(job): job
            for scenario, row_ in plan.pairs()
            for job in plan.final_jobs(scenario, row_, 0)
        }
        self.plan = plan
        self.running: dict[str, float] = {}
        self.trainings: set[str] = set()

    def begin(self, job: str, training: str) -> None:
        self.running[job] = 0.0
        self.trainings.add(training)
        content = {"validation": {"dice": 0.5}, "cost": {"seconds": 1.0}}
        write_result(self.plan.study, self.jobs[job], content, duration_s=2.0)

    def wait(self, timeout_s: float) -> list[Ended]:
        name = next(iter(self.running))
        del self.running[name]
        return [Ended(name, "", 2.0)]


def test_a_result_may_be_there_before_its_worker_tells_of_it(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, row("A"), row("B", train__steps=2))
    steps = RoundSteps(1, {OWN: Counter({"silo-1": 1})})
    budgets = {("apart", name, 0): Budget(2, (steps,)) for name in "AB"}
    console = Console(file=StringIO())
    game = _Game(Prepared(plan, budgets), (), console, 2, track=False)
    pool = EagerPool(plan)
    game.play(pool)  # type: ignore[arg-type]
    assert game.noted == set(pool.jobs)
    assert game.known.failures == {}


class DyingPool(EagerPool):
    """Workers die before they have written anything."""

    def begin(self, job: str, training: str) -> None:
        self.running[job] = 0.0

    def wait(self, timeout_s: float) -> list[Ended]:
        return [Ended(self.running.popitem()[0], DIED, 2.0)]


def test_a_worker_that_died_leaves_its_reason(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, row("A"))
    budgets = {("apart", "A", 0): Budget(2, ())}
    game = _Game(Prepared(plan, budgets), (), Console(file=StringIO()), 1, track=False)
    pool = DyingPool(plan)
    game.play(pool)  # type: ignore[arg-type]
    ((name, job),) = pool.jobs.items()
    assert game.known.failures == {name: DIED}
    assert read_error(job_folder(plan.study, job)) == DIED
