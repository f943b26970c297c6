"""What teacher and student see of a batch: two views, the teacher's with a box.

Wen et al., arXiv 2410.07460: X is the weak view, A(X) the strong one, S the student
without a prompt, T the teacher with the box of the pseudo-label.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from clients.data.frames import FrameSet
from models.network import SegmentationNetwork, SegmentationOutput
from models.sam import Sam
from models.sam_prompts import Prompts, boxes_around


@dataclass(frozen=True)
class Labels:
    """Pseudo-labels of a batch, and where they count.

    Attributes:
        masks: (batch, classes, height, width), 0 or 1.
        annotated: (batch, classes), bool.
        valid: (batch, 1, height, width), bool.
    """

    masks: Tensor
    annotated: Tensor
    valid: Tensor

    @classmethod
    def of(cls, frames: FrameSet, device: torch.device | None = None) -> "Labels":
        """Take those of frames; None leaves them on the CPU."""
        tensors = (frames.masks, frames.annotated, frames.valid)
        return cls(*(one.to(device) for one in tensors))

    def devices(self) -> Tensor:
        """Return where any class is, (batch, height, width), bool."""
        counts = self.annotated[:, :, None, None] & self.valid
        return (self.masks.bool() & counts).any(dim=1)


@dataclass(frozen=True)
class Passes:
    """What both networks say about both views."""

    student_weak: SegmentationOutput  # S(X)
    student_strong: SegmentationOutput  # S(A(X))
    teacher_weak: SegmentationOutput  # T(X)
    teacher_strong: SegmentationOutput | None  # T(A(X)); None = no loss looks at it

    def needed_teacher_strong(self) -> SegmentationOutput:
        """Return T(A(X)).

        Raises:
            ValueError: If it was left out.
        """
        if self.teacher_strong is None:
            raise ValueError("This loss needs the teacher's pass over the strong view.")
        return self.teacher_strong


@dataclass(frozen=True)
class Pair:
    """A teacher and a student on one device."""

    teacher: SegmentationNetwork
    student: SegmentationNetwork

    def look(
        self,
        weak: Tensor,
        strong: Tensor,
        labels: Labels,
        *,
        is_warmup: bool,
        needs_teacher_strong: bool,
    ) -> Passes:
        """Pass both views through both networks.

        Args:
            weak: X, (batch, 1, size, size).
            strong: A(X), the same pixels in other grey values.
            labels: Of these views; the box goes around all their devices.
            is_warmup: Whether the teacher's passes carry gradients.
            needs_teacher_strong: Whether a loss looks at T(A(X)).

        Returns:
            Logits at input size and embeddings.
        """
        boxes = boxes_around(labels.devices())
        with torch.set_grad_enabled(is_warmup):
            if needs_teacher_strong:
                teacher_weak, teacher_strong = _pass_both(
                    self.teacher, weak, strong, boxes
                )
            else:
                teacher_weak, teacher_strong = _pass(self.teacher, weak, boxes), None
        student_weak, student_strong = _pass_both(self.student, weak, strong)
        return Passes(student_weak, student_strong, teacher_weak, teacher_strong)

    @contextmanager
    def in_phase(self, *, is_warmup: bool) -> Iterator[None]:
        """Set the modes of a phase; self-training freezes the teacher meanwhile.

        Args:
            is_warmup: Whether the teacher trains, too.
        """
        self.student.train()
        self.teacher.train(is_warmup)
        trained = [one for one in self.teacher.parameters() if one.requires_grad]
        try:
            for one in trained:
                one.requires_grad_(is_warmup)
            yield
        finally:
            for one in trained:
                one.requires_grad_(True)


def _pass(
    network: SegmentationNetwork, images: Tensor, boxes: Tensor | None = None
) -> SegmentationOutput:
    """Segment images; only a SAM knows prompts."""
    if isinstance(network, Sam) and boxes is not None:
        return network.forward_with_features(images, Prompts(boxes=boxes))
    return network.forward_with_features(images)


def _pass_both(
    network: SegmentationNetwork,
    weak: Tensor,
    strong: Tensor,
    boxes: Tensor | None = None,
) -> tuple[SegmentationOutput, SegmentationOutput]:
    """Segment two views that share their boxes."""
    if not isinstance(network, Sam):
        # Batch normalisation would mix the views.
        return _pass(network, weak, boxes), _pass(network, strong, boxes)
    # A SAM looks at every image on its own; together they take a quarter less time.
    twice = None if boxes is None else torch.cat([boxes, boxes])
    both = _pass(network, torch.cat([weak, strong]), twice)
    logits, features = both.logits.chunk(2), both.features.chunk(2)
    return (
        SegmentationOutput(logits[0], features[0]),
        SegmentationOutput(logits[1], features[1]),
    )
