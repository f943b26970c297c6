import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from clients.adaptation.rivals import cpc_sam
from clients.adaptation.rivals.budget import RampedSteps
from clients.adaptation.rivals.cpc_sam import (
    Halves,
    adapt_cpc_sam,
    build_branches,
    cross_prompt_loss,
    pseudo_label,
    unprompted_loss,
)
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from models.sam import Sam
from models.sam_prompts import Prompts
from strategies.adaptation_settings import AdaptationSettings

CPU = torch.device("cpu")
Frames = Callable[..., FrameSet]
Settings = Callable[..., AdaptationSettings]


class FakeBranch:
    """Answers with given logits and remembers how it was asked."""

    def __init__(self, *answers: Tensor) -> None:
        self.answers = [one.clone().requires_grad_() for one in answers]
        self.asked: list[Prompts | None] = []

    def encode(self, images: Tensor) -> Tensor:
        return images

    def decode(self, _: Tensor, __: Tensor, prompts: Prompts | None) -> Tensor:
        self.asked.append(prompts)
        return self.answers[len(self.asked) - 1]


def one_frame(masks: Tensor) -> FrameSet:
    """A 2 x 2 frame of one class."""
    return FrameSet(
        images=torch.zeros(1, 1, 2, 2),
        masks=masks.view(1, 1, 2, 2).to(torch.uint8),
        annotated=torch.ones(1, 1, dtype=torch.bool),
        sequences=torch.zeros(1, dtype=torch.int64),
    )


def halves() -> Halves:
    """A labelled frame with its first pixel a device, then an unlabelled one."""
    parts = (one_frame(torch.tensor([1, 0, 0, 0])), one_frame(torch.zeros(4)))
    return Halves(
        torch.cat([part.images for part in parts]),
        torch.cat([part.valid for part in parts]),
        *parts,
    )


def logits(*values: float) -> Tensor:
    """Of both frames, four pixels each."""
    return torch.tensor(values).view(2, 1, 2, 2)


def mixture(values: Tensor, label: list[int], entropy: float, dice: float) -> float:
    """Cross-entropy and Dice with weights, pixel by pixel in plain numbers."""
    pairs = list(zip(values.flatten().tolist(), label, strict=True))
    losses = [math.log(1 + math.exp(-z if one else z)) for z, one in pairs]
    shares = [1 / (1 + math.exp(-z)) for z, _ in pairs]
    overlap = sum(p for p, (_, one) in zip(shares, pairs, strict=True) if one)
    ratio = (2 * overlap + 1) / (sum(shares) + sum(label) + 1)
    return entropy * sum(losses) / 4 + dice * (1 - ratio)


FIRST = logits(2.0, -1.0, 0.5, -2.0, 3.0, -1.0, 1.0, -2.0)
AGAIN = logits(1.0, -2.0, -0.5, -1.0, 1.0, 2.0, -3.0, -1.0)
PLAIN = logits(-1.0, 4.0, -1.0, -1.0, -2.0, -2.0, 5.0, 0.5)
PSEUDO = [1, 1, 0, 0]  # sigmoid sums above 1: z1 + z2 > 0


def test_the_prompted_branch_teaches_the_other_one_by_hand() -> None:
    prompted, plain = FakeBranch(FIRST, AGAIN), FakeBranch(PLAIN)
    loss = cross_prompt_loss(
        prompted,
        plain,
        halves(),
        threshold=0.0,
        points=3,
        generator=torch.Generator().manual_seed(0),
    )
    expected = (
        mixture(FIRST[0], [1, 0, 0, 0], 0.2, 0.8)
        + mixture(AGAIN[0], [1, 0, 0, 0], 0.2, 0.8)
        + 0.4 * mixture(PLAIN[1], PSEUDO, 0.5, 0.5)
        + 0.05 * mixture(AGAIN[1], PSEUDO, 0.5, 0.5)
    )
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    first, again = (one.grad.flatten(1) for one in prompted.answers)
    assert bool((first[0] != 0).all()) and not bool(first[1].any())
    assert bool((again != 0).all())
    learnt = plain.answers[0].grad.flatten(1)
    assert not bool(learnt[0].any()) and bool((learnt[1] != 0).all())


def test_points_come_from_the_branch_without_prompts() -> None:
    prompted, plain = FakeBranch(FIRST, AGAIN), FakeBranch(PLAIN)
    cross_prompt_loss(
        prompted,
        plain,
        halves(),
        threshold=0.0,
        points=6,
        generator=torch.Generator().manual_seed(0),
    )
    assert plain.asked == [None]
    assert len(prompted.asked) == 2
    for given in prompted.asked:
        assert given is not None and given.boxes is None
        assert given.point_labels.tolist() == [[1] * 6 + [0] * 6] * 2
        inside = given.points[:, :6].tolist()
        # Above 0 are the pixels (1, 0) of the first and (0, 1), (1, 1) of the second.
        assert all(point == [1, 0] for point in inside[0])
        assert all(point in ([0, 1], [1, 1]) for point in inside[1])
    one, other = (given.points for given in prompted.asked)
    assert not torch.equal(one, other)


