import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from clients.adaptation.rivals import wesam
from clients.adaptation.rivals.wesam import (
    Anchor,
    Seen,
    adapt_wesam,
    contrast,
    look,
    overlap,
    wesam_loss,
)
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from models.sam import Sam
from models.sam_prompts import Prompts
from strategies.adaptation_settings import AdaptationSettings

CPU = torch.device("cpu")
Frames = Callable[..., FrameSet]
Settings = Callable[..., AdaptationSettings]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def one_frame() -> FrameSet:
    return FrameSet(
        images=torch.zeros(1, 1, 4, 4),
        masks=torch.zeros(1, 2, 4, 4, dtype=torch.uint8),
        annotated=torch.tensor([[True, False]]),
        sequences=torch.zeros(1, dtype=torch.int64),
    )


def seen(size_of_logit: float, predicted: float = 0.0) -> Seen:
    """Sure of the left column; the second class is not annotated."""
    logits = torch.full((1, 2, 4, 4), -size_of_logit)
    logits[..., 0] = size_of_logit
    return Seen(
        logits.requires_grad_(),
        torch.ones(1, 3, 2, 2),
        torch.full((1, 2), predicted),
    )


def top_row() -> Anchor:
    masks = torch.zeros(1, 2, 4, 4)
    masks[:, :, 0] = 1
    return Anchor(masks, torch.ones(1, 3, 2, 2))


def dice_of(size_of_logit: float, inside: int) -> float:
    """Of a sure left column and four pixels, of which some are in that column."""
    high, low = sigmoid(size_of_logit), sigmoid(-size_of_logit)
    shared = inside * high + (4 - inside) * low
    return 1 - (2 * shared + 1) / (4 * high + 12 * low + 4 + 1)


def test_the_loss_is_the_published_sum_by_hand() -> None:
    student = seen(1.0, predicted=0.3)
    rows = student._replace(logits=student.logits.transpose(-1, -2))  # the top row
    loss = wesam_loss(rows, seen(2.0), top_row(), one_frame(), threshold=0.0)
    # Row and column share a pixel: six pixels are wrong and ten are right.
    entropy = (6 * math.log(1 + math.e) + 10 * math.log(1 + 1 / math.e)) / 16
    focal = 0.8 * (1 - math.exp(-entropy)) ** 2 * entropy
    expected = (
        20 * focal
        + dice_of(1.0, inside=1)
        + (1 / 7 - 0.3) ** 2
        + 0.5 * dice_of(1.0, inside=4)
        + 0.5 * dice_of(2.0, inside=1)
        + 0.0  # one device contrasts with nothing
    )
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_predicted_overlap_can_be_left_out() -> None:
    whole, without = (
        wesam_loss(
            seen(1.0, predicted=0.3),
            seen(2.0),
            top_row(),
            one_frame(),
            threshold=0.0,
            iou_weight=weight,
        )
        for weight in (1.0, 0.0)
    )
    assert (whole - without).item() == pytest.approx(0.49, abs=1e-5)


def test_the_teacher_learns_from_the_anchor_alone() -> None:
    teacher, student = seen(2.0), seen(1.0)
    wesam_loss(student, teacher, top_row(), one_frame(), threshold=0.0).backward()
    assert teacher.logits.grad is not None
    logits = seen(2.0).logits
    high = logits.sigmoid()[0, 0]
    label = top_row().masks[0, 0]
    (1 - (2 * (high * label).sum() + 1) / (high.sum() + 4 + 1)).div(2).backward()
    torch.testing.assert_close(teacher.logits.grad, logits.grad)
    assert not bool(teacher.logits.grad[:, 1].any())  # nobody annotated it


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_two_unlike_devices_contrast_as_the_formula_says(temperature: float) -> None:
    features = torch.zeros(2, 3, 2, 2)
    features[0, 0], features[1, 1] = 5.0, 0.2  # cosines know no length
    masks = torch.zeros(2, 2, 4, 4)
    masks[:, 0, 0, 0] = 1
    loss = contrast(features, features.clone(), masks, temperature=temperature)
    same, other = math.exp(1 / temperature), 1.0
    expected = -math.log(2 * same / (2 * same + 2 * other))
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    swapped = contrast(features, features.flip(0), masks, temperature=temperature)
    assert swapped.item() > loss.item()


def test_a_prototype_looks_only_where_its_device_is() -> None:
    features = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 1, 4, 4)
    masks[:, 0, 3, 3] = 1  # the last cell
    changed = features.clone()
    changed[:, :, 0] = 9.0
    assert torch.equal(
        contrast(features, features, masks), contrast(changed, features, masks)
    )
    nothing = contrast(features.requires_grad_(), features, torch.zeros(2, 1, 4, 4))
    assert nothing.item() == 0.0 and nothing.requires_grad


