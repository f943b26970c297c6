"""Every named loss where data is missing, empty, hidden, extreme or half precise."""

import math

import pytest
import torch
from torch import Tensor

from models.loss_recipes import BUILDERS, build_loss
from models.soft_skeleton import soft_skeleton

torch.set_num_threads(1)

NAMES = list(BUILDERS)
POOLED = [
    *((name, {}) for name in NAMES),
    ("fga-net", {"pooling": "entry", "dice_squared": True}),
    ("skeleton-recall", {"pooling": "batch", "shifted": False}),
    ("sim-to-real", {"focal_of_mean": True}),
]


def scene(size: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    """Random logits, two crossing wires and partly known labels, three images."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(3, 2, size, size, generator=generator)
    masks = torch.zeros(3, 2, size, size)
    masks[:, 0, 9:13] = 1
    masks[:, 1, :, 4:9] = 1
    annotated = torch.tensor([[True, True], [True, False], [False, True]])
    return logits, masks, annotated


def value_and_gradient(
    name: str, options: dict[str, object], logits: Tensor, *targets: Tensor | None
) -> tuple[Tensor, Tensor]:
    leaf = logits.detach().clone().requires_grad_()
    value = build_loss(name, **options)(leaf, *targets)
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


@pytest.mark.parametrize(("name", "options"), POOLED)
def test_hiding_part_of_the_frame_equals_cropping_it(
    name: str, options: dict[str, object]
) -> None:
    logits, masks, annotated = scene()
    valid = torch.zeros(3, 1, 24, 24, dtype=torch.bool)
    valid[..., 3:20, 2:22] = True
    hidden, gradient = value_and_gradient(
        name, options, logits, masks, annotated, valid
    )
    cropped, cropped_gradient = value_and_gradient(
        name, options, logits[..., 3:20, 2:22], masks[..., 3:20, 2:22], annotated
    )
    assert hidden.item() == pytest.approx(cropped.item(), rel=1e-5)
    torch.testing.assert_close(
        gradient[..., 3:20, 2:22], cropped_gradient, rtol=1e-4, atol=1e-8
    )
    assert (gradient[~valid.expand_as(gradient)] == 0).all()


@pytest.mark.parametrize(("name", "options"), POOLED)
def test_what_does_not_count_may_hold_anything(
    name: str, options: dict[str, object]
) -> None:
    logits, masks, annotated = scene()
    valid = torch.ones(3, 1, 24, 24, dtype=torch.bool)
    valid[0, :, :, 12:] = False
    expected, expected_gradient = value_and_gradient(
        name, options, logits, masks, annotated, valid
    )
    counts = (annotated[:, :, None, None] & valid).expand_as(logits)
    broken_masks = torch.where(counts, masks, -1.0)
    for junk in (1e30, float("inf"), float("nan")):
        broken = torch.where(counts, logits, junk)
        found, gradient = value_and_gradient(
            name, options, broken, broken_masks, annotated, valid
        )
        assert found.item() == expected.item()
        assert torch.equal(gradient, expected_gradient)
        assert (gradient[~counts] == 0).all()
        assert gradient[counts].abs().max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_frame_that_is_valid_everywhere_costs_what_it_costs_without_a_mask(
    name: str,
) -> None:
    logits, masks, annotated = scene()
    everywhere = torch.ones(3, 1, 24, 24, dtype=torch.bool)
    loss = build_loss(name)
    with_mask = loss(logits, masks, annotated, everywhere)
    assert with_mask.item() == pytest.approx(loss(logits, masks, annotated).item())


@pytest.mark.parametrize(("name", "options"), POOLED)
@pytest.mark.parametrize("missing", ["annotation", "valid pixels"])
def test_a_batch_without_knowledge_costs_zero_with_a_gradient_of_zeros(
    name: str, options: dict[str, object], missing: str
) -> None:
    logits, masks, annotated = scene()
    valid = None
    if missing == "annotation":
        annotated = torch.zeros_like(annotated)
    else:
        valid = torch.zeros(3, 1, 24, 24, dtype=torch.bool)
    value, gradient = value_and_gradient(name, options, logits, masks, annotated, valid)
    assert value.item() == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_an_image_without_a_valid_pixel_counts_as_not_annotated(name: str) -> None:
    logits, masks, annotated = scene()
    valid = torch.ones(3, 1, 24, 24, dtype=torch.bool)
    valid[0] = False
    loss = build_loss(name)
    found = loss(logits, masks, annotated, valid)
    rest = loss(logits[1:], masks[1:], annotated[1:])
    assert found.item() == pytest.approx(rest.item(), rel=1e-6)


@pytest.mark.parametrize(("name", "options"), POOLED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("extreme", [-100.0, 0.0, 100.0])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_empty_and_full_masks_stay_finite_at_any_logit_and_precision(
    name: str,
    options: dict[str, object],
    dtype: torch.dtype,
    extreme: float,
    label: float,
) -> None:
    logits = torch.full((2, 2, 16, 16), extreme, dtype=dtype)
    masks = torch.full((2, 2, 16, 16), label)
    known = torch.ones(2, 2, dtype=torch.bool)
    value, gradient = value_and_gradient(name, options, logits, masks, known)
    assert math.isfinite(value.item())
    assert gradient.dtype == dtype
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_sure_and_right_prediction_costs_nothing(name: str) -> None:
    _, masks, annotated = scene()
    for labels in (masks, torch.zeros_like(masks)):
        value = build_loss(name)(100.0 * (2 * labels - 1), labels, annotated)
        assert value.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_sure_and_wrong_prediction_costs_more_than_an_undecided_one(
    name: str,
) -> None:
    _, masks, annotated = scene()
    loss = build_loss(name)
    wrong = loss(-100.0 * (2 * masks - 1), masks, annotated)
    undecided = loss(torch.zeros_like(masks), masks, annotated)
    assert wrong.item() > undecided.item() > 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_cost_what_their_values_cost_in_float32(
    name: str, dtype: torch.dtype
) -> None:
    logits, masks, annotated = scene()
    halves = logits.to(dtype)
    found, gradient = value_and_gradient(name, {}, halves, masks, annotated)
    expected, exact = value_and_gradient(name, {}, halves.float(), masks, annotated)
    assert found.dtype == torch.float32
    assert found.item() == expected.item()
    # Below 1e-6 a gradient is no longer normal in fp16: hence the absolute part.
    torch.testing.assert_close(gradient.float(), exact, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_autocast_does_not_change_a_loss(name: str) -> None:
    logits, masks, annotated = scene()
    loss = build_loss(name)
    plain = loss(logits, masks, annotated)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(logits, masks, annotated)
    assert inside.dtype == torch.float32
    assert inside.item() == plain.item()


def test_a_wire_that_leaves_the_valid_region_keeps_its_skeleton_to_the_edge() -> None:
    wire = torch.zeros(1, 1, 16, 16)
    wire[:, :, 6:11] = 1
    valid = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    valid[..., :10] = True
    lines = soft_skeleton(wire, iterations=2, valid=valid)
    expected = torch.zeros(1, 1, 16, 16)
    expected[:, :, 8, :10] = 1
    assert torch.equal(lines, expected)


def test_a_valid_region_of_another_shape_is_refused() -> None:
    logits, masks, annotated = scene()
    with pytest.raises(ValueError, match=r"\(3, 1, 24, 24\), got \(3, 24, 24\)"):
        build_loss("bce")(logits, masks, annotated, torch.ones(3, 24, 24).bool())
