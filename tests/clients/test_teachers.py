"""Teachers without a network of their own, against networks that have one."""

import dataclasses
import logging
from unittest import mock

import pytest
import torch
from monai.losses import DiceLoss

from clients.data.batches import Batch
from clients.optimisation import TrainReport
from clients.teacher_bank import TeacherBank
from clients.teachers import Panel
from models.network import SegmentationNetwork
from models.registry import build_model
from models.taps import TapError, forward_with_tap
from models.training_modes import choose_trainable
from models.weights import WeightsError
from strategies.accumulation import State
from strategies.fedefm_settings import FedEFMSettings
from strategies.settings import RunSettings

SIZE = 64
CPU = torch.device("cpu")
KINDS = ("fga-net-small", "unet", "sam-tiny", "sam-tiny lora")


def build(kind: str, seed: int = 0) -> SegmentationNetwork:
    """Networks of one kind differ in what trains only, as those of a run do."""
    name, _, mode = kind.partition(" ")
    model = build_model(name, image_size=SIZE, seed=0)
    torch.manual_seed(0)
    model = choose_trainable(model, mode or "full")
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.trainable_state().values() if seed else ():
            noise = torch.rand(tensor.shape, generator=source)
            tensor.add_(0.02 * noise)  # >= 0, as variances must stay
    return model


def state(kind: str, seed: int) -> State:
    return {
        name: one.clone() for name, one in build(kind, seed).trainable_state().items()
    }