def test_overlap_counts_valid_pixels_and_two_empty_masks_agree() -> None:
    masks = torch.zeros(1, 2, 2, 2, dtype=torch.bool)
    others = masks.clone()
    masks[0, 0] = torch.tensor([[True, True], [False, True]])
    others[0, 0] = torch.tensor([[True, False], [True, True]])
    valid = torch.tensor([[True, True], [True, False]]).view(1, 1, 2, 2)
    assert overlap(masks, others, valid).tolist() == [[pytest.approx(1 / 3), 1.0]]


@pytest.mark.parametrize("with_box", [False, True])
def test_the_predicted_overlap_is_the_one_of_the_original_decoder(
    tiny_sam: Sam, line_frames: Frames, with_box: bool
) -> None:
    images = line_frames(2).images
    boxes = torch.tensor([[2.0, 3.0, 20.0, 25.0], [5.0, 1.0, 30.0, 9.0]])
    with torch.no_grad():
        found = look(tiny_sam, images, Prompts(boxes=boxes) if with_box else None)
        for index in range(2):
            box = boxes[index : index + 1] if with_box else None
            sparse, dense = tiny_sam.prompt_encoder(points=None, boxes=box, masks=None)
            _, predicted = tiny_sam.mask_decoder(
                image_embeddings=found.features[index : index + 1],
                image_pe=tiny_sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=True,
            )
            torch.testing.assert_close(
                found.predicted_iou[index], predicted[0], atol=1e-4, rtol=1e-4
            )


def changed_names(sam: Sam, other: Sam) -> set[str]:
    state = other.state_dict()
    return {
        name
        for name, one in sam.state_dict().items()
        if not torch.equal(one, state[name])
    }


def test_only_adapters_adapt_and_the_argument_stays(
    tiny_sam: Sam, line_frames: Frames, adapt_settings: Settings
) -> None:
    before = {name: one.clone() for name, one in tiny_sam.state_dict().items()}
    frames, settings = line_frames(3), adapt_settings(epochs=1)
    one, again, other = (
        adapt_wesam(tiny_sam, frames, settings, seed=seed, device=CPU)
        for seed in (0, 0, 1)
    )
    trained = {name for name, part in one.named_parameters() if part.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    assert not changed_names(one, again)
    assert changed_names(one, other) == trained
    after = tiny_sam.state_dict()
    assert all(torch.equal(after[name], part) for name, part in before.items())


def test_prompts_and_anchor_make_a_difference(
    tiny_sam: Sam, line_frames: Frames, adapt_settings: Settings
) -> None:
    frames, settings = line_frames(2), adapt_settings(epochs=1)

    def adapt(given: FrameSet = frames, **choice: str) -> Sam:
        return adapt_wesam(tiny_sam, given, settings, seed=0, device=CPU, **choice)

    published = adapt()
    assert changed_names(published, adapt(prompts="box"))
    assert changed_names(adapt(prompts="points"), adapt(prompts="box"))
    assert changed_names(published, adapt(anchor="sam"))
    moved = replace(frames, masks=frames.masks.flip(-1))
    assert changed_names(published, adapt(moved))


def test_all_three_see_the_prompts_and_only_the_student_the_strong_view(
    tiny_sam: Sam,
    line_frames: Frames,
    adapt_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[Tensor, Prompts | None]] = []

    def watched(sam: Sam, images: Tensor, prompts: Prompts | None) -> Seen:
        asked.append((images, prompts))
        return look(sam, images, prompts)

    monkeypatch.setattr(wesam, "look", watched)
    adapt_wesam(
        tiny_sam,
        line_frames(2),
        adapt_settings(epochs=1),
        seed=0,
        device=CPU,
        prompts="box",
        anchor="sam",
    )
    (anchor, first), (teacher, second), (student, third) = asked
    assert torch.equal(anchor, teacher) and not torch.equal(student, teacher)
    for given in (first, second, third):
        assert given is not None and given.boxes is not None


def test_unknown_choices_are_refused(
    tiny_sam: Sam, line_frames: Frames, adapt_settings: Settings
) -> None:
    frames, settings = line_frames(2), adapt_settings()
    with pytest.raises(DataError, match=r"prompts must be one of none.* got 'text'"):
        adapt_wesam(tiny_sam, frames, settings, seed=0, device=CPU, prompts="text")
    with pytest.raises(DataError, match=r"anchor must be one of .* got 'me'"):
        adapt_wesam(tiny_sam, frames, settings, seed=0, device=CPU, anchor="me")


def test_a_class_without_labels_has_no_say(
    tiny_sam: Sam, line_frames: Frames, adapt_settings: Settings
) -> None:
    frames, settings = line_frames(2), adapt_settings(epochs=1, classes="guidewire")

    def with_catheter(masks: Tensor) -> FrameSet:
        every = frames.masks.clone()
        every[:, 0] = masks
        return replace(frames, masks=every)

    one, other = (
        adapt_wesam(tiny_sam, with_catheter(masks), settings, seed=0, device=CPU)
        for masks in (torch.zeros(32, 32), torch.ones(32, 32))
    )
    assert not changed_names(one, other)
