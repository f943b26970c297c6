"""TRIBE: three networks and balanced statistics, adapting while they predict.

Su et al., "Towards Real-World Test-Time Adaptation: Tri-Net Self-Training with Balanced
Normalization", AAAI 2024. Only scales and shifts of batch normalisations train, in one
set for teacher and student; each of the three has its own balanced statistics
(`balanced_norm`). Per batch, with y the teacher's prediction before the step:

    L = CE(student(A(x)), y) + 1/2 MSE(teacher(x), anchor(x)),  where H(teacher(x)) is
        below 0.05 ln K; K = 2, background and device

and the output is the teacher's. arXiv 2410.07460 ran it on the coarse network without
the balanced statistics and with an anchor that gave no gradient; this is the published
method. A(x) is the strong view without geometry, since masks must stay in place.
"""

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from clients.adaptation.rivals.balanced_norm import (
    BalancedNorm2d,
    balance,
    make_plain,
)
from clients.adaptation.rivals.budget import (
    adapted_flags,
    generator_of,
    on_device,
    shuffled,
)
from clients.adaptation.rivals.tent import Adapted
from clients.data.augmentation import strong_view
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from models.network import SegmentationNetwork
from strategies.adaptation_settings import AdaptationSettings

NUM_CLASSES = 2  # background and device
ENTROPY_LIMIT = 0.05 * math.log(NUM_CLASSES)
ANCHOR_WEIGHT = 0.5


class Member(NamedTuple):
    """One of the three, and its normalisations."""

    network: SegmentationNetwork
    norms: list[BalancedNorm2d]

    def follow(self, images: Tensor, regions: Tensor) -> Tensor:
        """Predict, with statistics that follow the regions of the classes."""
        for norm in self.norms:
            norm.regions = regions
        logits: Tensor = self.network(images)
        return logits


class Trio(NamedTuple):
    """The three networks."""

    teacher: Member
    student: Member
    anchor: Member


def adapt_tribe(
    network: SegmentationNetwork,
    frames: FrameSet,
    settings: AdaptationSettings,
    *,
    seed: int,
    device: torch.device,
    learning_rate: float = 1e-3,
) -> Adapted:
    """See every frame once, in batches; predict, then adapt to the batch.

    Args:
        network: With batch normalisation; stays as it is.
        frames: To adapt to, of the network's size; their labels are not looked at.
        settings: Adapted classes, batch size and threshold.
        seed: Of order and strong views.
        device: Where to adapt.
        learning_rate: Of Adam, constant.

    Returns:
        The teacher after the last batch, on the device, as an ordinary network of the
        same architecture, and its logits from before the step of each batch.

    Raises:
        DataError: If the network has no batch normalisation with running statistics.
    """
    trio = build_trio(network, device)
    optimiser = torch.optim.Adam(
        [one for norm in trio.teacher.norms for one in norm.parameters()],
        lr=learning_rate,
        betas=(0.9, 0.999),
    )
    generator = generator_of(seed, "batches")
    logits = torch.empty(frames.masks.shape)
    for chosen in shuffled(len(frames), settings.batch_size, generator):
        weak = frames.subset(chosen)
        strong = on_device(strong_view(weak, generator=generator), device)
        found, loss = _see(trio, on_device(weak, device), strong.images, settings)
        logits[chosen] = found.float().cpu()
        if loss is not None:
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
    make_plain(trio.teacher.network)
    return Adapted(trio.teacher.network, logits)


def build_trio(network: SegmentationNetwork, device: torch.device) -> Trio:
    """Copy a network three times; teacher and student share their affines.

    Args:
        network: Stays as it is.
        device: Of the copies.

    Returns:
        The three, of which only the shared affines train.

    Raises:
        DataError: If the network has no batch normalisation with running statistics.
    """
    members = []
    for _ in range(3):
        one = copy.deepcopy(network).to(device).eval().requires_grad_(False)
        members.append(Member(one, balance(one, num_classes=NUM_CLASSES)))
    trio = Trio(*members)
    if not trio.teacher.norms:
        raise DataError(
            "TRIBE needs a network with batch normalisation and running statistics, "
            "got one without. Use the coarse network 'prompt-layers', or TENT with "
            "norms 'layer'."
        )
    for ours, theirs in zip(trio.teacher.norms, trio.student.norms, strict=True):
        theirs.weight, theirs.bias = ours.weight, ours.bias
    for norm in trio.anchor.norms:
        norm.requires_grad_(False)
    return trio


def tribe_loss(
    student: Tensor, teacher: Tensor, anchor: Tensor, labels: Tensor, counts: Tensor
) -> Tensor | None:
    """Compute the loss of the module's first lines.

    Args:
        student: Logits (batch, classes, height, width) of the strong view.
        teacher: Logits of the frames.
        anchor: Logits of the frames.
        labels: bool, the same shape, what the teacher said before.
        counts: bool, the same shape, pixels of adapted classes that are valid.

    Returns:
        A scalar; None when the teacher is sure of nothing.
    """
    said = teacher.detach()
    entropy = functional.binary_cross_entropy_with_logits(
        said, said.sigmoid(), reduction="none"
    )
    sure = counts & (entropy < ENTROPY_LIMIT)
    if not bool(sure.any()):
        return None
    learning = functional.binary_cross_entropy_with_logits(
        student[sure], labels[sure].float()
    )
    holding = functional.mse_loss(teacher[sure], anchor[sure])
    return learning + ANCHOR_WEIGHT * holding


def regions_of(labels: Tensor, counts: Tensor) -> Tensor:
    """Divide frames into background and device.

    Args:
        labels: bool (batch, classes, height, width).
        counts: bool, the same shape, pixels of adapted classes that are valid.

    Returns:
        bool (batch, 2, height, width), background first; pixels that do not count for
        any class are in neither.
    """
    device = (labels & counts).any(dim=1)
    return torch.stack([counts.any(dim=1) & ~device, device], dim=1)


def _see(
    trio: Trio, batch: FrameSet, strong: Tensor, settings: AdaptationSettings
) -> tuple[Tensor, Tensor | None]:
    """Return the teacher's logits and what to descend on."""
    with torch.no_grad():
        found = trio.teacher.network(batch.images)
    flags = adapted_flags(settings, len(batch)).to(found.device)
    counts = flags[:, :, None, None] & batch.valid
    labels = found > settings.logit_threshold
    regions = regions_of(labels, counts)
    teacher = trio.teacher.follow(batch.images, regions)
    student = trio.student.follow(strong, regions)
    with torch.no_grad():
        anchor = trio.anchor.follow(batch.images, regions)
    return found, tribe_loss(student, teacher, anchor, labels, counts)
