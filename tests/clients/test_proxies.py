"""Teachers on simulated frames, whose labels nobody may look at unless told to."""

import dataclasses
from collections.abc import Iterator

import pytest
import torch

from clients import proxies
from clients.data.batches import Batch
from clients.data.frames import FrameSet
from clients.optimisation import TrainPlan, TrainReport
from clients.proxies import PROXY_DOMAINS, distil_on_proxies, proxy_frames
from clients.tasks import Segmentation, SourceClassification
from clients.teachers import Lesson
from clients.training import train_on_labels
from models.network import SegmentationNetwork, SegmentationOutput
from models.registry import build_model
from strategies.accumulation import State
from strategies.fedefm_settings import FedEFMSettings
from strategies.settings import RunSettings, SettingsError, SettingValue

SIZE = 32
CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def one_patient_a_domain() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proxies, "PATIENTS", 1)
        proxies._simulated.cache_clear()
        yield
    proxies._simulated.cache_clear()


@pytest.fixture
def plan(run_settings: RunSettings) -> TrainPlan:
    return TrainPlan(
        steps=2,
        learning_rate=1e-3,
        settings=dataclasses.replace(run_settings.train, batch_size=4),
        data=dataclasses.replace(run_settings.data, frame_size=SIZE),
        seed=2**62 + 1,
        deadline_s=100,
    )


@pytest.fixture
def fedefm(run_settings: RunSettings) -> FedEFMSettings:
    return dataclasses.replace(run_settings.fedefm, grid_size=2, teach_on="proxy")


def new_model(seed: int = 0) -> SegmentationNetwork:
    return build_model("sam-tiny", image_size=SIZE, seed=seed)


def learn(
    plan: TrainPlan,
    settings: FedEFMSettings,
    *,
    image_size: int = SIZE,
    **options: object,
) -> tuple[State, TrainReport]:
    model = new_model()
    teachers = {
        "a": new_model(5).trainable_state(),
        "b": new_model(6).trainable_state(),
    }
    report = distil_on_proxies(
        model, teachers, plan, CPU, settings=settings, image_size=image_size, **options
    )
    return model.trainable_state(), report


def same(first: State, second: State) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_proxies_show_many_domains_and_no_label(plan: TrainPlan) -> None:
    frames = proxy_frames(plan.data, plan.seed)
    assert len(frames) == len(PROXY_DOMAINS) == 8
    assert not any("neuro" in name for name in PROXY_DOMAINS)
    assert not bool(frames.annotated.any())
    assert not bool(frames.masks.any())
    assert len({image.numpy().tobytes() for image in frames.images}) == 8
    assert proxy_frames(plan.data, plan.seed) is frames  # simulated once
    other = proxy_frames(plan.data, 1)
    assert not torch.equal(other.images, frames.images)


