"""Which jobs a study has and when they can begin."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from clients.data.errors import DataError
from experiments.study.jobs import job_id, sites_file, training_id
from experiments.study.plan import Plan, choose_trial
from experiments.study.scenario_sites import LOCK_FILE, make_sites
from experiments.study.spec import Job
from experiments.study.study_file import read_study
from strategies.settings import SettingsError
from tests.experiments.study.tiny import (
    PARTITION,
    plan_of,
    row,
    spec_of,
    study_table,
    write_study,
)

TRIALS = [{"train.learning-rate": rate} for rate in (1e-3, 2e-3, 4e-3)]


class Known:
    """What is said to be known of jobs: the validation Dice of a row's trials."""

    def __init__(self, **dice: float | None) -> None:
        self.dice: dict[str, float | None] = {}
        self.dice = dict(dice)
        self.lost: set[str] = set()

    def result(self, job: Job) -> Mapping[str, Any] | None:
        key = f"{job.row}{job.trial}"
        if job.purpose == "tune" and key in self.dice:
            return {"validation": {"dice": self.dice[key]}}
        return None

    def failed(self, job: Job) -> bool:
        return f"{job.row}{job.trial}" in self.lost


def described(jobs: list[Job]) -> list[tuple[str, str, int, int]]:
    return [(job.purpose, job.row, job.trial, job.seed) for job in jobs]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, row("A"), row("B"), trials=TRIALS, seeds=[5, 6])


def known_of(plan: Plan, known: Known, *only: str) -> list[tuple[str, str, int, int]]:
    return described(plan.known_jobs(known.result, known.failed, only))


def test_every_trial_is_tuned_on_one_seed_before_anything_else(plan: Plan) -> None:
    assert known_of(plan, Known()) == [
        ("tune", name, trial, 5) for name in "AB" for trial in range(3)
    ]
    assert plan.undecided(Known().result, Known().failed) == 4


def test_a_row_goes_on_as_soon_as_its_own_trial_is_chosen(plan: Plan) -> None:
    known = Known(B0=0.3, B1=0.5, B2=0.4)
    assert known_of(plan, known)[6:] == [("final", "B", 1, 5), ("final", "B", 1, 6)]
    assert plan.undecided(known.result, known.failed) == 2


def test_final_jobs_come_seed_by_seed(plan: Plan) -> None:
    known = Known(A0=1, A1=0, A2=0, B0=0, B1=0, B2=1)
    assert known_of(plan, known)[6:] == [
        ("final", "A", 0, 5),
        ("final", "B", 2, 5),
        ("final", "A", 0, 6),
        ("final", "B", 2, 6),
    ]


def test_of_equal_trials_the_first_is_chosen(plan: Plan) -> None:
    ((scenario, a), _) = plan.pairs()
    tunes = plan.tune_jobs(scenario, a)
    known = Known(A0=0.4, A1=0.5, A2=0.5)
    assert choose_trial(tunes, known.result, known.failed) == 1


def test_a_trial_that_failed_or_found_nothing_is_passed_over(plan: Plan) -> None:
    ((scenario, a), _) = plan.pairs()
    tunes = plan.tune_jobs(scenario, a)
    known = Known(A0=None, A2=0.0)
    assert choose_trial(tunes, known.result, known.failed) is None  # one is missing
    known.lost = {"A1"}
    assert choose_trial(tunes, known.result, known.failed) == 2


def test_a_row_whose_trials_all_failed_has_no_final_jobs(plan: Plan) -> None:
    known = Known(B0=1, B1=0, B2=0)
    known.lost = {"A0", "A1", "A2"}
    assert [one[:2] for one in known_of(plan, known)[6:]] == [("final", "B")] * 2
    assert plan.undecided(known.result, known.failed) == 0


def test_a_lone_trial_needs_no_choice(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, row("A"), seeds=[0, 1])
    assert known_of(plan, Known()) == [("final", "A", 0, 0), ("final", "A", 0, 1)]


def test_a_row_may_take_the_trial_of_another(tmp_path: Path) -> None:
    control = {**row("control", fedefm__edge_weight="one"), "trials-of": "A"}
    plan = plan_of(tmp_path, row("A"), control, trials=TRIALS)
    known = Known(A0=0, A1=0, A2=1)
    assert known_of(plan, known)[3:] == [
        ("final", "A", 2, 0),
        ("final", "control", 2, 0),
    ]
    # Alone it still needs the other row's tuning, and nothing else of it.
    assert [one[:2] for one in known_of(plan, known, "control")] == [
        ("tune", "A"),
        ("tune", "A"),
        ("tune", "A"),
        ("final", "control"),
    ]
    final = plan.known_jobs(known.result, known.failed)[-1]
    assert final.settings["train.learning-rate"] == 4e-3
    assert final.settings["fedefm.edge-weight"] == "one"


