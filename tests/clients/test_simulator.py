"""Simulated hospitals: repeatable, different, and labelled exactly."""

import time

import numpy as np
import pytest
import torch

from clients.data.errors import DataError
from clients.data.frames import FrameSet
from clients.data.simulator import DOMAINS, simulate_frames
from clients.data.splits import split_by_sequence
from models.classes import CLASS_NAMES


def simulate(domain: str = "human", **changes: int) -> FrameSet:
    arguments = {"patients": 3, "frames_per_patient": 2, "image_size": 64, "seed": 1}
    return simulate_frames(domain, **{**arguments, **changes})


def contrast(frames: FrameSet, label: str) -> float:
    """Return how much brighter a device is than the pixels just beside it."""
    found = []
    index = CLASS_NAMES.index(label)
    for image, mask in zip(frames.images[:, 0], frames.masks[:, index], strict=True):
        grown = torch.nn.functional.max_pool2d(mask[None].float(), 9, 1, 4)[0] > 0
        beside = grown & ~(frames.masks.amax(1).amax(0) > 0)
        if mask.any() and beside.any():
            found.append(float(image[mask > 0].mean() - image[beside].mean()))
    return float(np.mean(found))


def test_four_types_of_the_paper_and_one_held_out() -> None:
    assert sorted(DOMAINS) == ["animal", "human", "neuro", "phantom", "simulation"]


@pytest.mark.parametrize("domain", sorted(DOMAINS))
def test_the_same_arguments_give_the_same_bits(domain: str) -> None:
    first = simulate(domain)
    assert first.digest() == simulate(domain).digest()
    assert first.digest() != simulate(domain, seed=2).digest()
    assert len(first) == 6
    assert first.sequences.tolist() == [0, 0, 1, 1, 2, 2]
    assert bool(first.annotated.all())


def test_a_patient_does_not_depend_on_who_else_is_asked_for() -> None:
    few = simulate(patients=2, frames_per_patient=2)
    many = simulate(patients=4, frames_per_patient=3)
    same = many.subset(torch.tensor([0, 1, 3, 4]))
    assert torch.equal(few.images, same.images)
    assert torch.equal(few.masks, same.masks)


def test_domains_share_no_patients() -> None:
    assert len({simulate(domain).digest() for domain in DOMAINS}) == len(DOMAINS)
    masks = [simulate(domain).masks.numpy().tobytes() for domain in DOMAINS]
    assert len(set(masks)) == len(DOMAINS)


def test_frames_of_one_patient_are_near_duplicates() -> None:
    frames = simulate("phantom", patients=6, frames_per_patient=2, image_size=96)
    images = frames.images.flatten(1)
    similar = torch.corrcoef(images)
    within = similar[range(0, 12, 2), range(1, 12, 2)]
    across = similar[0:12:2, 0:12:2][~torch.eye(6, dtype=torch.bool)]
    assert float(within.mean()) > float(across.mean()) + 0.05
    assert not torch.equal(frames.masks[0], frames.masks[1])


@pytest.mark.parametrize("domain", ["human", "animal", "phantom", "neuro"])
def test_devices_are_dark_in_fluoroscopy(domain: str) -> None:
    frames = simulate(domain, patients=8, frames_per_patient=1, image_size=128)
    assert contrast(frames, "guidewire") < -0.04


def test_devices_are_bright_in_rendered_frames() -> None:
    frames = simulate("simulation", patients=8, frames_per_patient=1, image_size=128)
    assert contrast(frames, "guidewire") > 0.04


@pytest.mark.parametrize("domain", sorted(DOMAINS))
def test_devices_are_thin_and_mostly_there(domain: str) -> None:
    frames = simulate(domain, patients=12, frames_per_patient=2, image_size=128)
    share = frames.masks.float().mean(dim=(2, 3))
    assert float(share.max()) < 0.06
    shown = (share > 0).float().mean(dim=0)
    assert bool((shown > 0.5).all())
    both = frames.masks[:, 0] & frames.masks[:, 1]
    assert int(both.sum()) > 0


def test_no_threshold_on_grey_solves_the_task() -> None:
    images, masks = [], []
    for domain in ("human", "animal", "phantom", "simulation"):
        frames = simulate(domain, patients=4, frames_per_patient=1, image_size=128)
        images.append(frames.images[:, 0])
        masks.append(frames.masks.amax(1) > 0)
    grey, device = torch.cat(images), torch.cat(masks)
    for threshold in torch.linspace(0, 1, 21):
        for guess in (grey <= threshold, grey >= threshold):
            dice = 2 * (guess & device).sum() / (guess.sum() + device.sum())
            assert float(dice) < 0.4


def test_what_the_collimator_hides_is_not_in_the_mask() -> None:
    frames = simulate("phantom", patients=10, frames_per_patient=1, image_size=128)
    corners = frames.masks[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert int(frames.masks.sum()) > 0 and int(corners.sum()) == 0
    # The outermost pixels are behind the blades of every phantom frame.
    assert int(frames.masks[:, :, 0].sum() + frames.masks[:, :, :, 0].sum()) == 0


def test_twelve_patients_can_be_split() -> None:
    frames = simulate("animal", patients=12, frames_per_patient=2)
    split = split_by_sequence(frames, seed=0)
    assert len(split.train) == 16 and len(split.test) == 4


def test_a_hospital_of_48_frames_takes_seconds_at_most() -> None:
    began = time.perf_counter()
    simulate(patients=12, frames_per_patient=4, image_size=128)
    # About half a second on one free core; generous, since cores may be shared.
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patients": 0}, "patients must be at least 1, got 0"),
        ({"frames_per_patient": -1}, "frames_per_patient must be at least 1"),
        ({"image_size": 16}, "image_size must be at least 32"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(
    changes: dict[str, int], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        simulate(**changes)


def test_an_unknown_domain_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DataError, match="animal, human, neuro, phantom, simulation"):
        simulate("robot")
