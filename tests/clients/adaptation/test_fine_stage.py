import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from clients.adaptation.fine_descent import Descent
from clients.adaptation.fine_report import SELF_TRAINING, WARMUP
from clients.adaptation.fine_stage import FineStage, prepare_pair
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from clients.optimisation import TrainingError
from models.network import SegmentationNetwork, SegmentationOutput
from models.registry import build_model
from models.sam import Sam
from models.sam_prompts import Prompts, boxes_around
from strategies.adaptation_settings import AdaptationSettings
from strategies.settings import RunSettings, SettingValue

SIZE = 32
CPU = torch.device("cpu")
State = dict[str, Tensor]


class Plain(SegmentationNetwork):
    """A network that is no SAM and has batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.image_size, self.num_classes = SIZE, 2
        self.encoder = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(4, 2, 1)

    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        features = self.encoder(images)
        return SegmentationOutput(self.head(features), features)


@pytest.fixture
def settings(run_config: dict[str, SettingValue]) -> AdaptationSettings:
    adapt = RunSettings.from_run_config(run_config).adapt
    return replace(
        adapt, training="full", epochs=3, warmup_epochs=1, ramp_steps=0, batch_size=2
    )


@pytest.fixture(scope="module")
def sam() -> Sam:
    return build_model("sam-tiny", image_size=SIZE, seed=0)


@pytest.fixture(scope="module")
def frames() -> FrameSet:
    """Return four frames with a bright guidewire each, as its pseudo-label says."""
    masks = torch.zeros(4, 2, SIZE, SIZE, dtype=torch.uint8)
    for index in range(4):
        masks[index, 1, 2 : 12 + index, 3 + 2 * index] = 1
    generator = torch.Generator().manual_seed(0)
    grey = 0.4 * torch.rand(4, 1, SIZE, SIZE, generator=generator)
    return FrameSet(
        images=torch.where(masks[:, 1:].bool(), 0.9, grey),
        masks=masks,
        annotated=torch.tensor([[False, True]]).repeat(4, 1),
        sequences=torch.arange(4),
    )


def state_of(network: nn.Module) -> State:
    return {name: one.clone() for name, one in network.state_dict().items()}


def same(first: State, second: State) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def stage_of(
    pair: tuple[SegmentationNetwork, SegmentationNetwork],
    settings: AdaptationSettings,
    seed: int = 0,
) -> FineStage:
    return FineStage(*pair, settings, seed=seed, device=CPU)


def plain_pair() -> tuple[Plain, Plain]:
    torch.manual_seed(0)
    network = Plain()
    return network, copy.deepcopy(network)


# -------------------------------------------------------------------- pair ----


def test_teacher_and_student_are_two_and_only_their_own_adapters_train(
    sam: Sam, settings: AdaptationSettings
) -> None:
    before = state_of(sam)
    images = torch.rand(1, 1, SIZE, SIZE)
    settings = replace(settings, training="lora", lora_rank=4)
    teacher, student = prepare_pair(sam, settings, seed=3)
    again, _ = prepare_pair(sam, settings, seed=3)
    assert same(before, state_of(sam))
    for network in (teacher, student):
        trained = {n: p for n, p in network.named_parameters() if p.requires_grad}
        assert all(".q.lora_" in name or ".v.lora_" in name for name in trained)
        # Blocks, q and v, A and B: rank times width each.
        assert sum(p.numel() for p in trained.values()) == 5 * 2 * 2 * 4 * 192
        with torch.no_grad():
            torch.testing.assert_close(network(images), sam(images))
    first, second = state_of(teacher), state_of(student)
    assert same(first, state_of(again))
    differing = {name for name in first if not torch.equal(first[name], second[name])}
    assert differing
    assert all("lora_A" in name for name in differing)
    shared = {p.data_ptr() for p in teacher.parameters()} & {
        p.data_ptr() for p in student.parameters()
    }
    assert not shared


def test_adapters_of_a_trained_sam_are_merged_and_new_ones_begin(
    sam: Sam, settings: AdaptationSettings
) -> None:
    settings = replace(settings, training="lora")
    adapted, _ = prepare_pair(sam, settings, seed=1)
    with torch.no_grad():
        for one in adapted.parameters():
            if one.requires_grad:
                one.add_(0.05)
    images = torch.rand(1, 1, SIZE, SIZE)
    _, student = prepare_pair(adapted, settings, seed=2)
    with torch.no_grad():
        torch.testing.assert_close(
            student(images), adapted(images), atol=1e-4, rtol=1e-4
        )
    trained = [one for one in student.parameters() if one.requires_grad]
    assert sum(one.numel() for one in trained) == 5 * 2 * 2 * 4 * 192


def test_making_a_pair_leaves_the_randomness_of_torch_alone(
    sam: Sam, settings: AdaptationSettings
) -> None:
    before = torch.random.get_rng_state()
    prepare_pair(sam, replace(settings, training="lora"), seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_frozen_sam_cannot_train_in_full(
    sam: Sam, settings: AdaptationSettings
) -> None:
    frozen = copy.deepcopy(sam).requires_grad_(False)
    with pytest.raises(DataError, match=r"'full' needs a SAM whose own weights"):
        prepare_pair(frozen, settings, seed=0)
    with pytest.raises(DataError, match="with some that train"):
        stage_of((copy.deepcopy(sam), frozen), settings)
    with pytest.raises(DataError, match="a teacher and a student of their own"):
        stage_of((sam, sam), settings)


# ------------------------------------------------------------------ phases ----


def test_the_teacher_trains_in_the_warm_up_and_is_bit_identical_afterwards(
    sam: Sam, frames: FrameSet, settings: AdaptationSettings
) -> None:
    teacher, student = prepare_pair(sam, settings, seed=0)
    states = [(state_of(teacher), state_of(student))]

    def look(epoch: int, one: nn.Module, other: nn.Module) -> dict[str, float]:
        assert (one, other) == (teacher, student)
        states.append((state_of(one), state_of(other)))
        other.eval()  # an evaluation must not disturb what follows
        return {"epochs-done": float(epoch)}

    report = stage_of((teacher, student), settings).run(frames, on_epoch=look)
    teachers, students = zip(*states, strict=True)
    assert [same(a, b) for a, b in pairwise(teachers)] == [False, True, True]
    assert not any(same(a, b) for a, b in pairwise(students))
    assert same(teachers[-1], state_of(teacher))
    assert report.curve("epochs-done") == [1, 2, 3]
    assert [one.phase for one in report.epochs] == [WARMUP] + 2 * [SELF_TRAINING]


def test_batch_statistics_of_a_frozen_teacher_stay_too(
    frames: FrameSet, settings: AdaptationSettings
) -> None:
    teacher, student = plain_pair()
    before = state_of(teacher), state_of(student)
    settings = replace(settings, warmup_epochs=0)
    stage_of((teacher, student), settings).run(frames)
    assert same(before[0], state_of(teacher))
    assert not torch.equal(
        before[1]["encoder.1.running_mean"], student.encoder[1].running_mean
    )
    # What travels of a teacher is what may train: freezing it is not for ever.
    assert all(one.requires_grad for one in teacher.parameters())


def test_only_the_terms_of_the_phase_are_computed(
    frames: FrameSet, settings: AdaptationSettings
) -> None:
    report = stage_of(plain_pair(), settings).run(frames)
    warmup, *later = report.epochs
    assert warmup.losses.keys() == {"pseudo_label", "embedding", "prediction", "total"}
    expected = (
        warmup.losses["pseudo_label"]
        + 0.5 * warmup.losses["embedding"]
        + warmup.losses["prediction"]
    )
    assert warmup.losses["total"] == pytest.approx(expected, rel=1e-5)
    for one in later:
        assert one.losses.keys() == {"consistency", "embedding", "total"}
        expected = 5 * one.losses["consistency"] + one.losses["embedding"]
        assert one.losses["total"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("warmup_weights", "weights", "epochs", "message"),
    [
        ("0, 0, 0, 0", "5, 0, 1, 0", 1, "adapt.warmup-weights are all 0"),
        ("0, 1, 0, 0", "0, 0, 0, 1", 1, "got '0, 0, 0, 1'"),
    ],
)
def test_a_phase_in_which_nothing_would_train_is_refused(
    settings: AdaptationSettings,
    warmup_weights: str,
    weights: str,
    epochs: int,
    message: str,
) -> None:
    bad = replace(settings, warmup_weights=warmup_weights, weights=weights)
    with pytest.raises(DataError, match=message):
        stage_of(plain_pair(), bad)
    # Weights of a phase without epochs do not matter.
    unused = 0 if "all 0" in message else bad.epochs
    stage_of(plain_pair(), replace(bad, warmup_epochs=unused))


# ----------------------------------------------------------------- prompts ----

Call = tuple[nn.Module, Tensor, Prompts | None]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Record what SAMs are asked."""
    seen: list[Call] = []
    original: Callable[..., SegmentationOutput] = Sam.forward_with_features

    def record(
        self: Sam, images: Tensor, prompts: Prompts | None = None
    ) -> SegmentationOutput:
        seen.append((self, images, prompts))
        return original(self, images, prompts)

    monkeypatch.setattr(Sam, "forward_with_features", record)
    return seen


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_defect_3_the_teacher_gets_a_box_per_image_and_the_student_nothing(
    sam: Sam,
    frames: FrameSet,
    settings: AdaptationSettings,
    calls: list[Call],
    batch: int,
) -> None:
    teacher, student = prepare_pair(sam, settings, seed=0)
    settings = replace(settings, batch_size=batch, epochs=2)
    stage_of((teacher, student), settings).run(frames)
    of_student = [prompts for network, _, prompts in calls if network is student]
    of_teacher = [one for one in calls if one[0] is teacher]
    steps = 2 * math.ceil(4 / batch)
    assert of_student == [None] * steps
    assert len(of_teacher) == steps  # in self-training, too
    boxes = set()
    for _, images, prompts in of_teacher:
        assert prompts is not None
        assert prompts.points is None
        assert prompts.boxes is not None
        weak_images, strong_images = images.chunk(2)
        weak_boxes, strong_boxes = prompts.boxes.chunk(2)
        assert not torch.equal(weak_images, strong_images)
        # Grey values of the weak view are those of the frame: the wire is bright.
        assert torch.equal(weak_boxes, boxes_around(weak_images[:, 0] > 0.6))
        assert torch.equal(weak_boxes, strong_boxes)
        boxes |= {tuple(box) for box in weak_boxes.tolist()}
    own = {tuple(box) for box in boxes_around(frames.masks[:, 1]).tolist()}
    assert boxes - own  # some frames were flipped


