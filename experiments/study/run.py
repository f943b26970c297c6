"""Plays a study: begins jobs as they can, shows how far it is, goes on where it was."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from clients.sites import load_sites
from experiments.launch import StopSignals
from experiments.study.budget import Budgets, budget_problems, count_study
from experiments.study.jobs import (
    forget_models,
    job_folder,
    job_id,
    read_result,
    set_aside,
    sites_file,
    training_folder,
    training_id,
    write_error,
    write_job,
)
from experiments.study.pace import Pace, hours
from experiments.study.plan import Plan, choose_trial
from experiments.study.pool import Ended, Pool
from experiments.study.scenario_sites import LOCK_FILE, make_sites
from experiments.study.spec import Job, StudySpec
from experiments.study.tracking import StudyTracker
from strategies.settings import SettingsError

POLL_S = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A study that can be played."""

    plan: Plan
    budgets: Budgets


@dataclass
class Progressed:
    """What is known of the jobs."""

    study: Path
    results: dict[str, dict[str, Any]] = field(default_factory=dict)  # by job id
    failures: dict[str, str] = field(default_factory=dict)  # of this time

    def result(self, job: Job) -> Mapping[str, Any] | None:
        """Return what came of a job; None if it is not finished."""
        name = job_id(job)
        if name not in self.results:
            found = read_result(self.study, job)
            if found is None:
                return None
            self.results[name] = found
        return self.results[name]

    def failed(self, job: Job) -> bool:
        """Tell whether a job was tried in vain."""
        return job_id(job) in self.failures


def prepare(spec: StudySpec, study: Path) -> Prepared:
    """Write the sites files and count the steps of all rows.

    Args:
        spec: The study.
        study: Its folder, absolute; made if missing.

    Raises:
        SettingsError: If rows that should take equally many steps do not.
        DataError: If a scenario cannot be made.
    """
    study.mkdir(parents=True, exist_ok=True)
    make_sites(spec, study)
    silos_of = {
        one.name: [site.name for site in load_sites(str(sites_file(study, one.name)))]
        for one in spec.scenarios
    }
    budgets = count_study(spec, silos_of)
    if problems := budget_problems(spec, budgets):
        raise SettingsError(
            f"{len(problems)} row(s) are not on equal terms: {'; '.join(problems)}."
        )
    return Prepared(Plan(spec, study), budgets)


def play(
    prepared: Prepared,
    *,
    workers: int,
    only: Sequence[str] = (),
    console: Console,
    track: bool = True,
) -> dict[str, str]:
    """Do all jobs that are not done yet.

    Args:
        prepared: Of `prepare`.
        workers: Processes side by side, >= 1.
        only: Names of rows; () = all.
        console: Where to show how far it is.
        track: Mirror finished jobs in MLflow.

    Returns:
        Why jobs failed, by id; the others are finished.

    Raises:
        SettingsError: If another process plays this study.
        KeyboardInterrupt: At Ctrl-C or SIGTERM; finished jobs stay.
    """
    plan, study = prepared.plan, prepared.plan.study
    try:
        with FileLock(study / LOCK_FILE, timeout=0), StopSignals():
            moved = set_aside(study, plan.possible_jobs())
            if moved:
                log.warning("%d job(s) of an earlier study file are set aside.", moved)
            game = _Game(prepared, only, console, workers, track)
            with Pool(study, workers) as pool, game.screen:
                game.play(pool)
            return game.known.failures
    except Timeout:
        raise SettingsError(
            "Another process plays this study. Wait for it, or name another --folder."
        ) from None


