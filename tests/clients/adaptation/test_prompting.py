import pytest
import torch
from torch import Tensor

from clients.adaptation.prompting import (
    PROMPT_KINDS,
    prompts_from,
    segment,
    segment_masks,
)
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from models.network import SegmentationNetwork
from models.registry import build_model
from models.sam import Sam
from models.sam_prompts import Prompts
from strategies.randomness import generator_from

SIZE = 64
CPU = torch.device("cpu")


def wire(*corners: tuple[int, int, int, int], size: int = SIZE) -> Tensor:
    """Return masks (batch, size, size) of one rectangle each: top, left, bottom, right;
    both ends belong to it."""
    masks = torch.zeros(len(corners), size, size, dtype=torch.uint8)
    for mask, (top, left, bottom, right) in zip(masks, corners, strict=True):
        mask[top : bottom + 1, left : right + 1] = 1
    return masks


def draw(masks: Tensor, kind: str, seed: int = 0, **options: object) -> Prompts:
    prompts = prompts_from(masks, kind, generator=generator_from(seed), **options)
    assert prompts is not None
    return prompts


def positions(prompts: Prompts, label: int) -> list[list[tuple[int, int]]]:
    """Return row and column of every point of a label, frame by frame."""
    assert prompts.points is not None
    assert prompts.point_labels is not None
    return [
        [(int(y), int(x)) for x, y in points[labels == label].tolist()]
        for points, labels in zip(prompts.points, prompts.point_labels, strict=True)
    ]


@pytest.fixture(scope="module")
def sam() -> Sam:
    return build_model("sam-tiny", image_size=SIZE, seed=0)


@pytest.fixture
def frames() -> FrameSet:
    valid = torch.ones(3, 1, SIZE, SIZE, dtype=torch.bool)
    valid[1, :, :, :20] = False
    return FrameSet(
        images=torch.rand(3, 1, SIZE, SIZE, generator=generator_from(1)),
        masks=torch.zeros(3, 2, SIZE, SIZE, dtype=torch.uint8),
        annotated=torch.zeros(3, 2, dtype=torch.bool),
        sequences=torch.arange(3),
        valid=valid,
    )


@pytest.fixture
def guides() -> Tensor:
    return wire((5, 8, 9, 40), (30, 25, 33, 50), (10, 10, 60, 12))


def test_a_box_is_the_bounding_rectangle_left_top_right_bottom() -> None:
    prompts = draw(wire((5, 8, 9, 40), (0, 3, 63, 3)), "box")
    assert prompts.boxes is not None
    assert prompts.boxes.tolist() == [[8, 5, 40, 9], [3, 0, 3, 63]]
    assert prompts.points is None


def test_five_points_lie_inside_the_mask_and_five_outside(guides: Tensor) -> None:
    prompts = draw(guides, "points")
    assert prompts.boxes is None
    for mask, inside, outside in zip(
        guides, positions(prompts, 1), positions(prompts, 0), strict=True
    ):
        assert len(inside) == len(outside) == 5
        assert all(mask[place] == 1 for place in inside)
        assert all(mask[place] == 0 for place in outside)


def test_both_means_the_box_and_the_points(guides: Tensor) -> None:
    both = draw(guides, "points-box", seed=4)
    points, box = draw(guides, "points", seed=4), draw(guides, "box", seed=4)
    assert torch.equal(both.boxes, box.boxes)
    assert torch.equal(both.points, points.points)
    assert torch.equal(both.point_labels, points.point_labels)


def test_points_are_drawn_with_replacement() -> None:
    prompts = draw(wire((3, 9, 3, 9)), "points")
    assert positions(prompts, 1) == [[(3, 9)] * 5]


def test_points_are_uniform_over_the_mask() -> None:
    prompts = draw(wire((0, 0, 0, 3)), "points", positives=4000, negatives=0)
    assert positions(prompts, 0) == [[]]
    columns = torch.tensor([place[1] for place in positions(prompts, 1)[0]])
    counts = torch.bincount(columns, minlength=4)
    # 1000 each, standard deviation 27.4.
    assert ((counts - 1000).abs() < 110).all()


def test_an_empty_mask_gets_the_whole_image_and_negative_points_only() -> None:
    prompts = draw(torch.zeros(1, 32, 32), "points-box")
    assert prompts.boxes is not None
    assert prompts.boxes.tolist() == [[0, 0, 31, 31]]
    assert prompts.point_labels is not None
    assert prompts.point_labels.tolist() == [[-1] * 5 + [0] * 5]


def test_a_mask_of_everything_gets_positive_points_only() -> None:
    prompts = draw(torch.ones(1, 32, 32, dtype=torch.bool), "points")
    assert prompts.point_labels is not None
    assert prompts.point_labels.tolist() == [[1] * 5 + [-1] * 5]


def test_nothing_is_prompted_where_nobody_can_see() -> None:
    mask, valid = wire((4, 4, 4, 20)), torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
    valid[:, :, 10:14] = True
    prompts = draw(mask, "points-box", valid=valid, positives=50, negatives=50)
    assert prompts.boxes is not None
    assert prompts.boxes.tolist() == [[10, 4, 13, 4]]
    everywhere = positions(prompts, 1)[0] + positions(prompts, 0)[0]
    assert {column for _, column in everywhere} == {10, 11, 12, 13}


def test_the_points_of_a_frame_do_not_depend_on_the_frames_before(
    guides: Tensor,
) -> None:
    other = guides.clone()
    other[0], other[1] = 0, 1
    assert torch.equal(
        draw(guides, "points").points[2], draw(other, "points").points[2]
    )


