"""How many gradient steps a row takes, counted before anything is trained.

A row's rounds are rehearsed with a model of one number: its own strategy asks, stand-in
silos answer at once without training, and every task is counted with the steps that
`clients/app.py` would take for it. So a method is counted by what it really asks for,
also one that nobody had thought of here.

All steps that anybody takes count: a silo's own, those of visitors on its frames
(FedEFM's overseas training, the copies of gossip), the second model of Ditto, the local
warm-up of round 0, and steps on proxies at the centre. "Per silo" is their sum over the
number of silos: what a hospital would pay if the bill were shared. The sequential
length is how many steps lie one after another when silos work side by side: of every
phase the busiest silo's. FedEFM's diagonal trains copies that teach nothing, for a
measurement: they are counted apart and are no part of any budget.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence

from experiments.study.rehearsal import rehearse_fedefm, rehearse_rival
from experiments.study.spec import Job, Row, StudySpec
from experiments.study.steps import CENTRE, OWN, Budget, RoundSteps, whole
from strategies.rivals.registry import FLOWERS
from strategies.settings import RunSettings


def count_steps(job: Job, settings: RunSettings, silos: Sequence[str]) -> Budget:
    """Count the gradient steps of a job.

    Args:
        job: Says what kind of row it is.
        settings: Of the run.
        silos: Names, sorted.

    Returns:
        The steps of every round.

    Raises:
        SettingsError: If the silos do not fit the settings.
    """
    return count_row_steps(job.kind, job.pooled_factor, settings, silos)


def count_row_steps(
    kind: str, pooled_factor: float, settings: RunSettings, silos: Sequence[str]
) -> Budget:
    """Do what `count_steps` does, for a row that is no job yet."""
    if kind == "untrained":
        return Budget(len(silos), ())
    if kind == "pooled":
        steps = pooled_steps(settings, len(silos), pooled_factor)
        rounds: Iterable[RoundSteps] = (
            _one_phase(number, [(CENTRE, "", steps)])
            for number in range(1, settings.num_rounds + 1)
        )
    elif settings.strategy == "fedefm":
        rounds = rehearse_fedefm(settings, silos)
    elif settings.strategy in FLOWERS:
        own = [(OWN, silo, settings.train.steps) for silo in silos]
        rounds = (
            _one_phase(number, own) for number in range(1, settings.num_rounds + 1)
        )
    else:
        rounds = rehearse_rival(settings, silos)
    return Budget(len(silos), tuple(rounds))


def pooled_steps(settings: RunSettings, num_silos: int, factor: float) -> int:
    """Return the pooled model's steps in a round; factor 0 = those of all silos."""
    return round((factor or num_silos) * settings.train.steps)


NO_STEPS = "train.learning-rate"
"""What trials mostly differ in; no number of steps depends on it."""
Budgets = Mapping[tuple[str, str, int], Budget]
"""By scenario, row and trial."""


def count_study(spec: StudySpec, silos_of: Mapping[str, Sequence[str]]) -> Budgets:
    """Count the steps of every row, in every scenario with every trial.

    Args:
        spec: The study.
        silos_of: Names of the silos by scenario, sorted.

    Raises:
        SettingsError: If silos do not fit the settings of a row.
    """
    found = {}
    known: dict[Hashable, Budget] = {}  # rehearsing a row with many silos takes seconds
    for scenario in spec.scenarios:
        silos = silos_of[scenario.name]
        for row in spec.rows_in(scenario):
            for trial in range(len(spec.trials_for(row))):
                given = spec.settings_of(scenario, row, trial, spec.seeds[0])
                settings = RunSettings.from_run_config(given)
                terms = {key: one for key, one in given.items() if key != NO_STEPS}
                asked = row.kind, row.pooled_factor, frozenset(terms.items()), *silos
                if asked not in known:
                    known[asked] = count_row_steps(
                        row.kind, row.pooled_factor, settings, silos
                    )
                found[scenario.name, row.name, trial] = known[asked]
    return found


def budget_problems(spec: StudySpec, budgets: Budgets) -> list[str]:
    """Name the rows that take more or fewer steps than the others.

    Args:
        spec: With its budget.
        budgets: Of `count_study`.

    Returns:
        One phrase for each such row; none without a budget.
    """
    problems = []
    for (_, name, _), budget in budgets.items():
        row = spec.row(name)
        if row.group in spec.equal_groups:
            problems += _compare(spec, row, budget)
    return list(dict.fromkeys(problems))


def _compare(spec: StudySpec, row: Row, budget: Budget) -> list[str]:
    steps = budget.own_per_silo if row.count == "own" else budget.per_silo
    if steps == spec.steps_per_silo:
        return []
    parts = budget.cost()
    return [
        f"row '{row.name}' takes {whole(steps)} steps per silo "
        f"({whole(budget.own_per_silo)} own, {parts['overseas_steps_per_silo']} of "
        f"visitors, {parts['server_steps']} in all at the centre), but [budget] gives "
        f"{spec.steps_per_silo} to group '{row.group}': change its num-rounds or steps"
    ]


def _one_phase(number: int, tasks: Iterable[tuple[str, str, int]]) -> RoundSteps:
    found = RoundSteps(number)
    found.add_phase(tasks)
    return found
