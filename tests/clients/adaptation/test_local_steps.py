"""The fine stage as local training: it trains the student that came, and only that."""

import copy
from dataclasses import replace

import pytest
import torch

from clients.adaptation.local_steps import train_on_pseudo_labels
from clients.data.frames import FrameSet
from clients.data.simulator import simulate_frames
from clients.optimisation import TrainingError, TrainPlan, TrainReport
from models.network import SegmentationNetwork
from models.registry import build_model
from models.training_modes import choose_trainable
from models.weights import weights_digest
from strategies.adaptation_settings import AdaptationSettings
from strategies.settings import RunSettings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def frames() -> FrameSet:
    """Four frames; their masks stand for pseudo-labels."""
    return simulate_frames(
        "phantom", patients=4, frames_per_patient=1, image_size=32, seed=0
    )


@pytest.fixture
def plan(run_settings: RunSettings) -> TrainPlan:
    return TrainPlan(
        steps=2,
        learning_rate=1e-3,
        settings=replace(run_settings.train, batch_size=2, warmup_steps=0),
        data=replace(run_settings.frames, frame_size=32),
        seed=5,
        deadline_s=60.0,
    )


@pytest.fixture
def settings(run_settings: RunSettings) -> AdaptationSettings:
    return replace(run_settings.adapt, epochs=2, warmup_epochs=1)


def sam() -> SegmentationNetwork:
    return build_model("sam-tiny", image_size=32, seed=0)


def train(
    model: SegmentationNetwork,
    frames: FrameSet,
    plan: TrainPlan,
    settings: AdaptationSettings,
) -> TrainReport:
    return train_on_pseudo_labels(model, frames, plan, CPU, settings=settings)


@pytest.mark.parametrize("name", ["sam-tiny", "unet"])
def test_every_step_has_a_loss_and_the_student_changes(
    frames: FrameSet, plan: TrainPlan, settings: AdaptationSettings, name: str
) -> None:
    model = build_model(name, image_size=32, seed=0)
    before = weights_digest(model.trainable_state())
    report = train(model, frames, plan, settings)
    assert len(report.losses) == plan.steps
    assert all(0 < loss < 100 for loss in report.losses)
    assert report.label_losses == []  # there is no label
    assert weights_digest(model.trainable_state()) != before


def test_equal_seeds_give_equal_bits_and_others_do_not(
    frames: FrameSet, plan: TrainPlan, settings: AdaptationSettings
) -> None:
    digests = []
    for seed in (5, 5, 6):
        train(model := sam(), frames, replace(plan, seed=seed), settings)
        digests.append(weights_digest(model.trainable_state()))
    assert digests[0] == digests[1] != digests[2]


def test_what_is_frozen_in_the_run_stays_as_it_is(
    frames: FrameSet, plan: TrainPlan, settings: AdaptationSettings
) -> None:
    model = choose_trainable(sam(), "decoder")
    before = copy.deepcopy(model.state_dict())
    train(model, frames, plan, settings)
    moved = {
        name
        for name, tensor in model.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert moved and moved <= set(model.trainable_state())


def test_the_learning_rate_is_that_of_the_run(
    frames: FrameSet, plan: TrainPlan, settings: AdaptationSettings
) -> None:
    model = sam()
    before = weights_digest(model.state_dict())
    still = replace(plan, learning_rate=0.0)
    train(model, frames, still, replace(settings, learning_rate=1.0))
    assert weights_digest(model.state_dict()) == before


def test_transformers_have_their_share_of_the_learning_rate(
    frames: FrameSet, plan: TrainPlan, settings: AdaptationSettings
) -> None:
    model = sam()
    before = copy.deepcopy(model.state_dict())
    still = replace(plan, settings=replace(plan.settings, transformer_rate=0.0))
    train(model, frames, still, settings)
    moved = [
        name
        for name, tensor in model.state_dict().items()
        if not torch.equal(tensor, before[name])
    ]
    slow = ("image_encoder.", "mask_decoder.transformer.")
    assert moved and not any(name.startswith(slow) for name in moved)


def test_a_deadline_ends_it(
    frames: FrameSet, plan: TrainPlan, settings: AdaptationSettings
) -> None:
    with pytest.raises(TrainingError, match="0"):
        train(sam(), frames, replace(plan, deadline_s=0.0), settings)