def test_the_box_goes_around_all_annotated_classes(
    sam: Sam, frames: FrameSet, settings: AdaptationSettings, calls: list[Call]
) -> None:
    masks = frames.masks[:1].clone()
    masks[0, 0, 20, 25] = 1
    both = FrameSet(
        frames.images[:1],
        masks,
        torch.ones(1, 2, dtype=torch.bool),
        torch.zeros(1).long(),
    )
    stage_of(prepare_pair(sam, settings, seed=0), settings).run_steps(both, 1)
    prompts = next(prompts for _, _, prompts in calls if prompts is not None)
    assert prompts is not None
    assert prompts.boxes is not None
    left, top, right, bottom = prompts.boxes[0].tolist()
    assert (right - left, bottom - top) == (25 - 3, 20 - 2)


# ------------------------------------------------------------------ frames ----


def test_every_frame_comes_once_per_epoch_in_another_order(
    frames: FrameSet, settings: AdaptationSettings
) -> None:
    teacher, student = plain_pair()
    marks = torch.tensor([0.2, 0.4, 0.6, 0.8]).view(4, 1, 1, 1)
    marked = replace(frames, images=marks.expand(4, 1, SIZE, SIZE).clone())
    seen: list[list[float]] = []
    student.encoder.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].mean((1, 2, 3)).tolist())
    )
    stage_of((teacher, student), replace(settings, batch_size=3)).run(marked)
    weak = seen[::2]
    assert [len(batch) for batch in weak] == [3, 1] * 3
    epochs = [weak[k] + weak[k + 1] for k in (0, 2, 4)]
    for epoch in epochs:
        assert sorted(epoch) == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_defect_7_frames_without_pseudo_label_are_skipped_by_count(
    frames: FrameSet, settings: AdaptationSettings
) -> None:
    masks, valid = frames.masks.clone(), frames.valid.clone()
    masks[0] = 0
    valid[1, 0, :, 3 + 2] = False  # its whole wire is behind the collimator
    some = replace(frames, masks=masks, valid=valid)
    report = stage_of(plain_pair(), settings).run(some)
    assert (report.frames, report.skipped) == (2, 2)
    assert [one.steps for one in report.epochs] == [1, 1, 1]
    none = replace(frames, masks=torch.zeros_like(frames.masks))
    with pytest.raises(DataError, match="None of the 4 frames has a pseudo-label"):
        stage_of(plain_pair(), settings).run(none)


