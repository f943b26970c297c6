"""What a study compares: scenarios, rows, trials and seeds.

A row is one way to train, judged in every scenario (who holds which data) with every
seed. Its hyper-parameters are chosen among its trials by the validation frames of one
seed; all rows have the same number of trials. `experiments/study/study_file.py` reads
a study from TOML.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from strategies.settings import SettingValue

KINDS = ("federation", "pooled", "untrained")
"""How a row trains: silos of a federation; one model on the frames of all silos; not
at all (the weights of the seed: what few-shot transfer from scratch starts from)."""
MODELS_OF = ("global", "silos", "personal", "ensemble")
TABLES = ("equal-steps", "equal-traffic", "equal-length")
COUNTS = ("all", "own")
PURPOSES = ("tune", "final")


@dataclass(frozen=True)
class Job:
    """One row in one scenario with one trial and seed: what a worker computes."""

    study: str
    scenario: str
    row: str
    group: str
    seed: int
    trial: int  # from 0; of the row, or of the row it takes the trial from
    purpose: str  # tune: only validation is needed | final
    settings: Mapping[str, SettingValue]  # complete, flat; sites and output empty
    sites: str  # absolute path of the sites file
    model_of: str = "global"  # which model(s) the row is judged by, see MODELS_OF
    steps_table: str = "equal-steps"  # where the row stands, see TABLES
    unseen: tuple[str, ...] = ()  # domains of which no silo has labels
    shots: tuple[int, ...] = ()  # labelled frames of a new domain
    shot_domains: tuple[str, ...] = ()
    shot_repeats: int = 1
    shot_steps: int = 0
    kind: str = "federation"  # see KINDS
    pooled_factor: float = 0.0  # of kind pooled: updates for each of a silo's steps


@dataclass(frozen=True)
class Partitioning:
    """Simulated silos to make: arguments of `clients.partition.unseen_partition`."""

    types: tuple[str, ...]
    silos: int
    unseen: float  # percent of types, 0 to 100
    patients: int  # of each silo
    frames_per_patient: int
    seed: int = 0


@dataclass(frozen=True)
class Scenario:
    """Who holds which data."""

    name: str
    sites: Path | None  # a sites file; None = made from the partition
    partition: Partitioning | None = None
    settings: Mapping[str, SettingValue] = field(default_factory=dict)  # over the base
    trials_of: str = ""  # the scenario whose chosen trials this one takes; "" = its own


@dataclass(frozen=True)
class Row:
    """One way to train."""

    name: str
    group: str
    settings: Mapping[str, SettingValue] = field(default_factory=dict)
    trials: tuple[Mapping[str, SettingValue], ...] = ()
    trials_of: str = ""  # the row whose chosen trial this one takes; "" = its own
    model_of: str = "global"
    scenarios: tuple[str, ...] = ()  # () = all
    kind: str = "federation"
    table: str = "equal-steps"
    count: str = "all"  # gradient steps that count in the budget, see budget.py
    pooled_factor: float = 0.0  # 0 = as many as there are silos
    shots: tuple[int, ...] | None = None  # in place of the study's; None = those


@dataclass(frozen=True)
class StudySpec:
    """A study, checked."""

    name: str
    title: str
    base: Mapping[str, SettingValue]  # complete, flat
    scenarios: tuple[Scenario, ...]
    rows: tuple[Row, ...]  # in the order of the tables
    seeds: tuple[int, ...] = (0,)
    tune_seed: int = 0
    overrides: Mapping[str, SettingValue] = field(default_factory=dict)  # of --set
    unseen: tuple[str, ...] = ()
    shots: tuple[int, ...] = ()
    shot_domains: tuple[str, ...] = ()
    shot_repeats: int = 1
    shot_steps: int = 60
    steps_per_silo: int = 0  # of the budget; 0 = none
    equal_groups: tuple[str, ...] = ()  # whose rows must take just so many
    reference: str = ""  # row that others are compared with; "" = none named
    upper_bound: str = ""  # the pooled row that others are measured against

    def row(self, name: str) -> Row:
        """Return a row by its name; KeyError if there is none."""
        return {row.name: row for row in self.rows}[name]

    def rows_in(self, scenario: Scenario) -> tuple[Row, ...]:
        """Return the rows that a scenario has."""
        return tuple(
            row
            for row in self.rows
            if not row.scenarios or scenario.name in row.scenarios
        )

    def tuned_as(self, scenario: Scenario, row: Row) -> tuple[Scenario, Row]:
        """Return where the trial is chosen that a row takes in a scenario.

        Args:
            scenario: Takes the trials of another if it says so.
            row: Takes those of another if it says so.

        Returns:
            A scenario and a row with trials of their own; maybe these.
        """
        places = {one.name: one for one in self.scenarios}
        return (
            places[scenario.trials_of] if scenario.trials_of else scenario,
            self.row(row.trials_of) if row.trials_of else row,
        )

    def shots_of(self, row: Row) -> tuple[int, ...]:
        """Return with how many frames a row's models are finetuned."""
        return self.shots if row.shots is None else row.shots

    def trials_for(self, row: Row) -> tuple[Mapping[str, SettingValue], ...]:
        """Return the trials that a row chooses from, or of the row it takes it from."""
        source = self.row(row.trials_of) if row.trials_of else row
        return source.trials or ({},)

    def settings_of(
        self, scenario: Scenario, row: Row, trial: int, seed: int
    ) -> dict[str, SettingValue]:
        """Put the settings of a run together.

        Args:
            scenario: Comes over the base.
            row: Comes over the scenario, and its trial over that.
            trial: From 0.
            seed: Of the run.

        Returns:
            Complete flat settings; what the command line said has the last word.
        """
        return {
            **self.base,
            **scenario.settings,
            **row.settings,
            **self.trials_for(row)[trial],
            **self.overrides,
            "seed": seed,
        }
