"""What a study must keep to beside the shape of its file."""

import difflib
import functools
from collections import Counter, defaultdict
from collections.abc import Iterable

import torch

from clients.data.errors import DataError
from clients.data.simulator import is_domain
from clients.partition import Partition, unseen_partition
from clients.sites import load_sites
from experiments.study.spec import (
    COUNTS,
    KINDS,
    MODELS_OF,
    TABLES,
    Partitioning,
    Row,
    Scenario,
    StudySpec,
)
from models.assembly import assemble_model
from models.taps import forward_with_tap
from strategies.model_settings import ModelSettings
from strategies.rivals.registry import FLOWERS
from strategies.setting_rules import at_least, check, one_of
from strategies.settings import RunSettings, SettingsError
from strategies.transport import pool_to_nodes

OF_THE_STUDY = ("seed", "sites", "output", "resume", "mlflow", "keep-every-rounds")
"""Settings that the study decides itself."""


def find_problems(spec: StudySpec) -> list[str]:
    """List what is wrong, one phrase each, without repetition."""
    problems = [
        *_study_problems(spec),
        *(
            problem
            for one in spec.scenarios
            for problem in _scenario_problems(spec, one)
        ),
        *(problem for row in spec.rows for problem in _row_problems(spec, row)),
    ]
    if not problems:  # or settings of rows that are none would be looked at
        problems = [*_trial_problems(spec), *_setting_problems(spec)]
        problems += _seen_problems(spec)
    return list(dict.fromkeys(problems))


def make_partition(wanted: Partitioning) -> Partition:
    """Say which silo of a scenario holds what.

    Raises:
        DataError: If there is no such partition.
    """
    return unseen_partition(
        wanted.types,
        wanted.silos,
        wanted.unseen,
        patients_per_silo=wanted.patients,
        seed=wanted.seed,
    )


def _study_problems(spec: StudySpec) -> list[str]:
    names = [row.name for row in spec.rows]
    groups = {row.group for row in spec.rows}
    return [
        *check(bool(spec.scenarios), "at least one [[scenario]] is needed"),
        *check(bool(spec.rows), "at least one [[row]] is needed"),
        *_repeated("row", names),
        *_repeated("scenario", [one.name for one in spec.scenarios]),
        *check(
            len(set(spec.seeds)) == len(spec.seeds) > 0 and min(spec.seeds) >= 0,
            "seeds must be different numbers >= 0",
        ),
        *at_least("tune-seed", spec.tune_seed, 0),
        *at_least("shot-repeats", spec.shot_repeats, 1),
        *at_least("shot-steps", spec.shot_steps, 1),
        *check(
            all(shots >= 1 for row in spec.rows for shots in spec.shots_of(row)),
            "shots must be numbers >= 1",
        ),
        *check(
            any(map(spec.shots_of, spec.rows)) == bool(spec.shot_domains),
            "shots and shot-domains go together",
        ),
        *(
            f"'{name}' is no simulated domain"
            for name in (*spec.unseen, *spec.shot_domains)
            if not is_domain(name)
        ),
        *_known("reference", [spec.reference], names),
        *_known("upper-bound", [spec.upper_bound], names),
        *_known("equal-steps of [budget]", spec.equal_groups, groups),
        *at_least("steps-per-silo", spec.steps_per_silo, 0),
        *check(
            bool(spec.equal_groups) == bool(spec.steps_per_silo),
            "[budget] needs both steps-per-silo and equal-steps",
        ),
    ]


def _scenario_problems(spec: StudySpec, scenario: Scenario) -> list[str]:
    where = f"scenario '{scenario.name}'"
    problems = _reserved(where, scenario.settings)
    others = {one.name: one for one in spec.scenarios if not one.trials_of}
    problems += _known(f"{where}: trials-of", [scenario.trials_of], others)
    if tuned := others.get(scenario.trials_of):
        there = spec.rows_in(tuned)
        problems += [
            f"{where}: '{tuned.name}' has not the row '{row.name}' to tune"
            for row in spec.rows_in(scenario)
            if row.trials and row not in there
        ]
    try:
        if scenario.partition is not None:
            make_partition(scenario.partition)
            problems += [
                f"{where}: '{name}' is no simulated domain"
                for name in scenario.partition.types
                if not is_domain(name)
            ]
        elif scenario.sites is not None and not scenario.sites.is_file():
            problems.append(
                f"{where}: its sites file is not there; a relative path begins at the "
                "folder of the study's file"
            )
        elif scenario.sites is not None:
            load_sites(str(scenario.sites))
    except DataError as error:
        problems.append(f"{where}: {str(error).rstrip('.')}")
    return problems


