"""Studies of next to nothing: two silos, 32 px, single steps."""

from pathlib import Path
from typing import Any

import tomli_w

from experiments.run_config import flatten
from experiments.study.jobs import sites_file
from experiments.study.plan import Plan
from experiments.study.scenario_sites import make_sites
from experiments.study.spec import Job, StudySpec
from experiments.study.study_file import read_study

Table = dict[str, Any]

BASE: Table = {
    "num-rounds": 1,
    "model": {"name": "sam-tiny", "image-size": 32},
    "train": {"steps": 1, "batch-size": 2, "schedule": "constant"},
    "fedefm": {"warmup-steps": 1, "overseas-steps": 1, "grid-size": 2},
    "device": "cpu",
}
PARTITION: Table = {
    "types": ["human", "phantom"],
    "silos": 2,
    "unseen": 100,
    "patients": 4,
    "frames-per-patient": 1,
}
SILOS = ("silo-1", "silo-2")


def study_table(*rows: Table, **top: Any) -> Table:  # noqa: ANN401 - any key
    """A study of one scenario; without rows it has FedAvg alone."""
    named = {key.replace("_", "-"): value for key, value in top.items()}
    return {
        "base": BASE,
        "scenario": [{"name": "apart", "partition": PARTITION}],
        "row": list(rows) or [row("FedAvg", strategy="fedavg")],
        **named,
    }


def row(name: str, group: str = "rivals", **settings: Any) -> Table:  # noqa: ANN401
    """A row; settings with "_" for "-" and "__" for "."."""
    return {"name": name, "group": group, "settings": dotted(settings)}


def dotted(settings: Table) -> Table:
    return {
        key.replace("__", ".").replace("_", "-"): value
        for key, value in settings.items()
    }


def write_study(folder: Path, table: Table, name: str = "tiny") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(tomli_w.dumps(table), encoding="utf-8")
    return path


def spec_of(folder: Path, *rows: Table, **top: Any) -> StudySpec:  # noqa: ANN401
    return read_study(write_study(folder, study_table(*rows, **top)))


def plan_of(folder: Path, *rows: Table, **top: Any) -> Plan:  # noqa: ANN401
    """The plan of a study with its sites files written."""
    spec = spec_of(folder, *rows, **top)
    study = folder / "study"
    make_sites(spec, study)
    return Plan(spec, study)


def job_of(folder: Path, table: Table | None = None, **top: Any) -> Job:  # noqa: ANN401
    """The final job of a study of one row, with its sites file written."""
    plan = plan_of(folder, *([table] if table else []), **top)
    ((scenario, only),) = plan.pairs()
    assert sites_file(plan.study, scenario.name).exists()
    return plan.final_jobs(scenario, only, 0)[0]


def flat(table: Table) -> Table:
    return dict(flatten(table))
