"""Which loss a site trains with, at which heads and on which pixels."""

import dataclasses

import pytest
import torch

from clients.data.batches import training_batches
from clients.data.frames import FrameSet
from clients.optimisation import TrainPlan
from clients.training import train_on_labels
from models.deep_supervision import FGA_NET_AUXILIARY_WEIGHTS
from models.loss_recipes import BUILDERS, build_loss
from models.registry import build_model
from strategies.settings import RunSettings

SIZE = 64
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def frames() -> FrameSet:
    """Four frames with one vertical catheter each and no guidewire."""
    masks = torch.zeros(4, 2, SIZE, SIZE, dtype=torch.uint8)
    for index in range(4):
        masks[index, 0, :, 10 + 10 * index : 14 + 10 * index] = 1
    images = 0.8 - 0.6 * masks.amax(1, keepdim=True).float()
    return FrameSet(
        images=images,
        masks=masks,
        annotated=torch.ones(4, 2, dtype=torch.bool),
        sequences=torch.arange(4),
    )


@pytest.fixture
def plan(run_settings: RunSettings) -> TrainPlan:
    train = dataclasses.replace(run_settings.train, batch_size=2)
    data = dataclasses.replace(run_settings.data, frame_size=SIZE, augmentation="none")
    return TrainPlan(
        steps=1, learning_rate=1e-3, settings=train, data=data, seed=1, deadline_s=100
    )


def first_batch(frames: FrameSet, plan: TrainPlan) -> tuple[torch.Tensor, ...]:
    batch = next(
        training_batches(
            frames,
            batch_size=2,
            network_size=SIZE,
            settings=plan.data,
            seed=plan.seed,
            device=CPU,
        )
    )
    return batch.images, batch.masks, batch.annotated, batch.valid


@pytest.mark.parametrize("name", BUILDERS)
def test_the_first_step_has_the_loss_that_the_settings_name(
    name: str, frames: FrameSet, plan: TrainPlan
) -> None:
    named = dataclasses.replace(plan.settings, loss=name)
    images, *labels = first_batch(frames, plan)
    model = build_model("sam-tiny", image_size=SIZE, seed=0)
    options = {"cldice_weight": 0.0} if name == "bce-dice-cldice" else {}
    expected = build_loss(name, **options)(model.train()(images), *labels)
    plan = dataclasses.replace(plan, settings=named)
    report = train_on_labels(model, frames, plan, CPU)
    assert report.losses[0] == pytest.approx(float(expected.detach()), rel=1e-6)


def test_auxiliary_heads_are_trained_with_the_published_weights(
    frames: FrameSet, plan: TrainPlan
) -> None:
    images, *labels = first_batch(frames, plan)

    def build() -> torch.nn.Module:
        model = build_model(
            "fga-net-small", image_size=SIZE, seed=0, deep_supervision=True
        )
        for part in model.modules():  # the same pass twice
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        return model

    criterion = plan.settings.criterion()
    with torch.no_grad():
        logits, auxiliaries = build().train().forward_with_auxiliaries(images)
        heads = [float(criterion(one, *labels)) for one in (logits, *auxiliaries)]
    expected = heads[0] + sum(
        weight * loss
        for weight, loss in zip(FGA_NET_AUXILIARY_WEIGHTS, heads[1:], strict=True)
    )
    model = build()
    before = model.auxiliary[0].weight.detach().clone()
    report = train_on_labels(model, frames, plan, CPU)
    assert report.losses[0] == pytest.approx(expected, rel=1e-5)
    assert not torch.equal(model.auxiliary[0].weight, before)


def test_pixels_behind_the_collimator_teach_nothing(
    frames: FrameSet, plan: TrainPlan
) -> None:
    valid = torch.ones_like(frames.valid)
    valid[..., 48:] = False
    masks = frames.masks.clone()
    masks[..., 48:] = 1  # whatever is said there
    hidden = dataclasses.replace(frames, valid=valid)
    nonsense = dataclasses.replace(frames, valid=valid, masks=masks)
    states = []
    for shown in (hidden, nonsense, frames):
        model = build_model("sam-tiny", image_size=SIZE, seed=0)
        train_on_labels(model, shown, plan, CPU)
        states.append(model.trainable_state()["image_encoder.patch_embed.proj.weight"])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