class _Game:
    """A study while it is played."""

    def __init__(
        self,
        prepared: Prepared,
        only: Sequence[str],
        console: Console,
        workers: int,
        track: bool,
    ) -> None:
        self.plan, self.only = prepared.plan, tuple(only)
        self.known = Progressed(prepared.plan.study)
        self.pace = Pace(prepared.budgets, workers)
        self.tracker = StudyTracker(
            prepared.plan.study, prepared.plan.spec.name, enabled=track
        )
        self.screen = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.line = self.screen.add_task("", total=None, left="")
        self.open: dict[str, Job] = {}  # by id, the most urgent first
        self.trainings: dict[str, str] = {}  # ids of those jobs
        # Those that were begun: one may have its result before its worker tells.
        self.begun: dict[str, Job] = {}
        self.noted: set[str] = set()  # ids of finished jobs
        self.undecided = 0  # final jobs whose trial is not chosen yet

    def play(self, pool: Pool) -> None:
        """Begin jobs while there are some; return when the last is over."""
        self._look()
        self._begin(pool)
        while pool.running:
            self._show(pool)
            if ended := pool.wait(POLL_S):
                for one in ended:
                    self._tell(one)
                self._look()
                self._begin(pool)
        self._show(pool)

    def _look(self) -> None:
        """Find out which jobs there are by now, and which are done."""
        known, self.open = self.known, {}
        for job in self.plan.known_jobs(known.result, known.failed, self.only):
            name, found = job_id(job), known.result(job)
            if found is None and name not in known.failures:
                self.open[name] = job
            elif found is not None and name not in self.noted:
                write_job(self.plan.study, job)  # its place in the tables may be new
                self.pace.note(name, found)
                self.tracker.log(name, found)
                self.noted.add(name)
        self.trainings = {name: training_id(job) for name, job in self.open.items()}
        self.undecided = self.plan.undecided(known.result, known.failed, self.only)
        prune(self.plan, known)

    def _begin(self, pool: Pool) -> None:
        for name, job in self.open.items():
            if not pool.has_room:
                return
            # Of two jobs with one training, the second opens what the first keeps.
            if self.trainings[name] not in pool.trainings:
                write_job(self.plan.study, job)
                self.begun[name] = job
                pool.begin(name, self.trainings[name])

    def _tell(self, ended: Ended) -> None:
        job = self.begun[ended.job]
        reason = ended.reason
        if not reason and self.known.result(job) is None:
            reason = "It left no result."
        what = f"failed: {reason}"
        if reason:
            self.known.failures[ended.job] = reason
            # A worker that died could not say so itself.
            write_error(job_folder(self.plan.study, job), reason)
        else:
            what = f"{job.purpose} done in {ended.seconds:.0f} s"
        self.screen.console.print(
            f"{job.scenario}, {job.row}, trial {job.trial + 1}, "
            f"seed {job.seed}: {what}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def _show(self, pool: Pool) -> None:
        done = len(self.noted) + len(self.known.failures)
        left = self.pace.seconds_left(list(self.open.values()), self.undecided)
        rows = dict.fromkeys(self.begun[name].row for name in pool.running)
        self.screen.update(
            self.line,
            total=done + len(self.open) + self.undecided,
            completed=done,
            left=hours(left),
            description=", ".join(rows),
        )


def prune(plan: Plan, known: Progressed) -> None:
    """Forget models of trials that nobody chose; their numbers stay.

    Args:
        plan: Of the study.
        known: What is known of its jobs. While a row's trial is open, all are kept.
    """
    tuned: dict[str, Job] = {}
    needed: set[str] = set()
    for scenario, row in plan.pairs():
        tunes = plan.tune_jobs(scenario, row)
        trial = choose_trial(tunes, known.result, known.failed)
        tuned |= {training_id(job): job for job in tunes}
        wanted = tunes if trial is None else plan.final_jobs(scenario, row, trial)
        needed |= {training_id(job) for job in wanted}
    for name, job in tuned.items():
        if name not in needed:
            forget_models(training_folder(plan.study, job))


def finished(prepared: Prepared, only: Sequence[str] = ()) -> tuple[list[Job], int]:
    """Return the open jobs that are known, and how many are done.

    Args:
        prepared: Of `prepare`.
        only: Names of rows; () = all.
    """
    known = Progressed(prepared.plan.study)
    jobs = prepared.plan.known_jobs(known.result, known.failed, only)
    left = [job for job in jobs if known.result(job) is None]
    return left, len(jobs) - len(left)
