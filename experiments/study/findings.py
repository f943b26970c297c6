"""What the jobs of a study found, in numbers with names.

Every number of a result has a flat name, such as "test/dice", "unseen/neuro/dice",
"test/sites/northgate/dice", "few_shot/neuro/5/dice" (mean over the draws), "cost/bytes"
and "reach/rounds"; tables, figures and CSV files ask for these names and know no more.
Where they are read stands in `experiments/study/reading.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from experiments.study.spec import StudySpec
from experiments.study.statistics import Summary, summarise

MB = 1e6
"""Bytes."""


class Key(NamedTuple):
    """One line of a table."""

    scenario: str
    row: str


@dataclass(frozen=True)
class Run:
    """A job that ended.

    Attributes:
        job: The job, as `job.json` has it.
        result: As `result.json` has it.
        numbers: All of its numbers by flat name; None where there is no value.
    """

    job: Mapping[str, Any]
    result: Mapping[str, Any]
    numbers: Mapping[str, float | None]

    @property
    def key(self) -> Key:
        """Return the line that it belongs to."""
        return Key(self.job["scenario"], self.job["row"])

    @property
    def curve(self) -> list[dict[str, Any]]:
        """Return its curve; [] where it is not of the models that are judged.

        A curve follows the accumulated model; silos' own are measured at the end only.
        """
        is_followed = self.job.get("model_of", "global") == "global"
        return (self.result.get("curve") or []) if is_followed else []


@dataclass(frozen=True)
class Findings:
    """All results of a study.

    Attributes:
        spec: What was to be found.
        finals: By line and seed, in the order of the study.
        tunings: Validation Dice by line and trial.
        missing: Final runs without a result.
        problems: Sentences about what is missing, failed or cannot be read.
        seconds: That all jobs together took, those that tuned included.
    """

    spec: StudySpec
    finals: Mapping[Key, Mapping[int, Run]]
    tunings: Mapping[Key, Mapping[int, float | None]]
    missing: int
    problems: tuple[str, ...]
    seconds: float

    def by_seed(self, key: Key, name: str) -> dict[int, float | None]:
        """Return a number of a line, by seed."""
        runs = self.finals.get(key, {})
        return {seed: run.numbers.get(name) for seed, run in runs.items()}

    def by_site(self, key: Key, name: str) -> dict[int, dict[str, float | None]]:
        """Return a number of every site's test frames, by seed and site."""
        return {
            seed: {site: one.get(name) for site, one in _sites(run.result).items()}
            for seed, run in self.finals.get(key, {}).items()
        }

    def summary(self, key: Key, name: str) -> Summary | None:
        """Return mean and deviation over seeds; None if nothing is known."""
        return summarise(list(self.by_seed(key, name).values()))

    def names(self, scenario: str, prefix: str, ending: str) -> list[str]:
        """Return the names between a prefix and an ending that a scenario has.

        Args:
            scenario: Its name.
            prefix: Such as "unseen/".
            ending: Such as "/dice".

        Returns:
            Such as "neuro", in the order in which they first came.
        """
        found = [
            name.removeprefix(prefix).removesuffix(ending)
            for key, runs in self.finals.items()
            if key.scenario == scenario
            for run in runs.values()
            for name in run.numbers
            if name.startswith(prefix) and name.endswith(ending)
        ]
        return list(dict.fromkeys(found))

    def shots(self, scenario: str) -> list[tuple[str, int]]:
        """Return the domains and numbers of shots that a scenario has."""
        found = [
            one.rpartition("/") for one in self.names(scenario, "few_shot/", "/dice")
        ]
        domains = list(dict.fromkeys(domain for domain, _, _ in found))
        return sorted(
            ((domain, int(shots)) for domain, _, shots in found),
            key=lambda one: (domains.index(one[0]), one[1]),
        )

    def runs(self) -> Iterator[Run]:
        """Yield the final runs in the order of the study."""
        for by_seed in self.finals.values():
            yield from by_seed.values()


def _sites(result: Mapping[str, Any]) -> Mapping[str, Mapping[str, float | None]]:
    sites: Mapping[str, Mapping[str, float | None]] = result["test"].get("sites", {})
    return sites
