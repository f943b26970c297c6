import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from clients.adaptation import style_transfer
from clients.adaptation.backgrounds import Backgrounds, estimate_noise
from clients.adaptation.style_polarity import devices_are_dark, inverted
from clients.adaptation.style_transfer import (
    compose,
    restyle,
    style_backgrounds,
    transmission,
)
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from clients.data.simulator import simulate_frames
from strategies.adaptation_settings import AdaptationSettings
from strategies.settings import RunSettings, SettingValue

SIZE = 64


@pytest.fixture
def settings(run_config: dict[str, SettingValue]) -> AdaptationSettings:
    config = {**run_config, "adapt.source-frames": 6}
    return RunSettings.from_run_config(config).adapt


@pytest.fixture(scope="module")
def source() -> FrameSet:
    return simulate_frames(
        "simulation", patients=2, frames_per_patient=2, image_size=SIZE, seed=1
    )


@pytest.fixture(scope="module")
def target() -> FrameSet:
    return simulate_frames(
        "neuro", patients=4, frames_per_patient=1, image_size=SIZE, seed=2
    )


def one_frame(image: Tensor, masks: Tensor, valid: Tensor | None = None) -> FrameSet:
    return FrameSet(
        images=image[None, None],
        masks=masks[None].to(torch.uint8),
        annotated=torch.ones(1, 2, dtype=torch.bool),
        sequences=torch.zeros(1, dtype=torch.int64),
        valid=None if valid is None else valid[None, None],
    )


def plain(grey: float, size: int = SIZE) -> FrameSet:
    return one_frame(torch.full((size, size), grey), torch.zeros(2, size, size))


def on(monkeypatch: pytest.MonkeyPatch, background: Tensor, valid: Tensor) -> None:
    """Give `restyle` this background (size, size) for every frame."""

    def collect(target: FrameSet, *, count: int, **_: object) -> Backgrounds:
        shape = (count, 1, *background.shape)
        return Backgrounds(background.expand(shape), valid.expand(shape))

    monkeypatch.setattr(style_transfer, "collect_backgrounds", collect)


def test_equation_1_by_hand() -> None:
    image = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    device = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    background = torch.tensor([[0.9, 0.8], [0.7, 0.6]])
    noise = torch.tensor([[0.05, -0.05], [0.5, -0.5]])
    found = compose(image, device, background, noise)
    expected = torch.tensor([[0.15, 0.75], [1.0, 0.0]])  # the last two are clipped
    assert torch.allclose(found, expected)


def test_a_feathered_edge_mixes_device_and_background() -> None:
    quarter = compose(*torch.tensor([[0.2], [0.25], [0.6], [0.0]]))
    assert quarter.item() == pytest.approx(0.25 * 0.2 + 0.75 * 0.6)


