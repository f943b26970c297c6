"""Two sites of 32 px frames, and jobs and models that belong to them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.study.spec import Job
from models.assembly import assemble_model
from strategies.accumulation import State
from strategies.settings import RunSettings, SettingValue

SITES = ("human-site", "phantom-site")
LAST_BIAS = "logit_bias"
Config = dict[str, SettingValue]


def small_config(run_config: Mapping[str, SettingValue], folder: Path) -> Config:
    """Write a sites file and return a run of single steps on it."""
    sites = folder / "sites.toml"
    sites.write_text(
        "\n".join(
            f'[[site]]\nname = "{name}"\ndomain = "{name.split("-")[0]}"\n'
            "patients = 4\nframes-per-patient = 1\n"
            for name in SITES
        )
    )
    return {
        **run_config,
        "output": str(folder / "run"),
        "sites": str(sites),
        "strategy": "fedavg",
        "num-rounds": 1,
        "model.image-size": 32,
        "train.steps": 2,
        "train.batch-size": 4,
        "join-timeout-s": 30.0,
        "phase-timeout-s": 60.0,
        "mlflow": False,
    }


def job_of(config: Config, **facts: Any) -> Job:  # noqa: ANN401
    values: dict[str, Any] = {
        "study": "small",
        "scenario": "two sites",
        "row": "FedAvg",
        "group": "rivals",
        "seed": 0,
        "trial": 0,
        "purpose": "final",
        "settings": config,
        "sites": str(config["sites"]),
        **facts,
    }
    return Job(**values)


@dataclass(frozen=True)
class Ended:
    """What a training leaves."""

    theta: State | None
    settings: RunSettings
    silos: Mapping[str, State] = field(default_factory=dict)


def random_state(settings: RunSettings, seed: int) -> State:
    """Return random weights of a network that sees devices all over."""
    state = assemble_model(settings.model.recipe(seed)).trainable_state()
    # Networks start with a bias of about -4: else they would predict nothing at all.
    return {name: one + 3.95 * (name == LAST_BIAS) for name, one in state.items()}


def ended(config: Config, **silo_seeds: int) -> Ended:
    """Return random models: Theta of seed 0, silos of their own seeds."""
    settings = RunSettings.from_run_config(config)
    silos = {
        name.replace("_", "-"): random_state(settings, seed)
        for name, seed in silo_seeds.items()
    }
    return Ended(random_state(settings, 0), settings, silos)
