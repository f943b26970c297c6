"""Labels for a site that has none: the coarse stage on its own frames.

Wen et al., arXiv 2410.07460. Simulated frames, the same at every site, get the style of
the site's training frames; a network that learned from them labels these frames, and
what is left after cleaning stands in for the labels. Nothing here looks at a mask of
the site. A file keeps the result for the other processes of a simulation and the next
start of a deployed site. Plain torch; knows nothing of Flower.
"""

import hashlib
import logging
import math
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch

from clients.adaptation.coarse import OnStep, train_coarse
from clients.adaptation.label_files import load_pseudo_labels, save_pseudo_labels
from clients.adaptation.label_plan import LabelPlan
from clients.adaptation.pseudo_labels import (
    PseudoLabels,
    predict_masks,
    pseudo_labelled,
)
from clients.adaptation.style_transfer import restyle
from clients.data.cache_files import building, make_private_folder, without_paths
from clients.data.errors import DataError
from clients.data.frames import Frames, FrameSet, join_frames
from clients.optimisation import TrainingError
from clients.sources import SimulatedSource, load_simulated
from models.assembly import Recipe, assemble_model
from models.network import SegmentationNetwork
from models.sam import Sam
from models.weights import weights_digest
from strategies.randomness import generator_from

FOLDER = "pseudo.labels"
"""Within the cache of prepared frames, no entry of which has a dot in its name."""
MAX_FRAMES = 500
"""Frames of a site that get a pseudo-label. 100 to 500 serve best, and more lose some
of it (paper, figure 6); they have to fit into memory, too."""
FRAMES_PER_PATIENT = 2
"""Of the simulated source: neighbours of a sequence teach little more."""

_log = logging.getLogger(__name__)


def label_site(
    frames: Frames,
    plan: LabelPlan,
    *,
    device: torch.device,
    cache: Path,
    deadline_s: float = math.inf,
) -> FrameSet:
    """Label the training frames of a site without any label of it.

    Args:
        frames: The training frames; masks and annotations are not looked at.
        plan: What decides the labels.
        device: Where to train.
        cache: Folder of prepared frames, in which the labels are kept, too; what is
            missing or damaged is made again.
        deadline_s: Training the network is given up after this many seconds.

    Returns:
        The frames that got a pseudo-label, in order, with it as their masks; adapted
        classes count as annotated. At most `MAX_FRAMES`. The same arguments give the
        same bits on one machine.

    Raises:
        DataError: If the settings do not go, no frame gets a label, or the cache
            cannot be used.
        TrainingError: If the loss is not finite or the deadline passes.
    """
    plan.check()
    target = _without_labels(_choose(frames, plan))
    network = _fresh_network(plan.recipe)

    folder, key = cache / FOLDER, _digest(target, network, plan)
    path = folder / f"{key}.safetensors"
    with without_paths():
        make_private_folder(folder)
    with building(folder, key):  # one process at a time; the others wait, then read
        labels = _read(path, target)
        if labels is None:
            labels = _find_labels(network, target, plan, device, _timer(deadline_s))
            save_pseudo_labels(path, labels, target)
    _log.info(
        "Hospital %s: %d of %d frames to train have a pseudo-label.",
        plan.site,
        len(labels.frames),
        len(target),
    )
    return labels.frames


def simulate_source(plan: LabelPlan) -> FrameSet:
    """Simulate the frames of which all sites without labels learn.

    Args:
        plan: Of any of the sites; they get the same frames.

    Returns:
        About as many frames as are restyled, divided over the domains, all labelled.
    """
    names = plan.settings.source_names
    patients = math.ceil(plan.settings.source_frames / FRAMES_PER_PATIENT / len(names))
    return join_frames(
        [
            load_simulated(
                SimulatedSource(name, patients, FRAMES_PER_PATIENT),
                settings=plan.data,
                seed=plan.seed_of("source", is_shared=True),
            )
            for name in names
        ]
    )


def _find_labels(
    network: SegmentationNetwork,
    target: FrameSet,
    plan: LabelPlan,
    device: torch.device,
    on_step: OnStep,
) -> PseudoLabels:
    settings = plan.settings
    if not isinstance(network, Sam):  # it has no prompt layers and no adapters
        settings = replace(settings, coarse_network="sam", training="full")
    styled = restyle(
        simulate_source(plan),
        target,
        settings,
        seed=plan.seed_of("style"),
        target_is_dark=plan.devices_are_dark,
    )
    coarse = train_coarse(
        network,
        styled,
        settings,
        seed=plan.seed_of("coarse"),
        device=device,
        on_step=on_step,
    )
    masks = predict_masks(
        coarse,
        target,
        threshold_logit=settings.logit_threshold,
        batch_size=settings.coarse_batch_size,
        device=device,
    )
    return pseudo_labelled(target, masks, settings)


def _timer(deadline_s: float) -> OnStep:
    """Return what ends a training at its first step after the deadline."""
    ends_at = time.monotonic() + deadline_s

    def on_step(step: int, steps: int, loss: float) -> None:
        if time.monotonic() > ends_at:
            raise TrainingError(
                f"the coarse stage reached {step} of {steps} steps in "
                f"{deadline_s:.0f} s. Raise phase-timeout-s or lower "
                "adapt.coarse-epochs"
            )

    return on_step


def _read(path: Path, target: FrameSet) -> PseudoLabels | None:
    if not path.exists():
        return None
    try:
        return load_pseudo_labels(path, target)
    except DataError:
        _log.warning("Kept pseudo-labels cannot be read; they are made again.")
        return None


def _choose(frames: Frames, plan: LabelPlan) -> FrameSet:
    """Read all frames, or `MAX_FRAMES` of them drawn by chance, into memory."""
    generator = generator_from(plan.seed_of("choice"))
    drawn = torch.randperm(len(frames), generator=generator)[:MAX_FRAMES]
    return frames.subset(drawn.sort().values)


def _without_labels(frames: FrameSet) -> FrameSet:
    """Forget whatever masks there are: not even the digest may depend on them."""
    return replace(
        frames,
        masks=torch.zeros_like(frames.masks),
        annotated=torch.zeros_like(frames.annotated),
    )


def _fresh_network(recipe: Recipe) -> SegmentationNetwork:
    """Build the run's network as it is before the first step, without adapters."""
    return assemble_model(
        replace(recipe, training="full", deep_supervision=False, num_labels=0)
    )


def _digest(target: FrameSet, network: SegmentationNetwork, plan: LabelPlan) -> str:
    """Name all that decides the labels: frames, first weights, settings and code."""
    found = hashlib.sha256(target.digest().encode())
    # The weights stand for the recipe: a checkpoint may change under its name.
    found.update(weights_digest(network.state_dict()).encode())
    settings = asdict(plan.settings), asdict(plan.data)
    others = plan.seed, plan.site, plan.devices_are_dark, MAX_FRAMES, FRAMES_PER_PATIENT
    found.update(repr((settings, others)).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()
