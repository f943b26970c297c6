"""Trains what a job asks for, in this process, and keeps the models.

Federations run through the server's own round loop over Flower's apps, without
SuperLink and Ray: the bits are those of `endofed simulate` with the same settings. A
finished training is opened again in place of being repeated, so that jobs which differ
only in what they measure share one.

Seconds are those that silos spent on training, one silo after another; measuring and
the introduction are left out. Bytes are those of training, too: everything that travels
between silos and centre but for what is sent to be measured.
"""

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flwr.app import Message

from clients.sites import SiteSpec, load_sites
from experiments.in_process import InProcessGrid
from experiments.study.budget import count_steps
from experiments.study.jobs import THETA_FILE, TRAINED_FILE
from experiments.study.spec import Job
from experiments.study.steps import Budget
from models.assembly import assemble_model
from models.weights import load_weights, save_weights
from server.checkpoints import CHECKPOINTS_FOLDER
from server.journal import EVENTS_FILE, read_events, write_json
from server.state_files import kept_silos, load_federation, save_silo
from strategies import messages
from strategies.accumulation import State
from strategies.settings import RunSettings, SettingValue

FORMAT = 1
RUN_FOLDER = "run"
MEASURING = (messages.EVALUATE, messages.INTRODUCE)
Curve = list[dict[str, Any]]


@dataclass(frozen=True)
class Trained:
    """What a training leaves."""

    theta: State | None  # the accumulated or pooled model
    silos: Mapping[str, State]  # the silos' own models; empty where there are none
    settings: RunSettings
    sites: tuple[SiteSpec, ...]
    curve: Curve  # cumulative numbers after every round
    cost: dict[str, Any]  # of the whole run


def train(job: Job, folder: Path) -> Trained:
    """Train what a job asks for, or open what was trained before.

    Args:
        job: What to train.
        folder: Where the models are kept; made if missing. Nothing else may use it
            at the same time.

    Returns:
        Models, curve and cost.

    Raises:
        TooFewSites: If a silo failed; its reason is in the text.
        TrainingError: If the pooled model could not be trained.
        SettingsError, DataError: If settings or sites are wrong.
    """
    settings = settings_of(job)
    sites = load_sites(job.sites)
    found = _open(folder, settings, sites)
    if found is not None:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    budget = count_steps(job, settings, [site.name for site in sites])
    if job.kind == "federation":
        theta, silos, points = _federate(job, folder, len(sites))
    else:
        from experiments.study.pooled import train_pooled  # it imports this module

        silos = {}
        theta, points = train_pooled(job, settings, len(sites))
    curve = [{**point, **budget.after(point["round"])} for point in points]
    trained = Trained(
        theta, silos, settings, sites, curve, _cost(budget, settings, curve)
    )
    _keep(folder, trained)
    return trained


def settings_of(job: Job) -> RunSettings:
    """Return the settings of a job's run."""
    return RunSettings.from_run_config(run_config_of(job))


def run_config_of(job: Job, output: str = "") -> dict[str, SettingValue]:
    """Return the complete flat settings of a job's run, with its paths."""
    return {
        **job.settings,
        "sites": job.sites,
        "output": output,
        "mlflow": False,
        # A training that was cut short begins anew, so nothing reads what is between.
        "keep-every-rounds": job.settings["num-rounds"],
    }


class ClockedGrid(InProcessGrid):
    """Notes how long silos train in every round."""

    def __init__(self, *args: Any, **named: Any) -> None:  # noqa: ANN401
        """Take what `InProcessGrid` takes."""
        super().__init__(*args, **named)
        self.seconds: Counter[int] = Counter()  # by round

    def _answer(self, message: Message) -> Message | None:
        began = time.perf_counter()
        reply = super()._answer(message)
        if message.metadata.message_type not in MEASURING:
            number = messages.unpack_round(message)
            self.seconds[number] += time.perf_counter() - began
        return reply


def curve_of(
    events: Iterable[Mapping[str, Any]], seconds: Mapping[int, float]
) -> Curve:
    """Read the curve of a federation from what it wrote down.

    Args:
        events: Of the run's metrics.jsonl.
        seconds: That silos trained, by round.

    Returns:
        For every round its number, the Dice of the pooled validation frames (None
        without labels), and bytes and seconds of training up to its end.
    """
    curve: Curve = []
    num_bytes, past = 0, 0.0
    skipped = {messages.PHASE_NAMES[one] for one in MEASURING}
    for event in events:
        if event["event"] == "phase" and event["phase"] not in skipped:
            num_bytes += event["bytes_up"] + event["bytes_down"]
        elif event["event"] == "round":
            past += seconds.get(event["round"], 0.0)
            curve.append(
                {
                    "round": event["round"],
                    "dice": event["global"].get("val/dice"),
                    "bytes": num_bytes,
                    "seconds": round(past, 3),
                }
            )
    return curve


def _federate(
    job: Job, folder: Path, num_sites: int
) -> tuple[State, dict[str, State], Curve]:
    # Here, so that who only opens models does not wait for both apps.
    from clients.app import app
    from server.rounds import run_federation

    run = folder / RUN_FOLDER
    shutil.rmtree(run, ignore_errors=True)  # of a try that was cut short
    config = run_config_of(job, str(run.resolve()))
    grid = ClockedGrid(app, config, num_sites)
    run_federation(grid, config)
    theta = load_federation(run).theta
    silos = dict(kept_silos(run))
    curve = curve_of(read_events(run / EVENTS_FILE), grid.seconds)
    shutil.rmtree(run / CHECKPOINTS_FOLDER)  # kept beside the run, without its memory
    return theta, silos, curve


def _cost(budget: Budget, settings: RunSettings, curve: Curve) -> dict[str, Any]:
    last = curve[-1]
    return {
        "rounds": settings.num_rounds if budget.rounds else 0,
        **budget.cost(),
        "bytes": last["bytes"],
        "seconds": last["seconds"],
    }


def _keep(folder: Path, trained: Trained) -> None:
    """Write the models, then what says that they are complete."""
    shutil.rmtree(folder / CHECKPOINTS_FOLDER, ignore_errors=True)
    if trained.theta is not None:
        save_weights(folder / THETA_FILE, trained.theta)
    for silo, state in trained.silos.items():
        save_silo(folder, silo, trained.settings.num_rounds, state)
    write_json(
        folder / TRAINED_FILE,
        {
            "format": FORMAT,
            "silos": sorted(trained.silos),
            "curve": trained.curve,
            "cost": trained.cost,
        },
    )


def _open(
    folder: Path, settings: RunSettings, sites: tuple[SiteSpec, ...]
) -> Trained | None:
    """Return a complete training, None if there is none."""
    try:
        told = json.loads((folder / TRAINED_FILE).read_text(encoding="utf-8"))
        theta = load_weights(folder / THETA_FILE)
        silos = dict(kept_silos(folder))
    except (OSError, ValueError):
        return None
    if told.get("format") != FORMAT or sorted(silos) != told["silos"]:
        return None
    # What fits the network is used as it is: `load_weights` has checked the files.
    if theta.keys() != _initial(settings).keys():
        return None
    return Trained(theta, silos, settings, sites, told["curve"], told["cost"])


def _initial(settings: RunSettings) -> State:
    """Return theta(0), the start that all rows share."""
    return assemble_model(settings.model.recipe(settings.seed)).trainable_state()
