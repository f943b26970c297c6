"""Which jobs a study has, and which of them can begin.

A row with several trials is tuned first: every trial on one seed, judged by the pooled
validation frames. Then the chosen trial is measured in full on every seed. The final
job of the tuning seed trains nothing: it opens the models that tuning has kept, which
costs a few megabytes and saves measuring few-shot transfer of trials nobody chose.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.study.jobs import sites_file
from experiments.study.spec import Job, Row, Scenario, StudySpec

Result = Callable[[Job], Mapping[str, Any] | None]
"""Returns what came of a job; None while there is nothing."""
Failed = Callable[[Job], bool]


@dataclass(frozen=True)
class Plan:
    """The jobs of a study."""

    spec: StudySpec
    study: Path  # absolute path of its folder

    def tune_jobs(self, scenario: Scenario, row: Row) -> list[Job]:
        """Return the jobs that a row's trial is chosen from; none for a lone trial."""
        place, source = self.spec.tuned_as(scenario, row)
        number = len(self.spec.trials_for(source))
        if number < 2:
            return []
        return [
            self._job(place, source, trial, self.spec.tune_seed, "tune")
            for trial in range(number)
        ]

    def final_jobs(self, scenario: Scenario, row: Row, trial: int) -> list[Job]:
        """Return the jobs of a row's chosen trial, one a seed."""
        return [
            self._job(scenario, row, trial, seed, "final") for seed in self.spec.seeds
        ]

    def possible_jobs(self) -> Iterator[Job]:
        """Yield every job that the study may come to, whichever trials are chosen."""
        for scenario, row in self.pairs():
            yield from self.tune_jobs(scenario, row)
            for trial in range(len(self.spec.trials_for(row))):
                yield from self.final_jobs(scenario, row, trial)

    def pairs(self, only: Sequence[str] = ()) -> Iterator[tuple[Scenario, Row]]:
        """Yield every row in every scenario that has it.

        Args:
            only: Names of rows; () = all.
        """
        for scenario in self.spec.scenarios:
            for row in self.spec.rows_in(scenario):
                if not only or row.name in only:
                    yield scenario, row

    def known_jobs(
        self, result: Result, failed: Failed, only: Sequence[str] = ()
    ) -> list[Job]:
        """Return the jobs whose turn has come or is past, the most urgent first.

        Args:
            result: Of finished jobs.
            failed: Whether a job was tried in vain.
            only: Names of rows; () = all.

        Returns:
            All tune jobs, then the final jobs of rows whose trial is chosen, seed by
            seed, so that a study that is stopped early has all rows with few seeds.
        """
        tunes: list[Job] = []
        finals: list[list[Job]] = []
        for scenario, row in self.pairs(only):
            found = self.tune_jobs(scenario, row)
            tunes += [job for job in found if job not in tunes]
            trial = choose_trial(found, result, failed)
            if trial is not None:
                finals.append(self.final_jobs(scenario, row, trial))
        by_seed = [job for group in zip(*finals, strict=True) for job in group]
        return tunes + by_seed

    def undecided(
        self, result: Result, failed: Failed, only: Sequence[str] = ()
    ) -> int:
        """Count final jobs whose trial is not chosen yet."""
        return sum(
            len(self.spec.seeds)
            for scenario, row in self.pairs(only)
            if choose_trial(self.tune_jobs(scenario, row), result, failed) is None
            and not self.hopeless(scenario, row, failed)
        )

    def hopeless(self, scenario: Scenario, row: Row, failed: Failed) -> bool:
        """Tell whether every trial of a row failed."""
        tunes = self.tune_jobs(scenario, row)
        return bool(tunes) and all(map(failed, tunes))

    def _job(
        self, scenario: Scenario, row: Row, trial: int, seed: int, purpose: str
    ) -> Job:
        is_final = purpose == "final"
        spec = self.spec
        return Job(
            study=spec.name,
            scenario=scenario.name,
            row=row.name,
            group=row.group,
            seed=seed,
            trial=trial,
            purpose=purpose,
            settings=spec.settings_of(scenario, row, trial, seed),
            sites=str(sites_file(self.study, scenario.name)),
            model_of=row.model_of,
            steps_table=row.table,
            # Choosing a trial needs none of these, so changing them tunes nothing anew.
            unseen=spec.unseen if is_final else (),
            shots=spec.shots_of(row) if is_final else (),
            shot_domains=spec.shot_domains if is_final else (),
            shot_repeats=spec.shot_repeats if is_final else 1,
            shot_steps=spec.shot_steps if is_final else 0,
            kind=row.kind,
            pooled_factor=row.pooled_factor,
        )


def choose_trial(tunes: Sequence[Job], result: Result, failed: Failed) -> int | None:
    """Choose the trial with the best pooled validation Dice; of equal ones the first.

    Args:
        tunes: A job for each trial; none if there is only one.
        result: Of finished jobs.
        failed: Whether a job was tried in vain; such a trial is passed over.

    Returns:
        The trial, or None while some are missing or if all failed.
    """
    if not tunes:
        return 0
    best: tuple[float, int] | None = None
    for job in tunes:
        found = result(job)
        if found is None:
            if failed(job):
                continue
            return None
        dice = found["validation"]["dice"]
        score = -math.inf if dice is None else float(dice)
        if best is None or score > best[0]:
            best = score, job.trial
    return None if best is None else best[1]
