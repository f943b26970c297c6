"""How long a study will still take, from the jobs that are finished."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from experiments.study.budget import Budgets
from experiments.study.jobs import training_id
from experiments.study.spec import Job


class Pace:
    """Seconds for a gradient step, and for measuring, as jobs have shown."""

    def __init__(self, budgets: Budgets, workers: int) -> None:
        """Know what every row takes.

        Args:
            budgets: Of `count_study`.
            workers: Processes side by side, >= 1.
        """
        self._budgets = budgets
        self._workers = workers
        self._trained: dict[str, tuple[float, int]] = {}  # seconds, steps by job
        self._measured: dict[str, dict[str, float]] = {}  # seconds by purpose and job

    def note(self, name: str, result: Mapping[str, Any]) -> None:
        """Learn from the result of a job."""
        job, seconds = result["job"], float(result["cost"]["seconds"])
        budget = self._budgets.get((job["scenario"], job["row"], job["trial"]))
        if budget is None:
            return
        self._trained[name] = seconds, budget.total()
        # A job that took less than its training has only opened it.
        took = float(result["duration_s"])
        rest = took - seconds if took > seconds else took
        self._measured.setdefault(job["purpose"], {})[name] = rest

    def seconds_left(self, jobs: Sequence[Job], undecided: int = 0) -> float | None:
        """Estimate the time until all is done.

        Args:
            jobs: Not finished.
            undecided: Final jobs whose trial is not chosen yet; taken to be like the
                mean row.

        Returns:
            Seconds of wall time; None before the first job is finished.
        """
        steps = sum(one for _, one in self._trained.values())
        if not steps:
            return None
        pace = sum(one for one, _ in self._trained.values()) / steps
        trainings = {
            training_id(job): self._budgets[job.scenario, job.row, job.trial].total()
            for job in jobs
        }
        mean_steps = fmean(one.total() for one in self._budgets.values())
        work = pace * (sum(trainings.values()) + undecided * mean_steps)
        for purpose, number in (
            ("tune", sum(job.purpose == "tune" for job in jobs)),
            ("final", sum(job.purpose == "final" for job in jobs) + undecided),
        ):
            known = self._measured.get(purpose) or self._measured.get("tune", {})
            work += number * (fmean(known.values()) if known else 0.0)
        return work / self._workers


def hours(seconds: float | None) -> str:
    """Return a time such as "about 1.5 h left", "" if nothing is known."""
    if seconds is None:
        return ""
    if seconds < 5400:
        return f"about {max(seconds / 60, 1):.0f} min left"
    return f"about {seconds / 3600:.1f} h left"