def _row_problems(spec: StudySpec, row: Row) -> list[str]:
    where = f"row '{row.name}'"
    problems = [
        *_reserved(where, row.settings),
        *(problem for one in row.trials for problem in _reserved(where, one)),
        *one_of(f"{where}: kind", row.kind, KINDS),
        *one_of(f"{where}: model-of", row.model_of, MODELS_OF),
        *one_of(f"{where}: table", row.table, TABLES),
        *one_of(f"{where}: count", row.count, COUNTS),
        *_known(
            f"{where}: scenarios", row.scenarios, [one.name for one in spec.scenarios]
        ),
        *check(
            row.pooled_factor >= 0 and (not row.pooled_factor or row.kind == "pooled"),
            f"{where}: pooled-steps-factor is a number > 0 for kind = 'pooled'",
        ),
        *check(
            row.kind == "federation" or row.model_of == "global",
            f"{where}: kind = '{row.kind}' has one model, so model-of must be 'global'",
        ),
    ]
    if row.trials_of:
        others = {one.name: one for one in spec.rows if not one.trials_of}
        problems += _known(f"{where}: trials-of", [row.trials_of], others)
        other = others.get(row.trials_of)
        here = {one.name for one in spec.scenarios if row in spec.rows_in(one)}
        there = {one.name for one in spec.scenarios if other in spec.rows_in(one)}
        problems += check(
            other is None or here <= there,
            f"{where}: '{row.trials_of}' is not in all of its scenarios",
        )
    return problems


def _trial_problems(spec: StudySpec) -> list[str]:
    """Refuse rows with more chances than others."""
    by_number = defaultdict(list)
    for row in spec.rows:
        if row.kind != "untrained" and not row.trials_of:
            by_number[max(len(row.trials), 1)].append(f"'{row.name}'")
    if len(by_number) < 2:
        return []
    found = "; ".join(
        f"{number}: {', '.join(names)}" for number, names in sorted(by_number.items())
    )
    return [
        "all rows tune with the same number of trials (or say trials-of), but here "
        f"they have {found}"
    ]


def _setting_problems(spec: StudySpec) -> list[str]:
    problems = []
    for scenario in spec.scenarios:
        for row in spec.rows_in(scenario):
            for trial in range(len(spec.trials_for(row))):
                found = spec.settings_of(scenario, row, trial, spec.seeds[0])
                where = f"row '{row.name}'"
                if len(row.trials) > 1:
                    where += f", trial {trial + 1}"
                try:
                    settings = RunSettings.from_run_config(found)
                except SettingsError as error:
                    text = str(error).partition("wrong: ")[2].rstrip(".")
                    problems.append(f"{where}: {text or error}")
                else:
                    problems += [
                        f"row '{row.name}': {problem}"
                        for problem in _model_problems(row, settings)
                    ]
    return problems


def _model_problems(row: Row, settings: RunSettings) -> list[str]:
    keeps_silos = settings.strategy not in FLOWERS
    return [
        *check(
            row.kind != "federation" or row.model_of == "global" or keeps_silos,
            "silos have no models of their own with strategy "
            f"'{settings.strategy}', so model-of must be 'global', got "
            f"'{row.model_of}'",
        ),
        *check(
            not settings.model.classifies,
            f"a study segments, got model.task = '{settings.model.task}'",
        ),
        *_network_problems(settings.model, *_grid_of(row, settings)),
    ]


def _grid_of(row: Row, settings: RunSettings) -> tuple[str, int]:
    """Return which features are compared, and on which grid; 0 = none."""
    if row.kind == "federation" and settings.strategy == "moon":
        return settings.rival.contrast_tap, 1
    fedefm = settings.fedefm
    compares = fedefm.teachers != "none" or fedefm.teach_on == "proxy"
    if row.kind != "federation" or settings.strategy != "fedefm" or not compares:
        return "", 0
    return fedefm.tap, fedefm.grid_size


@functools.lru_cache(maxsize=64)  # many rows, few networks
def _network_problems(model: ModelSettings, tap: str, grid_size: int) -> list[str]:
    """Use the network once now, in place of failing in the first job."""
    if model.name.startswith("sam-vit") or model.checkpoint:
        return []  # large, or its file may lie on another machine
    try:
        network = assemble_model(model.recipe(0)).eval()
        if grid_size:
            frame = torch.zeros(1, 1, network.image_size, network.image_size)
            with torch.no_grad():
                output = forward_with_tap(network, frame, tap)
            pool_to_nodes(output.features, grid_size)
    except ValueError as error:
        return [str(error).rstrip(".")]
    return []


def _seen_problems(spec: StudySpec) -> list[str]:
    """Refuse unseen domains of which somebody has labels."""
    problems = []
    for scenario in spec.scenarios:
        if scenario.partition is not None:
            held = set(scenario.partition.types)
        else:
            sites = load_sites(str(scenario.sites))
            held = {name for site in sites for name in site.labelled_types}
        problems += [
            f"'{name}' cannot be unseen: a silo of scenario '{scenario.name}' has "
            "labels of it"
            for name in (*spec.unseen, *spec.shot_domains)
            if name in held
        ]
    return problems


def _reserved(where: str, settings: Iterable[str]) -> list[str]:
    return [
        f"{where}: {key} is decided by the study, leave it out"
        for key in settings
        if key in OF_THE_STUDY
    ]


def _repeated(what: str, names: Iterable[str]) -> list[str]:
    return [
        f"two of [[{what}]] have the name '{name}'"
        for name, count in Counter(names).items()
        if count > 1
    ]


def _known(what: str, names: Iterable[str], known: Iterable[str]) -> list[str]:
    there = sorted(known)
    problems = []
    for name in names:
        if name and name not in there:
            problems.append(f"{what}: there is no '{name}'{hint(name, there)}")
    return problems


def hint(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'seeds'?)" for what looks like a known name, else ""."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