def test_a_mean_probability_above_the_threshold_is_a_device() -> None:
    first, again = torch.tensor([3.0, -3.0, 0.0]), torch.tensor([-2.0, 2.0, 0.0])
    assert pseudo_label(first, again, 0.0).tolist() == [1, 0, 0]
    # 0.537 on average; the logit 0.5 is a probability of 0.622.
    assert pseudo_label(first, again, 0.5).tolist() == [0, 0, 0]


def test_branches_share_their_encoder_and_have_their_own_decoders(
    tiny_sam: Sam, line_frames: Frames, adapt_settings: Settings
) -> None:
    first, second = build_branches(tiny_sam, adapt_settings(), seed=0)
    assert first.image_encoder is second.image_encoder
    assert first.prompt_encoder is second.prompt_encoder
    assert first.mask_decoder is not second.mask_decoder
    images = line_frames(2).images
    with torch.no_grad():
        torch.testing.assert_close(first(images), tiny_sam(images))
        assert not torch.allclose(second(images), first(images))
    trained = {name for name, one in first.named_parameters() if one.requires_grad}
    assert "prompt_encoder.point_embeddings.1.weight" in trained
    assert all("lora_" in name for name in trained if name.startswith("image_encoder."))


def test_the_roles_swap_and_three_steps_follow_the_switch(
    tiny_sam: Sam,
    line_frames: Frames,
    adapt_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    roles: list[str] = []
    built = build_branches(tiny_sam, adapt_settings(), seed=0)
    names = {id(built.first): "first", id(built.second): "second"}
    monkeypatch.setattr(cpc_sam, "build_branches", lambda *_, **__: built)

    def unprompted(*_: object) -> Tensor:
        roles.append("both")
        return built.first.logit_bias.sum()

    def prompted(one: Sam, other: Sam, *_: object, **__: object) -> Tensor:
        roles.append(f"{names[id(one)]} from {names[id(other)]}")
        return built.first.logit_bias.sum()

    monkeypatch.setattr(cpc_sam, "unprompted_loss", unprompted)
    monkeypatch.setattr(cpc_sam, "cross_prompt_loss", prompted)
    settings = adapt_settings(epochs=2)
    frames = line_frames(3)  # two batches an epoch, four iterations
    adapt_cpc_sam(
        tiny_sam, frames, line_frames(2), settings, seed=0, device=CPU, switch=0.5
    )
    cycle = ["both", "first from second", "second from first"]
    assert roles == ["both", "both", *cycle, *cycle]


def test_it_adapts_a_copy_without_looking_at_the_targets_labels(
    tiny_sam: Sam,
    line_frames: Frames,
    adapt_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = {name: one.clone() for name, one in tiny_sam.state_dict().items()}
    frames, source = line_frames(3), line_frames(4, seed=1)
    steps: list[float] = []
    descend = RampedSteps.descend
    monkeypatch.setattr(
        RampedSteps,
        "descend",
        lambda self, loss: (steps.append(loss.item()), descend(self, loss)),
    )
    settings = adapt_settings(epochs=1)
    unknown = replace(
        frames,
        masks=torch.zeros_like(frames.masks),
        annotated=torch.zeros_like(frames.annotated),
    )
    one, again, other = (
        adapt_cpc_sam(
            tiny_sam, given, labels, settings, seed=0, device=CPU
        ).state_dict()
        for given, labels in (
            (frames, source),
            (unknown, source),
            (frames, replace(source, masks=source.masks.flip(-1))),
        )
    )
    assert len(steps) == 3 * (1 + 3)  # two iterations, the first before the switch
    assert all(torch.equal(again[name], part) for name, part in one.items())
    assert not all(torch.equal(other[name], part) for name, part in one.items())
    after = tiny_sam.state_dict()
    assert all(torch.equal(after[name], part) for name, part in before.items())


def test_the_first_step_is_the_labelled_loss_of_both(
    tiny_sam: Sam, line_frames: Frames, adapt_settings: Settings
) -> None:
    branches = build_branches(tiny_sam, adapt_settings(), seed=0)
    source = line_frames(2)
    given = Halves(source.images, source.valid, source, source)
    found = unprompted_loss(branches, given)
    found.backward()
    assert all(
        branch.mask_decoder.mask_tokens.weight.grad is not None for branch in branches
    )
    with torch.no_grad():
        wanted = sum(
            cpc_sam.SUPERVISED(one(source.images), source.masks, source.annotated)
            for one in branches
        )
    assert found.item() == pytest.approx(float(wanted), rel=1e-5)


def test_numbers_out_of_range_and_a_source_without_labels_are_refused(
    tiny_sam: Sam, line_frames: Frames, adapt_settings: Settings
) -> None:
    frames, settings = line_frames(2), adapt_settings()

    def adapt(source: FrameSet = frames, **numbers: float) -> Sam:
        return adapt_cpc_sam(
            tiny_sam, frames, source, settings, seed=0, device=CPU, **numbers
        )

    with pytest.raises(DataError, match=r"got 1\.5 and 1"):
        adapt(switch=1.5)
    with pytest.raises(DataError, match=r"at least one point, got .* and 0"):
        adapt(points=0)
    unknown = replace(
        frames,
        masks=torch.zeros_like(frames.masks),
        annotated=torch.zeros_like(frames.annotated),
    )
    with pytest.raises(DataError, match="labels of catheter, guidewire are wanted"):
        adapt(unknown)
