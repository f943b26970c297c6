import math
from dataclasses import replace

import pytest
import torch

from clients.adaptation.coarse import train_coarse
from clients.adaptation.coarse_views import coarse_view
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from clients.optimisation import TrainingError
from models.prompt_layers import PromptedEncoderNetwork
from models.registry import build_model
from models.sam import Sam
from strategies.adaptation_settings import AdaptationSettings
from strategies.randomness import generator_from
from strategies.settings import RunSettings, SettingValue

SIZE = 32
CPU = torch.device("cpu")


@pytest.fixture
def settings(run_config: dict[str, SettingValue]) -> AdaptationSettings:
    adapt = RunSettings.from_run_config(run_config).adapt
    return replace(adapt, coarse_epochs=2)


@pytest.fixture
def sam() -> Sam:
    model = build_model("sam-tiny", image_size=SIZE, seed=1)
    assert isinstance(model, Sam)
    return model


@pytest.fixture
def synthetic() -> FrameSet:
    """Four grey frames with a dark guidewire and a catheter beside it."""
    images = torch.full((4, 1, SIZE, SIZE), 0.7)
    masks = torch.zeros(4, 2, SIZE, SIZE, dtype=torch.uint8)
    for number in range(4):
        masks[number, 0, :, 6 + 2 * number : 9 + 2 * number] = 1
        masks[number, 1, 10 + 4 * number, 4:28] = 1
    images[masks.amax(1, keepdim=True) > 0] = 0.2
    return FrameSet(
        images=images,
        masks=masks,
        annotated=torch.ones(4, 2, dtype=torch.bool),
        sequences=torch.arange(4),
    )


def bits(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: one.clone() for name, one in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) for name in one
    )


@pytest.mark.parametrize("kind", ["prompt-layers", "sam"])
def test_training_lowers_the_loss_and_leaves_its_argument_alone(
    sam: Sam, synthetic: FrameSet, settings: AdaptationSettings, kind: str
) -> None:
    before = bits(sam)
    trains = [one.requires_grad for one in sam.parameters()]
    losses: list[float] = []
    chosen = replace(
        settings,
        coarse_network=kind,
        training="lora-decoder",
        coarse_epochs=8,
        coarse_batch_size=2,
        coarse_learning_rate=4e-3,
    )
    network = train_coarse(
        sam,
        synthetic,
        chosen,
        seed=3,
        device=CPU,
        on_step=lambda step, total, loss: losses.append(loss),
    )
    assert len(losses) == 16
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
    assert not network.training
    assert network is not sam
    assert same(bits(sam), before)
    assert [one.requires_grad for one in sam.parameters()] == trains


def test_the_frozen_encoder_is_bit_identical_after_training_prompt_layers(
    sam: Sam, synthetic: FrameSet, settings: AdaptationSettings
) -> None:
    network = train_coarse(sam, synthetic, settings, seed=3, device=CPU)
    assert isinstance(network, PromptedEncoderNetwork)
    assert same(bits(network.sam), bits(sam))
    # What trains has moved: of a network that starts at zero all scales of layers.
    silent = replace(settings, zero_init=True)
    moved = train_coarse(sam, synthetic, silent, seed=3, device=CPU)
    assert isinstance(moved, PromptedEncoderNetwork)
    assert all(bool(layer[7].weight.any()) for layer in moved.prompts)


