"""Training on frames that nobody has labelled: simulated ones, or a hospital's own.

Every silo teaches the accumulated model on the same proxy frames, each weighed frame
by frame if the settings say so. With `proxy_labels` "logits" and equal weights this is
FedDF (Lin et al., NeurIPS 2020): one teacher, the mean of their logits. By default each
is a teacher of its own, whose gradients together are those of the mean of their
probabilities. With `proxy_frames` "hospital" the frames are those of the hospital that
takes the steps, and nobody knows their masks.

Of simulated ones the masks are left out on purpose: they stand for frames of which
nobody has any. Where masks may be used, training on them beats any weighing of
teachers; `proxy_labels` "simulated" does so, as what distillation has to be compared
with, and `edge_weight` "oracle" weighs the teachers by them, a gate that knows the
truth. Plain torch; knows nothing of Flower.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from clients.data.batches import Batch
from clients.data.frames import Frames, FrameSet, join_frames
from clients.optimisation import TrainPlan, TrainReport, descend
from clients.sources import SimulatedSource, load_simulated
from clients.tasks import Segmentation
from clients.teachers import Lesson, Panel
from clients.training import train_on_labels
from models.network import SegmentationNetwork
from models.taps import forward_with_tap
from strategies.accumulation import State
from strategies.data_settings import DataSettings
from strategies.distillation import multishot_loss
from strategies.fedefm_settings import FedEFMSettings
from strategies.settings import SettingsError

# The four data types of FedEFM and hospitals that nobody has seen; "neuro" stays out,
# as it is held out for tests of transfer.
PROXY_DOMAINS = (
    "human",
    "animal",
    "phantom",
    "simulation",
    "random-0",
    "random-1",
    "random-2",
    "random-3",
)
THRESHOLD = 0.5
"""Of the weighed mean of probabilities, with `proxy_labels` "teachers"."""

PATIENTS = 4  # of each domain, one frame each


def distil_on_proxies(
    model: SegmentationNetwork,
    teachers: Mapping[str, State],
    plan: TrainPlan,
    device: torch.device,
    *,
    settings: FedEFMSettings,
    image_size: int,
    frames: Frames | None = None,
    prototypes: Mapping[str, Tensor] | None = None,
    common: State | None = None,
    teaches: Mapping[str, Sequence[str]] | None = None,
) -> TrainReport:
    """Let all teachers teach the accumulated model on frames without labels.

    With `proxy_labels` "logits" it learns the weighed mean of their logits (FedDF's
    AVGLOGITS); with "teachers", by the run's own loss of labels, the masks that the
    weighed mean of their probabilities draws.
    With "simulated" the masks of the same frames teach it and nobody
    else is asked: the same steps of plain training on labels.

    Args:
        model: Theta, changed in place; ends on the device.
        teachers: What travels of each silo's model, by site.
        plan: Steps, learning rate and the seed of frames and batches.
        device: Where to train.
        settings: How teachers are scored and weighed. All classes are taught, since
            nobody annotates a proxy; `beta` does not matter, since nothing else
            teaches.
        image_size: Side of simulated frames, px, at least that of the network.
        frames: A hospital's; of those with labels patches are cut where devices are,
            and nothing else is known of them. None = the simulator's.
        prototypes: (k, dim) by site, for a `score` that needs them.
        common: Through whose encoder such a score looks; None = Theta as it is
            before the first step.
        teaches: Classes by teacher, with `teacher_classes` "annotated".

    Returns:
        Loss, score, gap and weight of every step, and no label loss; or, with the
        simulator's masks, the label loss alone.

    Raises:
        TrainingError: If the loss is not finite or the deadline passes.
        WeightsError: If a teacher is not of the model's network.
        ValueError: If nobody teaches, or the tap or the grid does not fit.
        SettingsError: If masks should teach a network that does not outline devices.
    """
    if settings.proxy_labels == "simulated":
        return _train_on_masks(model, plan, device, image_size)
    if not teachers:
        raise ValueError(
            "Distillation on proxies needs at least one teacher, got none."
        )
    is_oracle = settings.edge_weight == "oracle"
    if is_oracle:
        _check_outlines(plan, "fedefm.edge-weight = 'softmax'")
    if settings.proxy_labels == "teachers":
        _check_outlines(plan, "fedefm.proxy-labels = 'none'")
    if common is None and settings.needs_prototypes:
        common = {name: one.clone() for name, one in model.trainable_state().items()}
    panel = Panel(
        model,
        teachers,
        device,
        settings=settings,
        seed=plan.seed ^ 1,
        prototypes=prototypes,
        common=common,
        task=plan.task,
        teaches=teaches,
    )
    if settings.teacher_classes == "annotated" and not any((teaches or {}).values()):
        raise ValueError(
            "Distillation on proxies needs a teacher whose site annotates a class, "
            "got none."
        )
    if frames is None:
        data = replace(plan.data, frame_size=image_size)
        frames = proxy_frames(data, plan.seed, labelled=is_oracle)
    return descend(model, frames, plan, device, _loss_of(model, panel, plan, settings))


def _loss_of(
    model: SegmentationNetwork, panel: Panel, plan: TrainPlan, settings: FedEFMSettings
) -> Callable[[Batch, TrainReport], Tensor]:
    """Return what a step goes down: the distance to probabilities, or to masks."""
    kind = settings.proxy_labels
    label_loss = plan.task.label_loss(plan.settings)

    def loss_of(batch: Batch, report: TrainReport) -> Tensor:
        student = forward_with_tap(model, batch.images, settings.tap)
        lesson = panel.teach(student, batch, report)
        if kind == "teachers":
            return label_loss(student, _marked(batch, lesson))
        if kind == "logits":
            logits = torch.stack([one.logits for one in lesson.answers.values()])
            mean = (_shares(lesson, len(batch), logits) * logits).sum(0)
            return plan.task.teacher_loss(
                student.logits, mean, batch, temperature=settings.temperature
            )
        return multishot_loss(
            student.logits.new_zeros(()),
            lesson.losses,
            lesson.weights,
            beta=1.0,
            settings=settings,
        )

    return loss_of


def _marked(batch: Batch, lesson: Lesson) -> Batch:
    """Return a batch with the masks that its teachers, as weighed, agree on."""
    answers = torch.stack([one.logits.sigmoid() for one in lesson.answers.values()])
    agreed = (_shares(lesson, len(batch), answers) * answers).sum(0)
    return replace(
        batch,
        masks=(agreed > THRESHOLD).to(batch.masks.dtype),
        annotated=torch.ones_like(batch.annotated),
    )


def _shares(lesson: Lesson, count: int, answers: Tensor) -> Tensor:
    """Return what every teacher counts of each frame, shaped to multiply answers."""
    weights = torch.stack([one.expand(count) for one in lesson.weights])
    # Where nobody counts, all count alike.
    weights = torch.where(weights.sum(0) > 0, weights, torch.ones_like(weights))
    shares = weights / weights.sum(0)
    return shares.reshape(*shares.shape, *[1] * (answers.ndim - 2))


def _train_on_masks(
    model: SegmentationNetwork, plan: TrainPlan, device: torch.device, image_size: int
) -> TrainReport:
    _check_outlines(plan, "fedefm.proxy-labels = 'none'")
    data = replace(plan.data, frame_size=image_size)
    frames = proxy_frames(data, plan.seed, labelled=True)
    return train_on_labels(model, frames, plan, device)


def _check_outlines(plan: TrainPlan, remedy: str) -> None:
    if not isinstance(plan.task, Segmentation):
        raise SettingsError(
            "The simulator's masks show the outlines of devices, and this run tells "
            f"data types apart. Set {remedy}."
        )


def proxy_frames(
    settings: DataSettings, seed: int, *, labelled: bool = False
) -> FrameSet:
    """Simulate frames of several kinds of hospitals and forget their labels.

    Args:
        settings: Size and polarity of the frames.
        seed: >= 0; the same one gives the same bits.
        labelled: Keep the simulator's masks, of all classes.

    Returns:
        `PATIENTS` frames of each of `PROXY_DOMAINS`; unless labelled, with empty masks
        and no class annotated.
    """
    # Only these two matter, so runs that differ in others share the frames.
    return _simulated(settings.frame_size, settings.polarity, seed, labelled)


# Simulating takes a tenth of a second a frame; a site asks again in a resumed phase.
@functools.lru_cache(maxsize=2)
def _simulated(size: int, polarity: str, seed: int, labelled: bool) -> FrameSet:
    prepared = DataSettings(
        frame_size=size,
        crop="none",
        clip_percentile=0.5,
        polarity=polarity,
        normalise="unit",
        augmentation="none",
    )
    frames = join_frames(
        [
            load_simulated(
                SimulatedSource(domain=domain, patients=PATIENTS, frames_per_patient=1),
                settings=prepared,
                seed=seed,
            )
            for domain in PROXY_DOMAINS
        ]
    )
    if labelled:
        return frames
    return replace(
        frames,
        masks=torch.zeros_like(frames.masks),
        annotated=torch.zeros_like(frames.annotated),
    )