def images() -> torch.Tensor:
    return torch.rand(3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_answers_as_its_own_network_would(kind: str) -> None:
    tap = "image_encoder.blocks.1" if kind.startswith("sam") else "down.3"
    bank = TeacherBank(
        build(kind).train(),
        {"b": state(kind, 2), "a": state(kind, 1)},
        tap=tap,
        device=CPU,
    )
    answers = bank.ask(images())
    assert list(answers) == ["a", "b"]
    for seed, answer in enumerate(answers.values(), start=1):
        with torch.no_grad():
            alone = forward_with_tap(build(kind, seed).eval(), images(), tap)
        assert torch.equal(answer.logits, alone.logits)
        assert torch.equal(answer.features, alone.features)
        assert not answer.logits.requires_grad
    assert not torch.equal(answers["a"].logits, answers["b"].logits)


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_leaves_no_trace_on_the_student(kind: str) -> None:
    teacher, student = state(kind, 1), build(kind).train()
    next(part for part in student.modules() if part is not student).training = False
    student.forward_with_features(images()).logits.sum().backward()

    def snapshot() -> list[object]:
        gradients = [p.grad for p in student.parameters() if p.grad is not None]
        return [
            [one.clone() for one in student.state_dict().values()],
            [one.clone() for one in gradients],
            [part.training for part in student.modules()],
            torch.get_rng_state(),
        ]

    addresses = [one.data_ptr() for one in student.parameters()]
    before = snapshot()
    TeacherBank(student, {"a": teacher}, tap="", device=CPU).ask(images())
    after = snapshot()
    for old, new in zip(before[:2], after[:2], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(old, new, strict=True))
    assert before[2] == after[2]
    assert torch.equal(before[3], after[3])
    assert [one.data_ptr() for one in student.parameters()] == addresses


def test_the_student_is_whole_again_when_a_pass_fails() -> None:
    student = build("unet").train()
    bank = TeacherBank(student, {"a": state("unet", 1)}, tap="down.9", device=CPU)
    before = [one.clone() for one in student.state_dict().values()]
    with pytest.raises(TapError, match="The tap is"):
        bank.ask(images())
    assert all(part.training for part in student.modules())
    after = student.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_equal_teachers_are_held_once_and_share_a_pass() -> None:
    first, twin, other = state("unet", 1), state("unet", 1), state("unet", 2)
    student = build("unet")
    bank = TeacherBank(student, {"a": first, "b": twin, "c": other}, tap="", device=CPU)
    assert bank.num_values == 2 * sum(one.numel() for one in first.values())
    passes = mock.Mock(wraps=student.forward_with_features)
    with mock.patch.object(student, "forward_with_features", passes):
        answers = bank.ask(images())
    assert passes.call_count == 2
    assert answers["a"].logits is answers["b"].logits
    assert list(answers) == ["a", "b", "c"]


def test_teachers_with_adapters_are_held_as_adapters_alone() -> None:
    student = build("sam-tiny lora")
    teachers = {
        name: state("sam-tiny lora", seed) for seed, name in ((1, "a"), (2, "b"))
    }
    bank = TeacherBank(student, teachers, tap="", device=CPU)
    network = sum(one.numel() for one in student.parameters())
    adapters = sum(p.numel() for p in student.parameters() if p.requires_grad)
    assert bank.num_values == 2 * adapters
    assert bank.num_values < 0.05 * network


def test_a_teacher_made_of_the_students_tensors_stays_when_the_student_moves() -> None:
    student = build("unet").eval()
    bank = TeacherBank(student, {"self": student.trainable_state()}, tap="", device=CPU)
    before = bank.ask(images())["self"].logits
    with torch.no_grad():
        student.head.bias.add_(1.0)
    assert torch.equal(bank.ask(images())["self"].logits, before)
    assert not torch.equal(student(images()), before)


def test_a_teacher_of_another_network_is_refused_by_name() -> None:
    broken = state("unet", 1)
    broken.popitem()
    with pytest.raises(WeightsError, match=r"teacher from 'a'.*1 problem.*is missing"):
        TeacherBank(build("unet"), {"a": broken}, tap="", device=CPU)


def test_without_teachers_nobody_answers() -> None:
    bank = TeacherBank(build("unet"), {}, tap="", device=CPU)
    assert bank.ask(images()) == {}
    assert bank.num_values == 0


@pytest.fixture
def common(run_settings: RunSettings) -> FedEFMSettings:
    return dataclasses.replace(
        run_settings.fedefm,
        score="common",
        prototypes=4,
        weight_per="sample",
        grid_size=2,
    )


def batch() -> Batch:
    return Batch(
        images(),
        torch.zeros(3, 2, SIZE, SIZE, dtype=torch.uint8),
        torch.ones(3, 2, dtype=torch.bool),
        torch.ones(3, 1, SIZE, SIZE, dtype=torch.bool),
        torch.zeros(3, dtype=torch.int64),
    )


def prototypes(*names: str) -> dict[str, torch.Tensor]:
    dim = build("unet").forward_with_features(images()).features.shape[1]
    return {
        name: torch.rand(4, dim, generator=torch.Generator().manual_seed(ord(name[0])))
        for name in names
    }


def consult(
    settings: FedEFMSettings, shown: dict[str, torch.Tensor], **options: object
) -> tuple[TrainReport, list[torch.Tensor]]:
    student = build("unet")
    panel = Panel(
        student,
        {name: state("unet", seed) for seed, name in enumerate("abc", start=1)},
        CPU,
        settings=settings,
        seed=1,
        prototypes=shown,
        common=state("unet", 9),
        **options,
    )
    report = TrainReport()
    lesson = panel.teach(student.forward_with_features(images()), batch(), report)
    return report, lesson.weights


def test_a_teacher_without_prototypes_gets_the_mean_score_and_is_named(
    common: FedEFMSettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings = dataclasses.replace(
        common, edge_weight="softmax", weight_temperature=1.0
    )
    shown = {**prototypes("a", "c"), "b": torch.zeros(0, 4)}
    with caplog.at_level(logging.WARNING):
        report, (a, b, c) = consult(settings, shown)
    assert "No prototypes of b:" in caplog.text
    # A mean of two exponents is the geometric mean of what they raise.
    torch.testing.assert_close(b, (a * c).sqrt())
    torch.testing.assert_close(a + b + c, torch.ones(3))
    assert report.scores["b"][0] == pytest.approx(
        (report.scores["a"][0] + report.scores["c"][0]) / 2
    )


def test_a_control_is_scored_and_changes_no_weight(common: FedEFMSettings) -> None:
    raw = dataclasses.replace(common, score="raw", weight_per="batch")
    for settings in (common, raw):
        shown = prototypes("a", "b", "c", "home")
        alone, expected = consult(settings, shown)
        report, found = consult(settings, shown, controls={"home": state("unet", 7)})
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
        assert list(report.weights) == list(report.scores) == ["a", "b", "c"]
        assert len(report.control_scores["home"]) == 1
        assert alone.control_scores == {}


def test_a_control_needs_a_name_of_its_own(common: FedEFMSettings) -> None:
    with pytest.raises(ValueError, match="no teacher has, got a"):
        consult(common, {}, controls={"a": state("unet", 7)})


def test_common_scores_need_the_common_model(common: FedEFMSettings) -> None:
    with pytest.raises(ValueError, match="did not come along"):
        Panel(build("unet"), {"a": state("unet", 1)}, CPU, settings=common, seed=0)


def test_with_nobody_to_score_nothing_is_needed(common: FedEFMSettings) -> None:
    student, report = build("unet"), TrainReport()
    panel = Panel(student, {}, CPU, settings=common, seed=0)
    lesson = panel.teach(student.forward_with_features(images()), batch(), report)
    assert lesson.losses == lesson.weights == []
    assert report == TrainReport()


def test_an_oracle_weighs_teachers_by_their_dice_with_the_labels(
    common: FedEFMSettings,
) -> None:
    settings = dataclasses.replace(
        common, score="raw", edge_weight="oracle", weight_temperature=0.1
    )
    masks = torch.rand(3, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(8))
    shown = dataclasses.replace(batch(), masks=(masks > 0.7).to(torch.uint8))
    teachers = {name: state("unet", 0) for name in "ab"}
    teachers["b"]["head.bias"] += torch.tensor([-2.0, 3.0])
    student = build("unet")
    panel = Panel(student, teachers, CPU, settings=settings, seed=1)
    lesson = panel.teach(
        student.forward_with_features(shown.images), shown, TrainReport()
    )
    # By MONAI, which knows nothing of our losses; both smooth by 1.
    dice = DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0, reduction="none")
    fits = [
        1 - dice(answer.logits, shown.masks).flatten(1).mean(1)
        for answer in lesson.answers.values()
    ]
    expected = (torch.stack(fits) / 0.1).softmax(0)
    torch.testing.assert_close(torch.stack(lesson.weights), expected)
    assert float(expected.std()) > 0.05  # else everything would agree


def test_a_teacher_is_asked_about_what_its_silo_annotates(
    common: FedEFMSettings,
) -> None:
    settings = dataclasses.replace(
        common,
        score="raw",
        edge_weight="one",
        weight_per="batch",
        teacher_classes="annotated",
    )
    teaches = {"a": ("guidewire",), "b": ("catheter", "guidewire"), "c": ()}

    def losses(**biases: float) -> tuple[list[float], dict[str, list[float]]]:
        """Return what is learned, with the catheters of some teachers moved."""
        teachers = {name: state("unet", 0) for name in "abc"}
        for name, teacher in teachers.items():
            teacher["head.bias"] += torch.tensor([0.5 + biases.get(name, 0.0), 1.0])
        student, report = build("unet"), TrainReport()
        panel = Panel(
            student, teachers, CPU, settings=settings, seed=1, teaches=teaches
        )
        lesson = panel.teach(student.forward_with_features(images()), batch(), report)
        weighed = zip(lesson.losses, lesson.weights, strict=True)
        return [(loss * weight).item() for loss, weight in weighed], report.weights

    expected, weights = losses()
    assert len(expected) == 3  # b on catheters, a and b on guidewires
    assert [weights[name][0] for name in "abc"] == pytest.approx([0.75, 1.125, 0.0])
    assert losses(a=3.0, c=-3.0)[0] == expected
    moved, _ = losses(b=3.0)
    assert (moved[0] != expected[0], moved[1:]) == (True, expected[1:])


def test_what_a_teachers_silo_annotates_has_to_be_known(common: FedEFMSettings) -> None:
    settings = dataclasses.replace(common, score="raw", teacher_classes="annotated")
    teachers = {name: state("unet", 1) for name in "ab"}
    with pytest.raises(ValueError, match="nothing came of b"):
        Panel(
            build("unet"),
            teachers,
            CPU,
            settings=settings,
            seed=0,
            teaches={"a": ("catheter",)},
        )
