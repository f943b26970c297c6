"""The folders of a study: what every job was asked, and what came of it.

    STUDY/sites/SCENARIO.toml      who holds which data
    STUDY/trainings/ID/            trained models; jobs that differ in nothing that
                                   training depends on share one
    STUDY/jobs/ID/job.json         what one job was asked, complete
    STUDY/jobs/ID/result.json      what came of it; or error.json, why nothing did
    STUDY/set-aside/ID/            jobs of an earlier state of the study file

An id ends in a digest of everything that a number depends on, the sites file included:
a changed setting makes another job and never overwrites one, and what a neighbouring
study has found for the very same job is taken over.
"""

import functools
import hashlib
import json
import re
import shutil
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from experiments.study.spec import Job
from server.checkpoints import CHECKPOINTS_FOLDER
from server.journal import write_json
from strategies.settings import SettingsError, SettingValue

FORMAT = 1
JOBS, TRAININGS, SITES, SET_ASIDE = "jobs", "trainings", "sites", "set-aside"
JOB_FILE, RESULT_FILE, ERROR_FILE = "job.json", "result.json", "error.json"
TRAINED_FILE, THETA_FILE = "trained.json", "theta.safetensors"
DIGEST_LENGTH = 10
FOR_THE_TABLES = ("study", "group", "steps_table")
"""What a job says for its place in a table; no number depends on it."""
LATER: dict[str, SettingValue] = {
    "fedefm.route": "exchange",
    "fedefm.moments": "fresh",
    "fedefm.proxy-frames": "simulated",
    "fedefm.teacher-classes": "all",
    "rival.contrast-tap": "",
    "evaluation.every-rounds": 1,
    "keep-every-rounds": 1,
}
"""Settings that came after results were kept, at the value they had until then: there
they are left out of an id, so that a new setting does not throw results away."""
OF_TRAINING = ("kind", "settings", "sites", "pooled_factor")


def job_id(job: Job) -> str:
    """Return the name of a job's folder."""
    facts = {
        name: value for name, value in _facts(job).items() if name not in FOR_THE_TABLES
    }
    words = [job.scenario, job.row, f"t{job.trial}", f"s{job.seed}", job.purpose]
    return f"{slug(' '.join(words))}-{_digest(facts)}"


def training_id(job: Job) -> str:
    """Return the name of the folder of what a job trains."""
    facts = {name: _facts(job)[name] for name in OF_TRAINING}
    kind = job.settings["strategy"] if job.kind == "federation" else job.kind
    words = f"{kind} s{job.seed}"
    return f"{slug(words)}-{_digest(facts)}"


def job_folder(study: Path, job: Job) -> Path:
    """Return where a job lies."""
    return study / JOBS / job_id(job)


def training_folder(study: Path, job: Job) -> Path:
    """Return where a job's trained models lie."""
    return study / TRAININGS / training_id(job)


def sites_file(study: Path, scenario: str) -> Path:
    """Return where the sites file of a scenario lies."""
    return study / SITES / f"{slug(scenario)}.toml"


def write_job(study: Path, job: Job) -> Path:
    """Write down what is asked, and put a finished result in its place in the tables.

    The result may be one of another study beside this one.

    Args:
        study: Its folder.
        job: Any.

    Returns:
        The job's folder.
    """
    folder = job_folder(study, job)
    aside = study / SET_ASIDE / folder.name
    if aside.is_dir() and not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside.rename(folder)
    folder.mkdir(parents=True, exist_ok=True)
    told = _told(study, job)
    if read_json(folder / JOB_FILE) != told:
        write_json(folder / JOB_FILE, told)
    result = read_result(study, job)
    if result is not None:
        result = {**result, "job": told}
        if read_json(folder / RESULT_FILE) != result:
            write_json(folder / RESULT_FILE, result)
    return folder


def read_job(study: Path, folder: Path) -> Job:
    """Read what a job was asked.

    Args:
        study: Its folder.
        folder: Of the job.

    Raises:
        SettingsError: If it is not what this version writes.
    """
    told = read_json(folder / JOB_FILE)
    names = {one.name for one in fields(Job)}
    if told is None or set(told) - {"format"} != names or told["format"] != FORMAT:
        raise SettingsError(
            f"The job '{folder.name}' has no {JOB_FILE} of format {FORMAT}. Remove its "
            "folder; `endofed study` writes it again."
        )
    told.pop("format")
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in told.items()
    }
    return Job(**{**values, "sites": str(study / values["sites"])})