def test_the_masks_of_the_simulator_change_nothing(
    plan: TrainPlan, fedefm: FedEFMSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Patches are cut where masks are, if a network is smaller than its frames.
    expected, _ = learn(plan, fedefm, image_size=48)
    honest = proxies.load_simulated

    def lie(*arguments: object, **options: object) -> FrameSet:
        frames = honest(*arguments, **options)
        return dataclasses.replace(frames, masks=torch.zeros_like(frames.masks))

    monkeypatch.setattr(proxies, "load_simulated", lie)
    proxies._simulated.cache_clear()
    found, _ = learn(plan, fedefm, image_size=48)
    assert same(expected, found)


def test_the_same_seed_teaches_the_same_bits(
    plan: TrainPlan, fedefm: FedEFMSettings
) -> None:
    first, report = learn(plan, fedefm)
    second, _ = learn(plan, fedefm)
    other, _ = learn(dataclasses.replace(plan, seed=7), fedefm)
    assert same(first, second)
    assert not same(first, other)
    assert len(report.losses) == len(report.weights["a"]) == plan.steps
    assert report.label_losses == []
    assert report.teacher_losses == {}


def test_a_hospital_can_lend_its_own_frames_and_no_label_of_them_is_read(
    plan: TrainPlan, fedefm: FedEFMSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent = proxy_frames(plan.data, seed=3, labelled=True)
    blank = dataclasses.replace(
        lent,
        masks=torch.zeros_like(lent.masks),
        annotated=torch.zeros_like(lent.annotated),
    )

    def simulate(*_: object, **__: object) -> FrameSet:
        raise AssertionError("nothing has to be simulated")

    simulated, _ = learn(plan, fedefm)
    monkeypatch.setattr(proxies, "proxy_frames", simulate)
    found, report = learn(plan, fedefm, frames=lent)
    assert same(found, learn(plan, fedefm, frames=blank)[0])
    assert not same(found, simulated)
    assert len(report.weights["b"]) == plan.steps
    assert report.label_losses == []


def test_theta_turns_to_what_its_teachers_agree_on(
    plan: TrainPlan, fedefm: FedEFMSettings
) -> None:
    model, teacher = new_model(), new_model(5)
    plan = dataclasses.replace(plan, steps=12)
    images = proxy_frames(plan.data, plan.seed).images

    def distance() -> float:
        with torch.no_grad():
            gap = model.eval()(images) - teacher.eval()(images)
        return float(gap.square().mean())

    before = distance()
    distil_on_proxies(
        model,
        dict.fromkeys("ab", teacher.trainable_state()),
        plan,
        CPU,
        settings=dataclasses.replace(fedefm, edge_weight="one"),
        image_size=SIZE,
    )
    assert distance() < before / 2


def test_frames_can_be_gated_by_what_sites_hold(
    plan: TrainPlan, fedefm: FedEFMSettings
) -> None:
    settings = dataclasses.replace(
        fedefm,
        score="common",
        prototypes=4,
        edge_weight="softmax",
        weight_per="sample",
        reduction="sum",
    )
    images = proxy_frames(plan.data, plan.seed).images
    dim = new_model().forward_with_features(images).features.shape[1]
    source = torch.Generator().manual_seed(0)
    shown = {name: torch.randn(4, dim, generator=source) for name in "ab"}
    found, report = learn(plan, settings, prototypes=shown)
    for a, b in zip(report.weights["a"], report.weights["b"], strict=True):
        assert a + b == pytest.approx(1)
        assert 0 < a < 1
    start = new_model().trainable_state()
    explicit, _ = learn(plan, settings, prototypes=shown, common=start)
    assert same(found, explicit)  # without one, Theta at the start is the encoder


def test_nobody_cannot_teach(plan: TrainPlan, fedefm: FedEFMSettings) -> None:
    with pytest.raises(ValueError, match="at least one teacher"):
        distil_on_proxies(new_model(), {}, plan, CPU, settings=fedefm, image_size=SIZE)


# ------------------------------------------------- the simulator's own masks


def test_labelled_proxies_are_the_same_frames_with_their_masks(plan: TrainPlan) -> None:
    bare = proxy_frames(plan.data, plan.seed)
    labelled = proxy_frames(plan.data, plan.seed, labelled=True)
    assert torch.equal(labelled.images, bare.images)
    assert bool(labelled.annotated.all())
    assert int(labelled.masks.flatten(1).amax(1).sum()) >= 6  # frames with a device
    assert not bool(bare.annotated.any())


def test_with_the_simulators_masks_no_teacher_is_needed_nor_asked(
    plan: TrainPlan, fedefm: FedEFMSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxies, "Panel", None)
    settings = dataclasses.replace(
        fedefm, proxy_labels="simulated", score="common", prototypes=4
    )
    model = new_model()
    report = distil_on_proxies(model, {}, plan, CPU, settings=settings, image_size=SIZE)
    assert len(report.losses) == len(report.label_losses) == plan.steps
    assert report.losses == report.label_losses
    assert report.weights == report.scores == {}
    expected = new_model()
    frames = proxy_frames(plan.data, plan.seed, labelled=True)
    train_on_labels(expected, frames, plan, CPU)
    assert same(model.trainable_state(), expected.trainable_state())


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"proxy_labels": "simulated"}, "proxy-labels = 'none'"),
        ({"proxy_labels": "teachers"}, "proxy-labels = 'none'"),
        ({"edge_weight": "oracle"}, "edge-weight = 'softmax'"),
    ],
)
def test_masks_cannot_teach_to_tell_data_types_apart(
    changes: dict[str, str], remedy: str, plan: TrainPlan, fedefm: FedEFMSettings
) -> None:
    task = SourceClassification(("human",), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(SettingsError, match=remedy):
        learn(
            dataclasses.replace(plan, task=task), dataclasses.replace(fedefm, **changes)
        )


def test_an_oracle_sees_the_masks_and_no_other_gate_does(
    plan: TrainPlan, fedefm: FedEFMSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    honest = proxies.proxy_frames

    def note(*arguments: object, **options: object) -> FrameSet:
        asked.append(options["labelled"])
        return honest(*arguments, **options)

    monkeypatch.setattr(proxies, "proxy_frames", note)
    gates = ("oracle", "softmax", "one")
    states = [
        learn(plan, dataclasses.replace(fedefm, edge_weight=one, weight_per="sample"))[
            0
        ]
        for one in gates
    ]
    assert asked == [True, False, False]
    assert not same(states[0], states[2])


def test_the_masks_on_which_weighed_teachers_agree_are_learned(
    plan: TrainPlan, fedefm: FedEFMSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two teachers of 0.9 and 0.2 agree on a device where the first counts enough."""
    logits = {
        name: torch.full((2, 1, 1, 2), value).logit()
        for name, value in {"a": 0.9, "b": 0.2}.items()
    }
    answers = {
        name: SegmentationOutput(one, torch.zeros(2, 1, 1, 1))
        for name, one in logits.items()
    }
    batch = Batch(
        torch.zeros(2, 1, 1, 2),
        torch.zeros(2, 1, 1, 2, dtype=torch.uint8),
        torch.zeros(2, 1, dtype=torch.bool),
        torch.ones(2, 1, 1, 2, dtype=torch.bool),
        torch.zeros(2, dtype=torch.int64),
    )

    def agreed(*weights: list[float] | float) -> list[int]:
        lesson = Lesson([], [torch.tensor(one) for one in weights], answers)
        marked = proxies._marked(batch, lesson)
        assert bool(marked.annotated.all())
        assert torch.equal(marked.masks[..., 0], marked.masks[..., 1])
        return marked.masks[:, 0, 0, 0].tolist()

    # 0.5 * 0.9 + 0.5 * 0.2 = 0.55; 0.4 * 0.9 + 0.6 * 0.2 = 0.48.
    assert agreed(1.0, 1.0) == [1, 1]
    assert agreed([2.0, 0.4], [2.0, 0.6]) == [1, 0]
    assert agreed([0.0, 0.0], [0.0, 1.0]) == [1, 0]  # nobody counts: all alike


def test_masks_of_teachers_are_another_lesson_than_their_probabilities(
    plan: TrainPlan, fedefm: FedEFMSettings
) -> None:
    soft, _ = learn(plan, fedefm)
    marked, report = learn(plan, dataclasses.replace(fedefm, proxy_labels="teachers"))
    assert not same(soft, marked)
    assert len(report.losses) == len(report.weights["a"]) == plan.steps


class Listening(Segmentation):
    """Remembers what was said by whoever teaches."""

    def __init__(self) -> None:
        self.heard: list[torch.Tensor] = []

    def teacher_loss(
        self,
        student_logits: torch.Tensor,
        teacher_logits: torch.Tensor,
        batch: Batch,
        **options: object,
    ) -> torch.Tensor:
        self.heard.append(teacher_logits)
        return super().teacher_loss(student_logits, teacher_logits, batch, **options)


@pytest.mark.parametrize("weights", ["one", "random"])
def test_silos_can_teach_the_mean_of_logits_as_feddf_does(
    plan: TrainPlan, fedefm: FedEFMSettings, weights: str
) -> None:
    task = Listening()
    settings = dataclasses.replace(
        fedefm, proxy_labels="logits", edge_weight=weights, weight_per="sample"
    )
    together, report = learn(dataclasses.replace(plan, steps=1, task=task), settings)
    first, second, mean = task.heard
    gap = second - first
    part = ((mean - first) * gap).sum((1, 2, 3)) / gap.square().sum((1, 2, 3))
    torch.testing.assert_close(mean, first + part[:, None, None, None] * gap)
    is_half = torch.isclose(part, torch.tensor(0.5))
    assert bool(is_half.all()) == (weights == "one")
    assert len(report.losses) == 1
    apart, _ = learn(plan, dataclasses.replace(settings, proxy_labels="none"))
    assert not same(together, apart)


def test_masks_of_proxies_need_proxies(run_config: dict[str, SettingValue]) -> None:
    labelled = {**run_config, "fedefm.proxy-labels": "simulated"}
    with pytest.raises(
        SettingsError, match=r"needs fedefm.teach-on = 'proxy'.*student"
    ):
        RunSettings.from_run_config(labelled)
    with pytest.raises(SettingsError, match=r"fedefm\.proxy-labels.*'real'"):
        RunSettings.from_run_config({**run_config, "fedefm.proxy-labels": "real"})
    settings = RunSettings.from_run_config({**labelled, "fedefm.teach-on": "proxy"})
    assert settings.fedefm.proxy_labels == "simulated"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teach-on": "student"}, r"needs fedefm\.teach-on = 'proxy', got 'student'"),
        ({"proxy-labels": "simulated"}, r"only the simulator knows"),
        ({"edge-weight": "oracle"}, r"only the simulator knows"),
        ({"proxy-frames": "mine"}, r"fedefm\.proxy-frames.*'mine'"),
    ],
)
def test_frames_of_a_hospital_have_no_masks_to_use(
    run_config: dict[str, SettingValue], changes: dict[str, SettingValue], words: str
) -> None:
    lent = {"teach-on": "proxy", "proxy-frames": "hospital"}
    told = {f"fedefm.{key}": value for key, value in (lent | changes).items()}
    with pytest.raises(SettingsError, match=words):
        RunSettings.from_run_config(run_config | told)


def test_who_annotates_a_class_teaches_it_on_proxies(
    plan: TrainPlan, fedefm: FedEFMSettings
) -> None:
    settings = dataclasses.replace(fedefm, teacher_classes="annotated")
    both = {"a": ("catheter", "guidewire"), "b": ("catheter", "guidewire")}
    everything, _ = learn(plan, settings, teaches=both)
    plain, _ = learn(plan, fedefm)
    for name, tensor in plain.items():
        torch.testing.assert_close(everything[name], tensor, rtol=1e-3, atol=1e-5)
    apart, report = learn(
        plan, settings, teaches={"a": ("catheter",), "b": ("guidewire",)}
    )
    assert not same(apart, everything)
    assert list(report.weights) == ["a", "b"]
    with pytest.raises(ValueError, match="whose site annotates a class"):
        learn(plan, settings, teaches={"a": (), "b": ()})
