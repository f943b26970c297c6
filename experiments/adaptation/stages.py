"""The stages of one adaptation: synthetic frames, coarse network, labels, pair.

Each is computed when something first asks for it, and kept in a file
(`experiments.adaptation.stage_files`). None of them sees a mask of the target; the
learning curve of the fine stage is measured with them, which changes no weight.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from clients.adaptation.coarse import train_coarse
from clients.adaptation.fine_stage import FineStage, prepare_pair
from clients.adaptation.pseudo_labels import clean_masks, pseudo_labelled
from clients.adaptation.scores import score_masks
from clients.adaptation.style_transfer import restyle
from clients.data.frames import FrameSet
from experiments.adaptation.job import (
    ADAPTERS,
    CLEANING,
    COARSE,
    FINE,
    STYLE,
    Job,
    predicted,
    untrained_coarse,
)
from experiments.adaptation.pictures import spread_over
from experiments.adaptation.stage_files import (
    Computed,
    Stage,
    StageFiles,
    frames_from_tensors,
    frames_to_tensors,
)
from experiments.adaptation.targets import has_truth, without_labels
from models.assembly import merged
from models.network import SegmentationNetwork
from models.sam import Sam

CURVE_FRAMES = 64  # test frames that a learning curve is measured on


@dataclass(frozen=True)
class Guides:
    """Cleaned masks: pseudo-labels, and what prompts are made from."""

    adaptation: Tensor  # uint8 (frames, classes, size, size), 0 where none was kept
    test: Tensor | None
    labelled: FrameSet  # the adaptation frames that have a pseudo-label, with it


class Pipeline:
    """The stages of a job."""

    def __init__(
        self,
        job: Job,
        files: StageFiles,
        *,
        on_step: Callable[[str], None] | None = None,
    ) -> None:
        """Begin; nothing is computed yet.

        Args:
            job: What is adapted to what.
            files: Where stages are kept.
            on_step: Hears a short text about where a long stage is.
        """
        self.job, self.files = job, files
        self._tell = on_step or (lambda text: None)

    @cached_property
    def synthetic_stage(self) -> Stage:
        """The source frames in the style of the target."""
        job = self.job

        def compute() -> Computed:
            frames = restyle(
                job.source,
                job.target.unlabelled,
                job.settings,
                seed=job.seed_of("style"),
            )
            return frames_to_tensors(frames), {"frames": len(frames)}

        depends_on = {
            "source": job.digests["source"],
            "target": job.digests["target"],
            "settings": job.chosen(STYLE),
            "seed": job.seed,
        }
        return self.files.get("synthetic", depends_on, compute)

    @cached_property
    def synthetic(self) -> FrameSet:
        """The labelled frames that the coarse network learns from."""
        return frames_from_tensors(self.synthetic_stage.tensors)

    @cached_property
    def coarse_stage(self) -> Stage:
        """The weights of the coarse network."""
        job, is_sam = self.job, self.job.settings.coarse_network == "sam"

        def compute() -> Computed:
            network = train_coarse(
                job.start,
                self.synthetic,
                job.settings,
                seed=job.seed_of("coarse"),
                device=job.device,
                on_step=self._tell_step,
            )
            return network.trainable_state(), {}

        depends_on = {
            "start": job.digests["start"],
            "synthetic": self.synthetic_stage.key,
            "settings": job.chosen(COARSE),
            "training": job.chosen(ADAPTERS) if is_sam else {},
            "seed": job.seed,
        }
        return self.files.get("coarse", depends_on, compute)

    @cached_property
    def coarse(self) -> SegmentationNetwork:
        """The coarse network, on the CPU in evaluation mode."""
        job = self.job
        network = untrained_coarse(job.start, job.settings)
        network.load_trainable_state(self.coarse_stage.tensors)
        return network.eval()

    @cached_property
    def guides_stage(self) -> Stage:
        """The cleaned masks of the coarse network on all target frames."""
        job = self.job
        test = None if job.target.test is None else without_labels(job.target.test)
        is_coarse = job.labels_from == "coarse"

        def compute() -> Computed:
            frames = job.target.unlabelled
            found = self._predict(self._labeller, frames)
            labels = pseudo_labelled(frames, found, job.settings)
            masks = torch.zeros_like(frames.masks)
            masks[labels.kept] = labels.frames.masks
            tensors = {"masks": masks, "kept": labels.kept}
            if test is not None:
                guesses = self._predict(self._labeller, test)
                tensors["test"] = clean_masks(guesses, job.settings).masks
            return tensors, {"quality": labels.quality.to_dict()}

        depends_on = {
            "network": self.coarse_stage.key if is_coarse else job.digests["start"],
            "target": job.digests["target"],
            "test": "" if test is None else test.digest(),
            "settings": job.chosen(("classes", *CLEANING)),
        }
        return self.files.get("pseudo-labels", depends_on, compute)

    @cached_property
    def guides(self) -> Guides:
        """Pseudo-labels, and what prompts on test frames come from."""
        stage, frames = self.guides_stage, self.job.target.unlabelled
        annotated = torch.zeros_like(frames.annotated)
        annotated[:, list(self.job.classes)] = True
        masks, kept = stage.tensors["masks"], stage.tensors["kept"]
        labelled = replace(frames, masks=masks, annotated=annotated)
        return Guides(masks, stage.tensors.get("test"), labelled.subset(kept))

    @cached_property
    def begin(self) -> Sam:
        """What the fine stage, and rows trained as it is, begin with."""
        if not self.job.settings.starts_from_coarse:
            return self.job.start
        coarse = merged(self.coarse)
        assert isinstance(coarse, Sam)  # the settings see to it
        return coarse.requires_grad_(True)

    @property
    def begin_key(self) -> str:
        """Tell apart what `begin` may be."""
        if not self.job.settings.starts_from_coarse:
            return self.job.digests["start"]
        return self.coarse_stage.key

    @cached_property
    def fine_stage(self) -> Stage:
        """The weights of teacher and student, and their learning curve."""
        job = self.job

        def compute() -> Computed:
            teacher, student = self._untrained_pair()
            names = {"teacher": teacher, "student": student}
            keys = {name: list(one.trainable_state()) for name, one in names.items()}
            start = self._measure(teacher, student)
            stage = FineStage(
                teacher,
                student,
                job.settings,
                seed=job.seed_of("fine"),
                device=job.device,
            )
            report = stage.run(self.guides.labelled, on_epoch=self._after_epoch)
            tensors = {
                f"{name}.{key}": one.state_dict()[key]
                for name, one in names.items()
                for key in keys[name]
            }
            return tensors, {"start": start, "report": report.to_dict()}

        depends_on = {
            "start": self.begin_key,
            "labels": self.guides_stage.key,
            "settings": job.chosen(FINE),
            "seed": job.seed,
            # Of the curve alone: no weight depends on it.
            "truth": "" if job.target.test is None else job.target.test.digest(),
        }
        return self.files.get("fine", depends_on, compute)

    @cached_property
    def pair(self) -> tuple[Sam, Sam]:
        """Teacher and student after the fine stage, on the CPU in evaluation mode."""
        networks = self._untrained_pair()
        for name, network in zip(("teacher", "student"), networks, strict=True):
            start = f"{name}."
            own = {
                key.removeprefix(start): tensor
                for key, tensor in self.fine_stage.tensors.items()
                if key.startswith(start)
            }
            network.load_trainable_state(own)
            network.eval()
        return networks

    @property
    def _labeller(self) -> SegmentationNetwork:
        return self.coarse if self.job.labels_from == "coarse" else self.job.start

    def _untrained_pair(self) -> tuple[Sam, Sam]:
        job = self.job
        return prepare_pair(self.begin, job.settings, job.seed_of("pair"))

    def _predict(self, network: SegmentationNetwork, frames: FrameSet) -> Tensor:
        return predicted(self.job, network, frames)

    def _tell_step(self, step: int, steps: int, loss: float) -> None:
        self._tell(f"coarse stage, step {step} of {steps}")

    def _after_epoch(
        self, epoch: int, teacher: SegmentationNetwork, student: SegmentationNetwork
    ) -> Mapping[str, float]:
        self._tell(f"fine stage, epoch {epoch} of {self.job.settings.epochs}")
        return self._measure(teacher, student)

    def _measure(
        self, teacher: SegmentationNetwork, student: SegmentationNetwork
    ) -> dict[str, float]:
        """Return the IoU of both on test frames, nothing where there is no truth."""
        job, test = self.job, self.job.target.test
        if test is None or not has_truth(test, job.classes):
            return {}
        chosen = spread_over(torch.arange(len(test)), CURVE_FRAMES)
        frames, prompts = test.subset(chosen), self.guides_stage.tensors["test"][chosen]
        found = {}
        for name, network, kind in (
            ("student", student, "none"),
            ("teacher", teacher, "box"),
        ):
            masks = predicted(
                job, network, without_labels(frames), kind=kind, prompts=prompts
            )
            value = score_masks(masks, frames, job.settings.class_names).value("iou")
            if value is not None:
                found[name] = value
        return found