def write_result(
    study: Path, job: Job, content: Mapping[str, Any], *, duration_s: float
) -> Path:
    """Keep what came of a job; a reason why an earlier try failed goes.

    Args:
        study: Its folder.
        job: What was asked.
        content: Measures, curve, cost and versions.
        duration_s: Seconds that the job took here.

    Returns:
        The file.
    """
    folder = job_folder(study, job)
    path = write_json(
        folder / RESULT_FILE,
        {
            "format": FORMAT,
            "job": _told(study, job),
            **content,
            "duration_s": duration_s,
        },
    )
    (folder / ERROR_FILE).unlink(missing_ok=True)
    return path


def write_error(folder: Path, reason: str) -> None:
    """Keep why a job failed; the reason is safe to show anyone."""
    write_json(folder / ERROR_FILE, {"format": FORMAT, "reason": reason})


def read_result(study: Path, job: Job) -> dict[str, Any] | None:
    """Return what came of a job, here or in a study beside this one.

    Args:
        study: Its folder.
        job: What is asked.

    Returns:
        The result; None if the job is not finished.
    """
    result = _read_whole(job_folder(study, job) / RESULT_FILE)
    return _result_of_a_neighbour(study, job) if result is None else result


def read_error(folder: Path) -> str | None:
    """Return why the job of a folder failed; None if it did not."""
    found = read_json(folder / ERROR_FILE)
    return None if found is None else str(found.get("reason", ""))


def set_aside(study: Path, wanted: Iterable[Job]) -> int:
    """Move jobs that the study no longer has out of the way of its tables.

    Those without a result are removed.

    Args:
        study: Its folder.
        wanted: All that it may have.

    Returns:
        How many were moved; they come back when they are wanted again.
    """
    names = {job_id(job) for job in wanted}
    moved = 0
    for folder in sorted((study / JOBS).glob("*/")):
        if folder.name in names:
            continue
        target = study / SET_ASIDE / folder.name
        if target.exists() or not (folder / RESULT_FILE).exists():
            shutil.rmtree(folder)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)
        moved += 1
    return moved


def forget_models(training: Path) -> None:
    """Remove the models of a training; its numbers stay.

    Args:
        training: Its folder. A job that needs the models trains them anew.
    """
    if (training / TRAINED_FILE).exists():
        shutil.rmtree(training / CHECKPOINTS_FOLDER, ignore_errors=True)
        (training / THETA_FILE).unlink(missing_ok=True)


def comparable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings that are equal wherever a run is: without the new ones unset."""
    return {
        key: value
        for key, value in settings.items()
        if key not in LATER or value != LATER[key]
    }


def slug(text: str) -> str:
    """Return a text as part of a file name: small letters, digits and "-"."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:80] or "x"


def _result_of_a_neighbour(study: Path, job: Job) -> dict[str, Any] | None:
    """Return what another study in the same folder has found; None = nothing."""
    for place in (JOBS, SET_ASIDE):
        for path in study.parent.glob(f"*/{place}/{job_id(job)}/{RESULT_FILE}"):
            is_own = path.is_relative_to(study)
            if not is_own and (result := _read_whole(path)) is not None:
                return result
    return None


def _read_whole(path: Path) -> dict[str, Any] | None:
    result = read_json(path)
    if result is None or result.get("format") != FORMAT:
        return None
    return result if "validation" in result else None


def _told(study: Path, job: Job) -> dict[str, Any]:
    """Return a job without the paths of this machine."""
    place = Path(job.sites).relative_to(study).as_posix()
    told = {"format": FORMAT, **asdict(job), "sites": place}
    return json.loads(json.dumps(told))  # as it will be read


def _facts(job: Job) -> dict[str, Any]:
    return {
        **asdict(job),
        "settings": comparable(job.settings),
        "sites": _sites(job.sites, Path(job.sites).stat().st_mtime_ns),
    }


@functools.lru_cache(maxsize=64)
def _sites(path: str, changed_ns: int) -> dict[str, Any]:
    """Return what a sites file says, without its comments."""
    return tomllib.loads(Path(path).read_text(encoding="utf-8"))


def _digest(facts: Mapping[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def read_json(path: Path) -> dict[str, Any] | None:
    """Return what a file says; None if it says nothing that can be used."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