@pytest.mark.parametrize("kind", ["prompt-layers", "sam"])
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(
    sam: Sam, synthetic: FrameSet, settings: AdaptationSettings, kind: str
) -> None:
    one_epoch = replace(settings, coarse_network=kind, coarse_epochs=1)

    def train(seed: int, elsewhere: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(elsewhere)
        return bits(train_coarse(sam, synthetic, one_epoch, seed=seed, device=CPU))

    first = train(5, elsewhere=1)
    assert same(first, train(5, elsewhere=2))
    assert not same(first, train(6, elsewhere=1))


def test_the_global_generator_is_left_alone(
    sam: Sam, synthetic: FrameSet, settings: AdaptationSettings
) -> None:
    state = torch.random.get_rng_state()
    train_coarse(sam, synthetic, settings, seed=5, device=CPU)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(("batch", "steps"), [(1, 8), (3, 4), (9, 2)])
def test_every_epoch_sees_every_frame_once_whatever_the_batch(
    sam: Sam,
    synthetic: FrameSet,
    settings: AdaptationSettings,
    batch: int,
    steps: int,
) -> None:
    heard: list[tuple[int, int]] = []
    train_coarse(
        sam,
        synthetic,
        replace(settings, coarse_batch_size=batch),
        seed=3,
        device=CPU,
        on_step=lambda step, total, loss: heard.append((step, total)),
    )
    assert heard == [(step, steps) for step in range(1, steps + 1)]


def test_the_first_loss_is_ten_times_the_cross_entropy_of_the_first_view(
    sam: Sam, synthetic: FrameSet, settings: AdaptationSettings
) -> None:
    # All logits of a silenced last layer are 0: the loss is 10 log 2.
    heard: list[float] = []
    with torch.no_grad():
        for one in sam.parameters():
            one.zero_()
    train_coarse(
        sam,
        synthetic,
        replace(settings, coarse_network="sam", training="full", coarse_epochs=1),
        seed=3,
        device=CPU,
        on_step=lambda step, total, loss: heard.append(loss),
    )
    assert heard[0] == pytest.approx(10 * math.log(2), rel=1e-5)


def test_only_classes_that_are_adapted_are_learned(
    sam: Sam, synthetic: FrameSet, settings: AdaptationSettings
) -> None:
    wires = replace(settings, classes="guidewire")
    blind = replace(synthetic, masks=synthetic.masks.clone())
    blind.masks[:, 0] = 0
    with_catheters = train_coarse(sam, synthetic, wires, seed=3, device=CPU)
    without = train_coarse(sam, blind, wires, seed=3, device=CPU)
    assert same(bits(with_catheters), bits(without))


def test_frames_without_labels_of_a_class_are_refused(
    sam: Sam, synthetic: FrameSet, settings: AdaptationSettings
) -> None:
    annotated = torch.tensor([[True, False]]).repeat(4, 1)
    masks = synthetic.masks * annotated[..., None, None].byte()
    unknown = replace(synthetic, annotated=annotated, masks=masks)
    with pytest.raises(DataError, match=r"class 'guidewire'.*got 4 without"):
        train_coarse(sam, unknown, settings, seed=3, device=CPU)


def test_frames_of_another_size_are_refused(
    synthetic: FrameSet, settings: AdaptationSettings
) -> None:
    large = build_model("sam-tiny", image_size=64, seed=1)
    assert isinstance(large, Sam)
    with pytest.raises(DataError, match=r"64 px were wanted.*got 32 px"):
        train_coarse(large, synthetic, settings, seed=3, device=CPU)


def test_a_network_that_is_no_sam_trains_whole_and_takes_no_prompt_layers(
    synthetic: FrameSet, settings: AdaptationSettings
) -> None:
    unet = build_model("unet", image_size=SIZE, seed=1)
    before = bits(unet)
    with pytest.raises(DataError, match="need a SAM, got a UNet"):
        train_coarse(unet, synthetic, settings, seed=3, device=CPU)
    whole = replace(settings, coarse_network="sam", training="full")
    trained = train_coarse(unet, synthetic, whole, seed=3, device=CPU)
    assert same(bits(unet), before)
    assert not same(bits(trained), before)


def test_a_loss_that_is_no_number_stops_the_training(
    sam: Sam, synthetic: FrameSet, settings: AdaptationSettings
) -> None:
    with torch.no_grad():
        next(sam.image_encoder.parameters()).fill_(math.nan)
    with pytest.raises(TrainingError, match="nan in step 1 of 8"):
        train_coarse(sam, synthetic, settings, seed=3, device=CPU)


def test_a_view_moves_masks_and_valid_pixels_with_the_image(
    synthetic: FrameSet,
) -> None:
    valid = synthetic.valid.clone()
    valid[..., :3, :] = False
    masks = synthetic.masks * valid.byte()
    images = torch.where(valid, synthetic.images, 0.0)
    many = replace(synthetic, images=images, masks=masks, valid=valid)
    for seed in range(8):
        view = coarse_view(many, generator=generator_from(seed))
        devices = view.masks.amax(1, keepdim=True) > 0
        assert not (devices & ~view.valid).any()
        assert not view.images[~view.valid].any()
        for image, device, inside in zip(view.images, devices, view.valid, strict=True):
            assert image[device].mean() < image[inside & ~device].mean()


def test_views_differ_by_frame_and_repeat_by_seed(synthetic: FrameSet) -> None:
    one, again, other = (
        coarse_view(synthetic, generator=generator_from(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(one.images, again.images)
    assert not torch.equal(one.images, other.images)
    assert len({float(image.mean()) for image in one.images}) == 4


def test_noise_comes_in_half_of_the_views_and_flips_in_all_directions() -> None:
    count, size = 400, 8
    images = torch.full((count, 1, size, size), 0.5)
    masks = torch.zeros(count, 2, size, size, dtype=torch.uint8)
    masks[:, :, 0, 0] = 1
    flat = FrameSet(
        images=images,
        masks=masks,
        annotated=torch.ones(count, 2, dtype=torch.bool),
        sequences=torch.arange(count),
    )
    view = coarse_view(flat, generator=generator_from(4))
    spread = view.images.flatten(1).std(1)
    # Four standard deviations of a fair coin are 0.1.
    assert (spread > 1e-5).float().mean() == pytest.approx(0.5, abs=0.1)
    assert 0.08 < float(spread.max()) < 0.13
    for row in (0, -1):
        for column in (0, -1):
            share = view.masks[:, 0, row, column].float().mean()
            assert share == pytest.approx(0.25, abs=0.09)
    # 0.5 b (f + s), b in 0.8 to 1.2, f in 0.5 to 1.5, s in -0.5 to 0.5.
    means = view.images.mean((1, 2, 3))
    assert means.min() < 0.2
    assert 1.0 < means.max() < 1.25
    assert means.mean() == pytest.approx(0.5, abs=0.05)
