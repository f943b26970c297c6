"""Each grey change does what its source says, and nothing else."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from clients.data import photometric
from clients.data.photometric import (
    change_lightly,
    change_strongly,
    change_weakly,
    two_sided,
)

RECIPES = [change_lightly, change_weakly, change_strongly]
Recipe = Callable[..., Tensor]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int, size: int = 24, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return smooth images in [0.1, 0.9] with a border that is not valid."""
    images = torch.rand(count, 1, size, size, generator=seeded(seed))
    images = torch.nn.functional.avg_pool2d(images, 3, stride=1, padding=1)
    low, high = images.min(), images.max()
    valid = torch.ones(images.shape, dtype=torch.bool)
    valid[..., :4] = False
    return torch.where(valid, 0.1 + 0.8 * (images - low) / (high - low), 0.0), valid


def step(name: str, images: Tensor, valid: Tensor, *draws: float) -> Tensor:
    """Apply one step with chosen numbers to every image."""
    numbers = torch.zeros(len(images), 21)
    numbers[:, : len(draws)] = torch.tensor(draws)
    change: Callable[[Tensor, Tensor, Tensor], Tensor] = getattr(photometric, name)
    return change(images, valid, numbers if name == "_shade" else numbers[:, :2])


@pytest.mark.parametrize("recipe", RECIPES)
def test_images_stay_in_range_and_black_where_not_valid(recipe: Recipe) -> None:
    images, valid = batch(64)
    before = images.clone()
    changed = recipe(images, valid, generator=seeded(1))
    assert changed.shape == images.shape and changed.dtype == torch.float32
    assert 0 <= float(changed.min()) and float(changed.max()) <= 1
    assert not changed[~valid].any()
    assert torch.equal(images, before)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_generator_decides_everything(recipe: Recipe) -> None:
    images, valid = batch(16)
    first = recipe(images, valid, generator=seeded(2))
    assert torch.equal(first, recipe(images, valid, generator=seeded(2)))
    assert not torch.equal(first, recipe(images, valid, generator=seeded(3)))


@pytest.mark.parametrize("recipe", RECIPES)
def test_as_much_randomness_is_used_for_any_content(recipe: Recipe) -> None:
    images, valid = batch(8)
    after = []
    for content in (images, torch.zeros_like(images), torch.ones_like(images)):
        for region in (valid, torch.zeros_like(valid)):
            generator = seeded(4)
            recipe(content * region, region, generator=generator)
            after.append(torch.rand(4, generator=generator).tolist())
    assert len({tuple(numbers) for numbers in after}) == 1


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_frame_is_changed_in_its_own_way(recipe: Recipe) -> None:
    images, valid = batch(1)
    changed = recipe(
        images.repeat(24, 1, 1, 1), valid.repeat(24, 1, 1, 1), generator=seeded(5)
    )
    found = {round(float(one.square().sum()), 4) for one in changed}
    # Light changes every frame; of the others some frames have no change at all.
    assert len(found) >= (24 if recipe is change_lightly else 12)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_constant_and_empty_frames_do_no_harm(recipe: Recipe, level: float) -> None:
    images = torch.full((40, 1, 12, 12), level)
    valid = torch.ones(images.shape, dtype=torch.bool)
    valid[20:] = False
    changed = recipe(images * valid, valid, generator=seeded(6))
    assert bool(torch.isfinite(changed).all()) and not changed[20:].any()


def test_the_weak_recipe_changes_as_many_frames_as_its_probabilities_say() -> None:
    images, valid = batch(1, size=16)
    many = 600
    changed = change_weakly(
        images.expand(many, -1, -1, -1),
        valid.expand(many, -1, -1, -1),
        generator=seeded(7),
    )
    same = (changed == images).all(dim=3).all(dim=2).all(dim=1)
    untouched = 0.9 * 0.8 * 0.85 * 0.85 * 0.75 * 0.9 * 0.7
    deviation = np.sqrt(untouched * (1 - untouched) / many)
    assert float(same.double().mean()) == pytest.approx(untouched, abs=4 * deviation)


def test_each_weak_step_has_the_probability_of_fga_nets_table() -> None:
    shares = {step.__name__: share for share, step in photometric._WEAK_STEPS}
    assert shares == {
        "_blur": 0.2,
        "_multiply": 0.15,
        "_contrast": 0.15,
        "_coarsen": 0.25,
        "_inverted_gamma": 0.1,
        "_gamma": 0.3,
    }
    assert list(shares)[-1] == "_gamma"  # the order is part of the recipe


def test_the_strong_recipe_leaves_one_frame_in_sixty_four_alone() -> None:
    images, valid = batch(1, size=16)
    many = 1500
    changed = change_strongly(
        images.expand(many, -1, -1, -1),
        valid.expand(many, -1, -1, -1),
        generator=seeded(8),
    )
    same = (changed == images).all(dim=3).all(dim=2).all(dim=1)
    deviation = np.sqrt(1 / 64 / many)
    assert float(same.double().mean()) == pytest.approx(1 / 64, abs=4 * deviation)


def test_factors_lie_below_one_as_often_as_above() -> None:
    draws = torch.rand(4000, 2, generator=seeded(9))
    factors = two_sided(draws, (0.7, 1.5))
    assert 0.7 <= float(factors.min()) < 0.71 and 1.49 < float(factors.max()) <= 1.5
    assert float((factors < 1).double().mean()) == pytest.approx(0.5, abs=0.03)