def test_no_prompt_is_none_and_an_unknown_one_is_refused(guides: Tensor) -> None:
    assert prompts_from(guides, "none", generator=generator_from(0)) is None
    with pytest.raises(
        DataError, match="none, box, points, points-box, got 'scribble'"
    ):
        prompts_from(guides, "scribble", generator=generator_from(0))
    with pytest.raises(DataError, match="At least one point"):
        draw(guides, "points", positives=0, negatives=0)
    with pytest.raises(DataError, match=r"\(3, 64, 64\) and \(2, 64, 64\)"):
        draw(guides, "box", valid=torch.ones(2, SIZE, SIZE, dtype=torch.bool))


def test_without_a_prompt_the_network_answers_as_it_does_alone(
    sam: Sam, frames: FrameSet
) -> None:
    found = segment(sam, frames, batch_size=2, device=CPU, seed=0)
    with torch.no_grad():
        alone = sam.eval()(frames.images)
    torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-5)


def test_a_box_reaches_the_network_as_the_box_of_all_classes(
    sam: Sam, frames: FrameSet
) -> None:
    masks = torch.zeros(3, 2, SIZE, SIZE, dtype=torch.uint8)
    masks[:, 0, 30, 25:30] = 1
    masks[:, 1, 40:50, 60] = 1
    found = segment(
        sam,
        frames,
        kind="box",
        prompt_masks=masks,
        batch_size=3,
        device=CPU,
        seed=0,
    )
    boxes = torch.tensor([[25.0, 30.0, 60.0, 49.0]]).repeat(3, 1)
    with torch.no_grad():
        wanted = sam.eval().forward_with_features(frames.images, Prompts(boxes=boxes))
    assert torch.equal(found, wanted.logits)


@pytest.mark.parametrize("kind", PROMPT_KINDS)
def test_the_answer_depends_on_the_kind_and_not_on_the_batch(
    sam: Sam, frames: FrameSet, guides: Tensor, kind: str
) -> None:
    def found(kind: str, batch_size: int) -> Tensor:
        return segment(
            sam,
            frames,
            kind=kind,
            prompt_masks=guides,
            batch_size=batch_size,
            device=CPU,
            seed=3,
        )

    whole = found(kind, 3)
    assert whole.shape == (3, 2, SIZE, SIZE)
    torch.testing.assert_close(found(kind, 1), whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found(kind, 2), whole, atol=1e-5, rtol=1e-5)
    others = [found(other, 3) for other in PROMPT_KINDS if other != kind]
    assert all(not torch.allclose(whole, other, atol=1e-4) for other in others)


def test_the_seed_decides_the_points(
    sam: Sam, frames: FrameSet, guides: Tensor
) -> None:
    first, again, other = (
        segment(
            sam,
            frames,
            kind="points",
            prompt_masks=guides,
            batch_size=2,
            device=CPU,
            seed=seed,
        )
        for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("kind", PROMPT_KINDS)
def test_a_frame_without_any_mask_is_answered_too(
    sam: Sam, frames: FrameSet, kind: str
) -> None:
    found = segment(
        sam,
        frames,
        kind=kind,
        prompt_masks=torch.zeros(3, SIZE, SIZE),
        batch_size=2,
        device=CPU,
        seed=0,
    )
    assert found.isfinite().all()


def test_masks_are_above_the_threshold_and_empty_where_not_valid(
    sam: Sam, frames: FrameSet
) -> None:
    logits = segment(sam, frames, batch_size=2, device=CPU, seed=0)
    threshold = float(logits.median())
    found = segment_masks(
        sam, frames, threshold_logit=threshold, batch_size=2, device=CPU, seed=0
    )
    assert found.dtype == torch.uint8
    assert torch.equal(found.bool(), (logits > threshold) & frames.valid)
    assert not found[1, :, :, :20].any()
    assert found[0, :, :, :20].any()


def test_a_network_in_training_goes_on_training_as_before(
    sam: Sam, frames: FrameSet
) -> None:
    sam.train()
    sam.prompt_encoder.eval()
    before = [module.training for module in sam.modules()]
    segment(sam, frames, batch_size=3, device=CPU, seed=0)
    assert [module.training for module in sam.modules()] == before
    assert True in before
    assert False in before


def test_a_network_without_prompts_takes_none(frames: FrameSet, guides: Tensor) -> None:
    unet: SegmentationNetwork = build_model("unet", image_size=SIZE, seed=0)
    assert segment(unet, frames, batch_size=3, device=CPU, seed=0).shape[1] == 2
    with pytest.raises(DataError, match="Prompts need a SAM, got a"):
        segment(
            unet,
            frames,
            kind="box",
            prompt_masks=guides,
            batch_size=3,
            device=CPU,
            seed=0,
        )


@pytest.mark.parametrize("count", [None, 2])
def test_missing_prompt_masks_are_refused(
    sam: Sam, frames: FrameSet, guides: Tensor, count: int | None
) -> None:
    masks = None if count is None else guides[:count]
    with pytest.raises(DataError, match=r"Prompts of 3 frame\(s\) need masks"):
        segment(
            sam,
            frames,
            kind="box",
            prompt_masks=masks,
            batch_size=3,
            device=CPU,
            seed=0,
        )


def test_frames_of_another_size_are_refused(sam: Sam) -> None:
    frames = FrameSet(
        images=torch.zeros(1, 1, 32, 32),
        masks=torch.zeros(1, 2, 32, 32, dtype=torch.uint8),
        annotated=torch.zeros(1, 2, dtype=torch.bool),
        sequences=torch.zeros(1, dtype=torch.int64),
    )
    with pytest.raises(DataError, match=r"64 px were wanted.*got 32 px"):
        segment(sam, frames, batch_size=1, device=CPU, seed=0)