def test_a_scenario_may_take_the_trials_of_another(tmp_path: Path) -> None:
    more = {"name": "alike", "partition": {**PARTITION, "unseen": 0}}
    control = {**row("control", fedefm__edge_weight="one"), "trials-of": "A"}
    table = study_table(row("A"), control, trials=TRIALS)
    table["scenario"].append({**more, "trials-of": "apart"})
    spec = read_study(write_study(tmp_path, table))
    make_sites(spec, tmp_path / "study")
    plan = Plan(spec, tmp_path / "study")

    jobs = plan.known_jobs(Known(A0=0, A1=0, A2=1).result, lambda _: False)

    tuned = [job for job in jobs if job.purpose == "tune"]
    assert [(job.scenario, job.row) for job in tuned] == [("apart", "A")] * 3
    finals = {(job.scenario, job.row): job for job in jobs if job not in tuned}
    assert len(finals) == 4
    assert {job.trial for job in finals.values()} == {2}
    # It is trained on its own silos, also with the seed that tuned.
    trainings = {training_id(one) for one in (finals["alike", "A"], *tuned)}
    assert len(trainings) == 4
    assert len(trainings) == 4


def test_the_final_job_of_the_tuning_seed_trains_nothing_new(plan: Plan) -> None:
    known = Known(A0=1, A1=0, A2=0)
    jobs = plan.known_jobs(known.result, known.failed, ["A"])
    tune, final, other = jobs[0], jobs[3], jobs[4]
    assert training_id(tune) == training_id(final) != training_id(other)
    assert job_id(tune) != job_id(final)


def test_what_is_measured_in_the_end_does_not_change_the_tuning(
    tmp_path: Path,
) -> None:
    shots = {"shots": [1], "shot_domains": ["neuro"], "unseen": ["neuro"]}
    for number, top in enumerate(({}, shots)):
        folder = tmp_path / str(number)
        folder.mkdir()
        plan = plan_of(folder, row("A"), trials=TRIALS, **top)
        ((scenario, a),) = plan.pairs()
        tune = plan.tune_jobs(scenario, a)[0]
        final = plan.final_jobs(scenario, a, 0)[0]
        if not number:
            before = job_id(tune), job_id(final)
    assert job_id(tune) == before[0]
    assert job_id(final) != before[1]
    assert final.shots == (1,)


def test_a_row_may_have_its_own_numbers_of_shots(tmp_path: Path) -> None:
    some = {**row("A"), "shots": [1, 5]}
    none = {**row("B"), "shots": []}
    plan = plan_of(tmp_path, some, none, row("C"), shots=[5], shot_domains=["neuro"])
    found = [
        plan.final_jobs(scenario, one, 0)[0].shots for scenario, one in plan.pairs()
    ]
    assert found == [(1, 5), (), (5,)]


def test_rows_may_be_in_some_scenarios_only(tmp_path: Path) -> None:
    table = study_table(row("A"), {**row("B"), "scenarios": ["again"]})
    table["scenario"].append({**table["scenario"][0], "name": "again"})
    spec = read_study(write_study(tmp_path, table))
    found = [(one.name, other.name) for one, other in Plan(spec, tmp_path).pairs()]
    assert found == [("apart", "A"), ("again", "A"), ("again", "B")]


def test_a_sites_file_is_copied_unless_its_folders_move_with_it(
    tmp_path: Path,
) -> None:
    sites = tmp_path / "sites.toml"
    table = study_table()
    table["scenario"] = [{"name": "given", "sites": "sites.toml"}]
    sites.write_text('[[site]]\nname = "a"\ndomain = "human"\n')
    spec = read_study(write_study(tmp_path, table))
    make_sites(spec, tmp_path / "study")
    assert sites_file(tmp_path / "study", "given").read_text() == sites.read_text()

    sites.write_text('[[site]]\nname = "a"\nfolder = "frames"\n')
    with pytest.raises(DataError, match="Write absolute paths"):
        make_sites(read_study(write_study(tmp_path, table)), tmp_path / "other")


def test_sites_do_not_change_under_a_study_that_is_played(tmp_path: Path) -> None:
    spec, study = spec_of(tmp_path), tmp_path / "study"
    make_sites(spec, study)
    path = sites_file(study, "apart")
    before = path.stat().st_mtime_ns
    table = study_table()
    table["scenario"][0]["partition"] = {**PARTITION, "patients": 5}
    other = read_study(write_study(tmp_path, table))
    with FileLock(study / LOCK_FILE):
        make_sites(spec, study)  # it says the same
        with pytest.raises(SettingsError, match="with other sites"):
            make_sites(other, study)
    assert path.stat().st_mtime_ns == before
    make_sites(other, study)
    assert path.stat().st_mtime_ns != before
    assert [one.name for one in path.parent.iterdir()] == [path.name]