def test_contrast_stretches_about_the_mean_within_the_frames_own_range() -> None:
    images, valid = batch(2)
    found = step("_contrast", images, valid, 0.9, 0.999999)  # factor 1.25
    for image, inside, one in zip(images, valid, found, strict=True):
        grey = image[inside].double().numpy()
        expected = np.clip((grey - grey.mean()) * 1.25 + grey.mean(), 0, 1)
        expected = expected.clip(grey.min(), grey.max())
        assert np.allclose(one[inside].numpy(), expected, atol=1e-5)


def test_brightness_multiplies() -> None:
    images, valid = batch(2)
    found = step("_multiply", images, valid, 0.25)  # 0.75 + 0.25 * 0.5
    assert torch.allclose(found, 0.875 * images)


@pytest.mark.parametrize("name", ["_gamma", "_inverted_gamma"])
@pytest.mark.parametrize("draws", [(0.1, 0.0), (0.9, 0.999999)])
def test_gamma_keeps_mean_and_deviation_and_bends_the_right_way(
    name: str, draws: tuple[float, float]
) -> None:
    images, valid = batch(3)
    found = step(name, images, valid, *draws)
    for image, inside, one in zip(images, valid, found, strict=True):
        before, after = image[inside].double(), one[inside].double()
        assert float(after.mean()) == pytest.approx(float(before.mean()), abs=1e-5)
        assert float(after.std()) == pytest.approx(float(before.std()), rel=1e-4)
        # The order of grey values stays; an exponent above 1 bends upwards.
        order = before.argsort()
        assert bool((after[order].diff() > -1e-6).all())
        bent = float(((after - after.mean()) ** 3).mean())
        straight = float(((before - before.mean()) ** 3).mean())
        upwards = (draws[0] > 0.5) == (name == "_gamma")
        assert (bent > straight) == upwards


def test_the_blur_is_a_gaussian() -> None:
    image = torch.zeros(1, 1, 15, 15)
    image[..., 7, 7] = 1
    found = step("_blur", image, image > -1, 1.0)[0, 0].numpy()  # sigma 1
    reference = cv2.GaussianBlur(image[0, 0].numpy(), (7, 7), 1.0)
    assert np.allclose(found, reference, atol=1e-6)


def test_low_resolution_loses_detail_and_keeps_the_rest() -> None:
    x = torch.linspace(0, 1, 64).repeat(64, 1)[None, None]
    stripes = (torch.arange(64) % 2).float().repeat(64, 1)[None, None]
    everywhere = x > -1
    assert torch.allclose(step("_coarsen", x, everywhere, 0.0), x, atol=0.03)
    assert float(step("_coarsen", stripes, everywhere, 0.0).std()) < 0.01  # half
    full = step("_coarsen", stripes, everywhere, 1.0)  # zoom 1: nothing happens
    assert torch.allclose(full, stripes, atol=1e-5)


def test_posterize_leaves_sixteen_levels() -> None:
    image = torch.linspace(0, 1, 1024).reshape(1, 1, 32, 32)
    found = step("_posterize", image, image > -1)
    assert len(found.unique()) == 16
    assert float((found - image).abs().max()) <= 1 / 16


def test_equalize_makes_the_valid_grey_values_evenly_frequent() -> None:
    image = torch.rand(1, 1, 64, 64, generator=seeded(10)) ** 1.5
    valid = torch.ones(image.shape, dtype=torch.bool)
    valid[..., :40] = False
    found = step("_equalize", image, valid)
    inside = found[valid].numpy()
    quartiles = np.quantile(inside, [0, 0.25, 0.5, 0.75, 1])
    assert np.allclose(quartiles, [0, 0.25, 0.5, 0.75, 1], atol=0.05)
    assert torch.equal(found[~valid], image[~valid])


def test_sharpening_is_albumentations_kernel() -> None:
    images, valid = batch(1)
    found = step("_sharpen", images, valid, 0.5, 0.5)[0, 0].numpy()
    share, lightness = 0.35, 0.75
    kernel = np.full((3, 3), -share)
    kernel[1, 1] = (1 - share) + share * (8 + lightness)
    reference = cv2.filter2D(images[0, 0].numpy(), cv2.CV_32F, kernel)
    assert np.allclose(found, reference, atol=1e-5)


def test_solarize_inverts_the_bright_half() -> None:
    image = torch.tensor([0.0, 0.3, 0.5, 0.6, 1.0, 0.501]).reshape(1, 1, 2, 3)
    found = step("_solarize", image, image > -1).flatten().tolist()
    assert found == pytest.approx([0.0, 0.3, 0.5, 0.4, 0.0, 0.501])


def test_brightness_and_contrast_have_albumentations_limits() -> None:
    image = torch.full((1, 1, 2, 2), 0.5)
    found = [
        float(step("_brighten", image, image > -1, *draws).mean())
        for draws in [(0.5, 0.5), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0)]
    ]
    assert found == pytest.approx([0.5, 0.4, 0.7, 0.8])


def test_a_shadow_halves_a_polygon_of_the_lower_half() -> None:
    image = torch.full((1, 1, 40, 40), 0.8)
    square = [0.0, 0.25, 0.2, 0.75, 0.2, 0.75, 0.8, 0.25, 0.8, 0.25, 0.2]
    found = step("_shade", image, image > -1, *square)[0, 0]
    dark = torch.nonzero(found < 0.5)
    assert dark.amin(dim=0).tolist() == [24, 10]
    assert dark.amax(dim=0).tolist() == [36, 30]
    assert len(dark) == 13 * 21 and found.unique().tolist() == pytest.approx([0.4, 0.8])