def test_a_frame_may_lack_one_class(
    sam: Sam, frames: FrameSet, settings: AdaptationSettings
) -> None:
    both = replace(frames, annotated=torch.ones(4, 2, dtype=torch.bool))
    report = stage_of(prepare_pair(sam, settings, seed=0), settings).run(both)
    assert all(math.isfinite(loss) for loss in report.step_losses)


def test_frames_of_another_size_are_refused(
    frames: FrameSet, settings: AdaptationSettings
) -> None:
    small = FrameSet(
        frames.images[..., ::2, ::2],
        frames.masks[..., ::2, ::2],
        frames.annotated,
        frames.sequences,
    )
    with pytest.raises(DataError, match="32 x 32 px, got \\(2, 16, 16\\)"):
        stage_of(plain_pair(), settings).run(small)


# ---------------------------------------------------------------- numbers -----


def test_the_same_seed_gives_the_same_bits_and_another_one_others(
    sam: Sam, frames: FrameSet, settings: AdaptationSettings
) -> None:
    settings = replace(settings, epochs=2, batch_size=3)

    def trained(seed: int) -> tuple[State, dict[str, object]]:
        pair = prepare_pair(sam, settings, seed=0)
        report = stage_of(pair, settings, seed=seed).run(frames)
        return state_of(pair[1]), report.to_dict()

    first, second, other = trained(5), trained(5), trained(6)
    assert same(first[0], second[0])
    assert first[1] == second[1]
    assert not same(first[0], other[0])
    assert json.loads(json.dumps(first[1])) == first[1]


