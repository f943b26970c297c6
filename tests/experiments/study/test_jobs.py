"""What a study's folder keeps, and when a job is another one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.study import jobs
from experiments.study.spec import Job
from strategies.settings import SettingsError
from tests.experiments.study.tiny import job_of, row

DONE = {"validation": {"dice": 0.5}}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return tmp_path / "study"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return job_of(tmp_path, row("Row 1/2", strategy="fedavg"))


def changed(job: Job, **settings: object) -> Job:
    return replace(job, settings={**job.settings, **settings})


def test_a_job_is_read_as_it_was_written(study: Path, job: Job) -> None:
    folder = jobs.write_job(study, job)
    assert folder.name.startswith("apart-row-1-2-t0-s0-final-")
    assert jobs.read_job(study, folder) == job


def test_no_path_of_the_machine_is_kept(study: Path, job: Job) -> None:
    folder = jobs.write_job(study, job)
    jobs.write_result(study, job, DONE, duration_s=1.0)
    for path in folder.iterdir():
        assert str(study.parent) not in path.read_text()
    assert json.loads((folder / "job.json").read_text())["sites"] == "sites/apart.toml"


def test_a_changed_setting_is_another_job_and_another_training(job: Job) -> None:
    other = changed(job, **{"train.steps": 9})
    assert jobs.job_id(other) != jobs.job_id(job)
    assert jobs.training_id(other) != jobs.training_id(job)


@pytest.mark.parametrize(("name", "before"), jobs.LATER.items())
def test_a_setting_that_came_later_throws_no_result_away(
    job: Job, name: str, before: str
) -> None:
    assert job.settings[name] == before
    earlier = {key: value for key, value in job.settings.items() if key != name}
    assert jobs.job_id(replace(job, settings=earlier)) == jobs.job_id(job)
    assert jobs.training_id(replace(job, settings=earlier)) == jobs.training_id(job)
    assert jobs.job_id(changed(job, **{name: "another"})) != jobs.job_id(job)


def test_another_place_in_the_tables_is_the_same_job(study: Path, job: Job) -> None:
    jobs.write_job(study, job)
    jobs.write_result(study, job, DONE, duration_s=1.0)
    moved = replace(job, group="others", steps_table="equal-length")
    assert jobs.job_id(moved) == jobs.job_id(job)
    folder = jobs.write_job(study, moved)
    for name in ("job.json", "result.json"):
        told = json.loads((folder / name).read_text())
        assert (told.get("job") or told)["group"] == "others"
    assert jobs.read_result(study, moved) is not None


def test_who_is_judged_changes_the_job_and_not_the_training(job: Job) -> None:
    other = replace(job, model_of="silos", row="other name")
    assert jobs.job_id(other) != jobs.job_id(job)
    assert jobs.training_id(other) == jobs.training_id(job)


def test_other_frames_are_another_training_but_comments_are_not(job: Job) -> None:
    path = Path(job.sites)
    before = jobs.training_id(job)
    path.write_text("# A word more.\n" + path.read_text())
    assert jobs.training_id(job) == before
    path.write_text(path.read_text().replace("patients = 4", "patients = 5"))
    assert jobs.training_id(job) != before


def test_a_result_that_is_cut_short_is_none(study: Path, job: Job) -> None:
    folder = jobs.write_job(study, job)
    assert jobs.read_result(study, job) is None
    (folder / "result.json").write_text('{"format": 1, "validat')
    assert jobs.read_result(study, job) is None
    jobs.write_result(study, job, DONE, duration_s=1.0)
    found = jobs.read_result(study, job)
    assert found is not None
    assert found["validation"] == {"dice": 0.5}


def test_a_success_takes_an_earlier_failure_back(study: Path, job: Job) -> None:
    folder = jobs.write_job(study, job)
    jobs.write_error(folder, "no memory")
    assert jobs.read_error(folder) == "no memory"
    jobs.write_result(study, job, DONE, duration_s=1.0)
    assert jobs.read_error(folder) is None


def test_jobs_of_an_earlier_file_go_aside_and_come_back(study: Path, job: Job) -> None:
    other = changed(job, **{"train.steps": 9})
    empty = changed(job, **{"train.steps": 10})
    for one in (job, other):
        jobs.write_job(study, one)
        jobs.write_result(study, one, DONE, duration_s=1.0)
    jobs.write_job(study, empty)

    assert jobs.set_aside(study, [job]) == 1
    kept = [path.name for path in (study / "jobs").iterdir()]
    assert kept == [jobs.job_id(job)]
    assert jobs.read_result(study, other) is None

    jobs.write_job(study, other)
    assert jobs.read_result(study, other) is not None


def test_what_a_study_beside_this_one_has_found_is_taken_over(
    study: Path, job: Job
) -> None:
    path = jobs.job_folder(study.with_name("other"), job) / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"format": 1}')
    assert jobs.read_result(study, job) is None  # cut short
    path.write_text(json.dumps({"format": 1, "job": {}, **DONE}))
    result = jobs.read_result(study, job)
    assert result is not None and result["validation"] == DONE["validation"]
    folder = jobs.write_job(study, job)
    kept = json.loads((folder / "result.json").read_text())
    assert kept["validation"] == DONE["validation"]
    assert kept["job"]["study"] == job.study
    assert kept["job"]["group"] == job.group
    assert jobs.read_result(study, changed(job, seed=9)) is None


def test_a_job_of_another_version_is_refused(study: Path, job: Job) -> None:
    folder = jobs.write_job(study, job)
    told = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**told, "format": 99}))
    with pytest.raises(SettingsError, match="of format 1"):
        jobs.read_job(study, folder)