def test_a_pasted_frame_is_equation_1_on_all_devices(
    settings: AdaptationSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    background = 0.5 + 0.4 * torch.rand(4, 4, generator=generator)
    valid = torch.ones(4, 4, dtype=torch.bool)
    valid[3] = False
    on(monkeypatch, background, valid)
    masks = torch.zeros(2, 4, 4)
    masks[0, 0] = masks[1, 1, :2] = masks[1, 3, 3] = 1  # the last one is not seen
    grey = 0.1 * torch.rand(4, 4, generator=generator)
    chosen = dataclasses.replace(settings, noise=0.0, source_frames=1)
    source = one_frame(grey, masks)
    found = restyle(source, plain(0.5, 4), chosen, seed=0, target_is_dark=True)
    expected = background.clone()
    expected[0], expected[1, :2], expected[3] = grey[0], grey[1, :2], 0.0
    assert torch.equal(found.images[0, 0], expected)
    assert torch.equal(found.valid[0, 0], valid)
    assert torch.equal(found.masks, source.masks)


@pytest.mark.parametrize("background", ["crop", "inpaint", "none"])
@pytest.mark.parametrize("composition", ["paste", "attenuate"])
def test_labels_stay_bit_identical(
    settings: AdaptationSettings,
    source: FrameSet,
    target: FrameSet,
    background: str,
    composition: str,
) -> None:
    chosen = dataclasses.replace(
        settings, background=background, composition=composition, feather=1.0
    )
    found = restyle(source, target, chosen, seed=0)
    assert len(found) == 6
    labels = {one.numpy().tobytes() for one in source.masks}
    assert {one.numpy().tobytes() for one in found.masks[:4]} == labels  # each once
    assert {one.numpy().tobytes() for one in found.masks[4:]} <= labels
    assert found.annotated.all()


def test_classes_that_nobody_looked_for_stay_unknown(
    settings: AdaptationSettings, source: FrameSet, target: FrameSet
) -> None:
    masks, annotated = source.masks.clone(), source.annotated.clone()
    masks[:, 1], annotated[:, 1] = 0, False
    half = dataclasses.replace(source, masks=masks, annotated=annotated)
    found = restyle(half, target, settings, seed=0)
    assert found.annotated[:, 0].all()
    assert not found.annotated[:, 1].any()


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(
    settings: AdaptationSettings, source: FrameSet, target: FrameSet
) -> None:
    one, same, other = (
        restyle(source, target, settings, seed=seed) for seed in (3, 3, 4)
    )
    assert one.digest() == same.digest()
    assert one.digest() != other.digest()


def test_what_a_targets_masks_say_changes_nothing(
    settings: AdaptationSettings, source: FrameSet, target: FrameSet
) -> None:
    garbage = dataclasses.replace(target, masks=1 - target.masks)
    found = restyle(source, garbage, settings, seed=0)
    assert found.digest() == restyle(source, target, settings, seed=0).digest()


def test_frames_of_one_patient_stay_together(
    settings: AdaptationSettings, source: FrameSet, target: FrameSet
) -> None:
    far = dataclasses.replace(
        source, sequences=source.sequences + 7, patients=source.patients + 90
    )
    found = restyle(far, target, settings, seed=0)
    assert set(found.sequences.tolist()) == set(found.patients.tolist()) == {0, 1}
    for mask, patient in zip(found.masks, found.patients, strict=True):
        same = (source.masks == mask).flatten(1).all(dim=1)
        assert int(source.patients[same][0]) == int(patient)


def test_without_a_background_the_drawn_frames_come_back_as_they_were(
    settings: AdaptationSettings, source: FrameSet, target: FrameSet
) -> None:
    chosen = dataclasses.replace(settings, background="none", source_frames=4)
    found = restyle(source, target, chosen, seed=0)
    drawn = {one.numpy().tobytes() for one in found.images}
    assert drawn == {one.numpy().tobytes() for one in source.images}


def test_simulated_devices_are_bright_and_pasted_ones_dark_as_in_the_target(
    settings: AdaptationSettings, source: FrameSet, target: FrameSet
) -> None:
    assert not devices_are_dark(source)
    assert devices_are_dark(inverted(source))
    assert devices_are_dark(restyle(source, target, settings, seed=0))


def test_on_a_bright_target_bright_devices_stay_bright(
    settings: AdaptationSettings, source: FrameSet, target: FrameSet
) -> None:
    negative = inverted(target)
    for composition in ("paste", "attenuate"):
        chosen = dataclasses.replace(settings, composition=composition)
        found = restyle(source, negative, chosen, seed=0, target_is_dark=False)
        assert not devices_are_dark(found)


def test_inverting_leaves_what_is_behind_the_collimator() -> None:
    valid = torch.tensor([[True, False], [True, True]])
    image = torch.tensor([[0.2, 0.0], [0.0, 1.0]])
    found = inverted(one_frame(image, torch.zeros(2, 2, 2), valid)).images[0, 0]
    assert torch.allclose(found, torch.tensor([[0.8, 0.0], [1.0, 0.0]]))


def test_frames_without_a_device_count_as_dark() -> None:
    assert devices_are_dark(plain(0.5))


def test_given_noise_is_added_everywhere(
    settings: AdaptationSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    everywhere = torch.ones(SIZE, SIZE, dtype=torch.bool)
    on(monkeypatch, torch.full((SIZE, SIZE), 0.6), everywhere)
    masks = torch.zeros(2, SIZE, SIZE)
    masks[0, 16:48] = 1
    chosen = dataclasses.replace(settings, noise=0.03, source_frames=3)
    source = one_frame(torch.full((SIZE, SIZE), 0.4), masks)
    found = restyle(source, plain(0.5), chosen, seed=0, target_is_dark=True)
    inside = found.images[:, 0, 16:48] - 0.4
    outside = found.images[:, 0, :16] - 0.6
    assert inside.std() == pytest.approx(0.03, rel=0.05)
    assert outside.std() == pytest.approx(0.03, rel=0.05)
    assert not torch.equal(inside[0], inside[1])


def test_estimated_noise_is_added_to_the_device_alone(
    settings: AdaptationSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    everywhere = torch.ones(SIZE, SIZE, dtype=torch.bool)

    def noisy(grey: float, sigma: float) -> Tensor:
        return torch.from_numpy(rng.normal(grey, sigma, (SIZE, SIZE))).float()

    background = noisy(0.6, 0.03)
    on(monkeypatch, background, everywhere)
    masks = torch.zeros(2, SIZE, SIZE)
    masks[0, 16:48] = 1
    source = one_frame(noisy(0.4, 0.01), masks)
    target = one_frame(noisy(0.6, 0.03), torch.zeros(2, SIZE, SIZE))
    chosen = dataclasses.replace(settings, noise=-1.0, source_frames=1)
    found = restyle(source, target, chosen, seed=0, target_is_dark=True)
    composed = found.images[0, 0]
    assert torch.equal(composed[:16], background[:16])
    # 0.01 of the source and what was added make 0.03.
    assert composed[16:48].std() == pytest.approx(0.03, rel=0.1)


def test_synthetic_frames_are_as_noisy_as_the_target(
    settings: AdaptationSettings, source: FrameSet, target: FrameSet
) -> None:
    chosen = dataclasses.replace(settings, source_frames=12)
    found = restyle(source, target, chosen, seed=0)
    assert estimate_noise(found) == pytest.approx(estimate_noise(target), rel=0.3)


def test_an_attenuating_device_darkens_what_is_behind_it(
    settings: AdaptationSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ramp = torch.linspace(0.2, 0.9, SIZE).expand(SIZE, SIZE)
    on(monkeypatch, ramp, torch.ones(SIZE, SIZE, dtype=torch.bool))
    masks = torch.zeros(2, SIZE, SIZE)
    masks[1, 30:33] = 1
    grey = torch.full((SIZE, SIZE), 0.8)
    grey[30:33] = 0.2  # a quarter of the light comes through
    chosen = dataclasses.replace(
        settings, composition="attenuate", noise=0.0, source_frames=1
    )
    source = one_frame(grey, masks)
    found = restyle(source, plain(0.5), chosen, seed=0, target_is_dark=True)
    composed = found.images[0, 0]
    assert torch.allclose(composed[30:33], 0.25 * ramp[30:33], atol=1e-3)
    assert torch.equal(composed[:30], ramp[:30])


def test_transmission_is_1_away_from_the_device_and_on_saturated_black() -> None:
    image, device = torch.zeros(16, 16), torch.zeros(16, 16, dtype=torch.bool)
    device[8, 2:14] = True
    found = transmission(image, device, torch.ones(16, 16, dtype=torch.bool))
    assert torch.isfinite(found).all()
    assert torch.equal(found[:5], torch.ones(5, 16))


def test_backgrounds_of_the_sheet_are_those_of_the_synthetic_frames(
    settings: AdaptationSettings, source: FrameSet, target: FrameSet
) -> None:
    found = restyle(source, target, settings, seed=9)
    behind = style_backgrounds(target, settings, seed=9, count=2)
    for number in range(2):
        ground = found.masks[number].amax(dim=0) == 0
        same = found.images[number, 0] == behind.images[number, 0]
        assert same[ground].all()


def test_bad_input_is_refused_in_a_sentence(
    settings: AdaptationSettings, source: FrameSet
) -> None:
    with pytest.raises(DataError, match="one size, got 64 and 32 px"):
        restyle(source, plain(0.5, 32), settings, seed=0)
    with pytest.raises(DataError, match="no device in any mask"):
        restyle(plain(0.5), plain(0.5), settings, seed=0)