def test_the_learning_rate_rises_linearly_and_stays(
    frames: FrameSet, settings: AdaptationSettings
) -> None:
    settings = replace(settings, ramp_steps=4, learning_rate=1e-3)
    report = stage_of(plain_pair(), settings).run(frames)
    assert report.learning_rates == pytest.approx(
        [0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3, 1e-3]
    )
    # Adam's first step is as long as its rate.
    teacher, student = plain_pair()
    before = state_of(student)
    settings = replace(settings, batch_size=4, epochs=1)
    stage_of((teacher, student), settings).run(frames)
    moved = (student.encoder[0].weight - before["encoder.0.weight"]).abs()
    assert moved.max().item() == pytest.approx(0.25e-3, rel=1e-2)


def test_attention_may_learn_slower_and_gradients_may_be_cut(
    sam: Sam, frames: FrameSet, settings: AdaptationSettings
) -> None:
    settings = replace(settings, learning_rate=1e-3, weight_decay=0.0)

    def moved(descent: Descent | None) -> tuple[float, float]:
        teacher, student = prepare_pair(sam, settings, seed=0)
        stage = FineStage(
            teacher, student, settings, seed=0, device=CPU, descent=descent
        )
        stage.run_steps(frames, 1)
        own = dict(sam.named_parameters())
        steps = {
            name: float((one - own[name]).abs().max().detach())
            for name, one in student.named_parameters()
        }
        return steps["image_encoder.neck.0.weight"], steps["detail.project.weight"]

    assert moved(None) == pytest.approx((1e-3, 1e-3), rel=0.05)
    slow = Descent(transformer_rate=0.1, clip_norm=1.0, decoupled_decay=True)
    assert moved(slow) == pytest.approx((1e-4, 1e-3), rel=0.05)
    # Adam's step does not know the gradient's length, but for its epsilon of 1e-8.
    assert max(moved(Descent(clip_norm=1e-9))) < 0.5e-3


