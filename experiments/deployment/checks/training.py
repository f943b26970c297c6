"""Can this machine train? One optimiser step of the smallest allowed network.

The step is taken on the site's own frames by the code that a run uses; nothing is kept
but prepared frames. How long a round will take is estimated from it.
"""

import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from clients.data.errors import DataError
from clients.site_file import Bound, Limits, SiteFile
from experiments.deployment.checks.finding import Finding
from experiments.run_config import default_run_config
from models.registry import BUILDERS
from strategies.settings import RunSettings, SettingsError, SettingValue

TRAINING, TIME = "training", "time per round"
SMALL_FIRST = ("sam-tiny", "attention-unet-small", "fga-net-small", "unet")
"""By the multiplications of a frame; the others follow in the order of the list."""
MEASURED_STEPS = 2
TEACHER_SHARE = 1 / 3
"""Of a step: a teacher's answer is a forward pass, a step is about three of them."""
GIB = 2**30


@dataclass(frozen=True)
class Step:
    """What one optimiser step took."""

    model: str
    device: str  # cpu or cuda
    batch_size: int
    seconds: float
    peak_gib: float  # of the GPU's memory, or of this whole process on a CPU
    frames: int  # to train on


def check_training(site_file: Path) -> tuple[Finding, Finding]:
    """Take a step on the site's frames.

    Args:
        site_file: Path of site.toml.

    Returns:
        The findings about training and about the time of a round.
    """
    site = SiteFile.read(site_file)
    try:
        run_config = smallest_run(site.limits)
        settings = RunSettings.from_run_config(run_config)
    except SettingsError:
        return _cannot("No network and settings are within the limits of site.toml.")
    try:
        step = measure_step(site_file, settings)
    except DataError:
        return _cannot("The frames cannot be used; see the finding about data.")
    except (RuntimeError, MemoryError, ValueError) as error:
        return _cannot(f"A training step ended in a {type(error).__name__}.")
    return judge_step(step, site.machine.memory_gib), estimate_round(step, settings)


def measure_step(site_file: Path, settings: RunSettings) -> Step:
    """Train two steps, the first to warm up, and measure the second.

    Args:
        site_file: Path of site.toml.
        settings: Of a run.

    Returns:
        What the step took.

    Raises:
        DataError: If the frames or the device cannot be used.
        RuntimeError: If the training fails, for instance for lack of memory.
    """
    import torch

    from clients.hospital import Hospital
    from clients.optimisation import TrainPlan
    from clients.training import train_on_labels
    from models.assembly import assemble_model

    hospital = Hospital.from_node_config(
        {"site-file": str(site_file.absolute())}, settings
    )
    model = assemble_model(hospital.recipe)
    plan = TrainPlan(
        steps=1,
        learning_rate=settings.train.learning_rate,
        settings=settings.train,
        data=settings.frames,
        seed=settings.seed,
        deadline_s=hospital.seconds_for(settings),
        task=hospital.task,
    )
    is_cuda = hospital.device.type == "cuda"
    seconds = 0.0
    for _ in range(MEASURED_STEPS):
        started = time.monotonic()
        train_on_labels(model, hospital.split.train, plan, hospital.device)
        if is_cuda:
            torch.cuda.synchronize()
        seconds = time.monotonic() - started
    peak = torch.cuda.max_memory_allocated() if is_cuda else _process_peak()
    return Step(
        model=settings.model.name,
        device=hospital.device.type,
        batch_size=settings.train.batch_size,
        seconds=seconds,
        peak_gib=peak / GIB,
        frames=len(hospital.split.train),
    )


def judge_step(step: Step, promised_gib: float) -> Finding:
    """Say whether the step fits.

    Args:
        step: That was measured.
        promised_gib: `memory-gib` of site.toml, which limits the container.

    Returns:
        The finding.
    """
    where = "GPU memory" if step.device == "cuda" else "memory of the whole process"
    is_tight = step.device == "cpu" and step.peak_gib > 0.8 * promised_gib
    return Finding(
        TRAINING,
        "warning" if is_tight else "ok",
        f"One step of {step.model} with {step.batch_size} frames, out of "
        f"{step.frames}, took {step.seconds:.2f} s ({step.device}); peak "
        f"{step.peak_gib:.2f} GiB ({where}).",
        "Raise memory-gib in site.toml." if is_tight else "",
        {
            "model": step.model,
            "device": step.device,
            "step-s": round(step.seconds, 3),
            "peak-gib": round(step.peak_gib, 2),
        },
    )


def estimate_round(step: Step, settings: RunSettings) -> Finding:
    """Estimate how long this site works in a round with default settings.

    Args:
        step: That was measured.
        settings: Of the run that it was measured for.

    Returns:
        The finding, with what it assumes.
    """
    own, visiting = settings.train.steps, settings.fedefm.overseas_steps
    seconds = step.seconds * (own * (1 + TEACHER_SHARE) + visiting)
    return Finding(
        TIME,
        "ok",
        f"About {max(seconds, 0.1):.1f} s of computing: {own} own steps with one "
        f"teacher and {visiting} steps of a visitor, with {step.model}; sending, "
        "measuring and starting programs (5 to 10 s a phase) come on top.",
        numbers={"round-s": round(seconds, 1), "steps": own, "visitor-steps": visiting},
    )


def smallest_run(limits: Limits) -> dict[str, SettingValue]:
    """Return the default settings with the smallest network that a site allows.

    Args:
        limits: Of the site.

    Returns:
        Flat settings; what the site bounds is moved to its bound.
    """
    run_config = default_run_config()
    names = [*SMALL_FIRST, *(name for name in BUILDERS if name not in SMALL_FIRST)]
    allowed = names if limits.models is None else limits.models
    bound = limits.settings.get("model.name")
    for name in names:
        if name in allowed and (bound is None or bound.holds(name)):
            break
    else:
        raise SettingsError("The site allows no network that this program knows.")
    run_config["model.name"] = name
    for key, one in limits.settings.items():
        if key in run_config and not one.holds(run_config[key]):
            run_config[key] = _moved(run_config[key], one)
    return run_config


def _moved(value: SettingValue, bound: Bound) -> SettingValue:
    if bound.allowed:
        return bound.allowed[0]
    if isinstance(value, bool | str):
        return value
    if bound.most is not None and value > bound.most:
        return type(value)(bound.most)
    return value if bound.least is None else type(value)(bound.least)


def _cannot(why: str) -> tuple[Finding, Finding]:
    advice = "`endofed site dry-run` tries a whole round and says more."
    return (
        Finding(TRAINING, "failed", why, advice),
        Finding(TIME, "skipped", "Not known without a training step."),
    )


def _process_peak() -> int:
    """Return the most memory in bytes that this process has held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