@pytest.mark.parametrize(("decoupled", "shrinks"), [(False, 0.0), (True, 1e-3)])
def test_decay_is_part_of_the_gradient_or_apart_from_it(
    settings: AdaptationSettings, decoupled: bool, shrinks: float
) -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.ones_(network.weight)
    descent = Descent(decoupled_decay=decoupled)
    settings = replace(settings, weight_decay=0.1)
    optimiser = descent.optimiser([network], settings)
    descent.take(optimiser, -network.weight.sum(), 1e-2)
    # Against a gradient of -1 Adam goes up by its rate; AdamW also shrinks by a tenth.
    assert network.weight.item() == pytest.approx(1 + 1e-2 - shrinks, abs=1e-5)


def test_steps_are_split_as_the_epochs_are(
    frames: FrameSet, settings: AdaptationSettings
) -> None:
    settings = replace(settings, epochs=10, warmup_epochs=3, ramp_steps=250)
    report = stage_of(plain_pair(), settings).run_steps(frames, 8)
    assert [(one.phase, one.steps) for one in report.epochs] == [
        (WARMUP, 2),
        (SELF_TRAINING, 6),
    ]
    # The ramp ends with the warm-up.
    assert report.learning_rates == pytest.approx([0.5e-4] + 7 * [1e-4])
    report = stage_of(plain_pair(), settings).run_steps(frames, 1)
    assert [(one.phase, one.steps) for one in report.epochs] == [(SELF_TRAINING, 1)]
    with pytest.raises(DataError, match="at least 1 step, got 0"):
        stage_of(plain_pair(), settings).run_steps(frames, 0)


def test_training_stops_at_its_deadline_and_at_a_loss_that_is_no_number(
    frames: FrameSet, settings: AdaptationSettings
) -> None:
    with pytest.raises(TrainingError, match="reached 0 steps in -1 s"):
        stage_of(plain_pair(), settings).run_steps(frames, 4, deadline_s=-1)
    teacher, student = plain_pair()
    with torch.no_grad():
        student.head.bias.fill_(torch.nan)
    with pytest.raises(TrainingError, match=r"became nan.*Lower adapt.learning-rate"):
        stage_of((teacher, student), settings).run(frames)


def test_both_learn_the_labels_and_then_the_student_learns_from_the_teacher(
    frames: FrameSet, settings: AdaptationSettings
) -> None:
    # Without L_pred: it holds a teacher to what it decides before it knows anything.
    settings = replace(settings, warmup_weights="0, 1, 0.5, 0")
    settings = replace(settings, learning_rate=5e-2, warmup_epochs=30, epochs=45)
    teacher, student = plain_pair()

    @torch.no_grad()
    def overlaps(_: int, *networks: SegmentationNetwork) -> dict[str, float]:
        found = {}
        for name, network in zip(("teacher", "student"), networks, strict=True):
            guesses = network.eval()(frames.images)[:, 1] > 0
            truth = frames.masks[:, 1].bool()
            found[name] = float((guesses & truth).sum() / (guesses | truth).sum())
        return found

    assert max(overlaps(0, teacher, student).values()) < 0.1
    report = stage_of((teacher, student), settings).run(frames, on_epoch=overlaps)
    assert max(report.curve("teacher")[:30]) > 0.8
    assert max(report.curve("student")[:30]) > 0.8
    # A student that knows nothing learns from the frozen teacher alone.
    pupil, _ = plain_pair()
    settings = replace(settings, warmup_epochs=0)
    report = stage_of((teacher, pupil), settings).run(frames, on_epoch=overlaps)
    assert len(set(report.curve("teacher"))) == 1
    assert max(report.curve("student")[:3]) < 0.3 < 0.8 < max(report.curve("student"))
