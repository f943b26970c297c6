"""Simulated hospitals: repeatable, different, and labelled exactly."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch

from clients.data import simulator
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from clients.data.simulator import (
    SimulatedSequence,
    is_domain,
    simulate_frames,
    simulate_sequence,
)
from clients.fluoroscopy.distractors import DISTRACTORS
from clients.fluoroscopy.domains import DOMAINS
from models.classes import CLASS_NAMES


def simulate(domain: str = "human", **changes: int) -> FrameSet:
    arguments = {"patients": 3, "frames_per_patient": 2, "image_size": 64, "seed": 1}
    return simulate_frames(domain, **{**arguments, **changes})


@cache
def hospital(domain: str) -> FrameSet:
    """Return ten patients, one frame each; several tests look at the same ones."""
    return simulate(domain, patients=10, frames_per_patient=1, image_size=128)


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
    frames = [hospital(domain) for domain in DOMAINS]
    assert len({one.digest() for one in frames}) == len(DOMAINS)
    assert len({one.masks.numpy().tobytes() for one in frames}) == len(DOMAINS)


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
    frames = hospital(domain)
    assert contrast(frames, "guidewire") < -0.04


def test_devices_are_bright_in_rendered_frames() -> None:
    frames = hospital("simulation")
    assert contrast(frames, "guidewire") > 0.04


@pytest.mark.parametrize("domain", sorted(DOMAINS))
def test_devices_are_thin_and_mostly_there(domain: str) -> None:
    frames = hospital(domain)
    share = frames.masks.float().mean(dim=(2, 3))
    assert float(share.max()) < 0.06
    shown = (share > 0).float().mean(dim=0)
    assert bool((shown > 0.5).all())
    both = frames.masks[:, 0] & frames.masks[:, 1]
    assert int(both.sum()) > 0


def test_no_threshold_on_grey_solves_the_task() -> None:
    images, masks = [], []
    for domain in ("human", "animal", "phantom", "simulation"):
        frames = hospital(domain)
        images.append(frames.images[:, 0])
        masks.append(frames.masks.amax(1) > 0)
    grey, device = torch.cat(images), torch.cat(masks)
    for threshold in torch.linspace(0, 1, 21):
        for guess in (grey <= threshold, grey >= threshold):
            dice = 2 * (guess & device).sum() / (guess.sum() + device.sum())
            assert float(dice) < 0.4


def test_what_the_collimator_hides_is_not_in_the_mask() -> None:
    frames = hospital("phantom")
    corners = frames.masks[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert int(frames.masks.sum()) > 0 and int(corners.sum()) == 0
    # The outermost pixels are behind the blades of every phantom frame.
    assert int(frames.masks[:, :, 0].sum() + frames.masks[:, :, :, 0].sum()) == 0


def test_what_is_valid_holds_every_device() -> None:
    for domain in ("human", "phantom", "animal", "random-3"):
        frames = simulate(domain, patients=4, frames_per_patient=2, image_size=96)
        assert not bool(
            (frames.masks.amax(1, keepdim=True).bool() & ~frames.valid).any()
        )
        assert float(frames.valid.float().mean()) > 0.4
        # Nothing is shown behind the collimator, as in frames of an archive.
        assert not bool(frames.images[~frames.valid].any())
        inside = frames.images[frames.valid]
        assert float(inside.min()) == 0 and float(inside.max()) == 1


def test_the_patients_token_is_their_number() -> None:
    assert simulate(patients=3).patients.tolist() == [0, 0, 1, 1, 2, 2]


def test_the_number_of_threads_changes_no_bit() -> None:
    usual = cv2.getNumThreads()
    try:
        digests = []
        for threads in (1, 2, 4):
            cv2.setNumThreads(threads)
            digests.append(simulate(image_size=160, patients=2).digest())
    finally:
        cv2.setNumThreads(usual)
    assert len(set(digests)) == 1


def test_distractors_change_the_picture_but_no_mask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = replace(DOMAINS["human"], distractors={})
    laden = replace(plain, distractors=dict.fromkeys(DISTRACTORS, 1.0))
    found = []
    for domain in (plain, laden):
        monkeypatch.setattr(simulator, "DOMAINS", {"human": domain})
        found.append(simulate(image_size=96))
    assert torch.equal(found[0].masks, found[1].masks)
    changed = (found[0].images - found[1].images).abs() > 0.05
    assert 0.01 < float(changed.float().mean()) < 0.8


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("human", True),
        ("neuro", True),
        ("random-0", True),
        ("random-17", True),
        ("random-", False),
        ("random--1", False),
        ("random-01", False),
        ("Random-1", False),
        ("random-1 ", False),
        ("", False),
    ],
)
def test_names_of_domains_are_known(name: str, known: bool) -> None:
    assert is_domain(name) == known


def test_random_domains_are_hospitals_of_their_own() -> None:
    first, again, other = (
        simulate(name, patients=4) for name in ("random-1", "random-1", "random-2")
    )
    assert first.digest() == again.digest() != other.digest()
    grey = [float(frames.images[frames.valid].mean()) for frames in (first, other)]
    assert abs(grey[0] - grey[1]) > 0.01


def sequence(domain: str = "human", **changes: int) -> SimulatedSequence:
    arguments = {"patient": 1, "frames": 4, "image_size": 96, "seed": 1}
    return simulate_sequence(domain, **{**arguments, **changes})


@pytest.mark.parametrize("domain", ["human", "phantom", "random-4"])
def test_a_sequence_is_what_simulate_frames_shows(domain: str) -> None:
    sequences = [sequence(domain, patient=patient, frames=2) for patient in (0, 1)]
    frames = simulate(domain, patients=2, image_size=96)
    masks = np.concatenate([one.masks for one in sequences])
    assert np.array_equal(masks, frames.masks.numpy())
    assert np.array_equal(sequences[1].valid, frames.valid[2, 0].numpy())
    shown = np.where(sequences[1].valid, sequences[1].images, 0)
    assert np.corrcoef(shown[0].ravel(), frames.images[2].ravel())[0, 1] > 0.95


@pytest.mark.parametrize("domain", ["animal", "phantom", "neuro"])
def test_frames_are_the_same_whichever_comes_first(domain: str) -> None:
    # Lag mixes in frames before the first; they must be those of the long sequence.
    whole, part = sequence(domain, frames=8), sequence(domain, frames=2, first_frame=6)
    assert np.array_equal(whole.images[6:], part.images)
    assert np.array_equal(whole.masks[6:], part.masks)
    for name in CLASS_NAMES:
        assert np.array_equal(whole.tips[name][6:], part.tips[name], equal_nan=True)


def test_a_sequence_tells_shapes_units_and_ranges() -> None:
    found = sequence()
    assert found.images.shape == (4, 96, 96) and found.images.dtype == np.float32
    assert found.masks.shape == (4, 2, 96, 96) and found.masks.dtype == np.uint8
    assert 0 <= found.images.min() and found.images.max() <= 1
    assert np.allclose(found.images * 255, np.rint(found.images * 255), atol=1e-4)
    assert set(found.tips) == set(found.polylines) == set(CLASS_NAMES)
    assert 110 / 96 <= found.spacing_mm <= 170 / 96
    assert 30 < found.frame_time_ms < 140


@pytest.mark.parametrize("domain", ["human", "animal", "phantom", "neuro", "random-2"])
def test_tips_end_the_main_polyline_and_lie_in_the_mask(domain: str) -> None:
    checked = 0
    for patient in range(3):
        found = sequence(domain, patient=patient, frames=2)
        for index, name in enumerate(CLASS_NAMES):
            for frame, tip in enumerate(found.tips[name]):
                if np.isnan(tip).any():
                    continue
                assert np.array_equal(found.polylines[name][frame][0][-1], tip)
                rows, columns = np.nonzero(found.masks[frame, index])
                away = np.hypot(rows + 0.5 - tip[1], columns + 0.5 - tip[0]).min()
                assert away < 1.0
                checked += 1
    assert checked > 2


def test_masks_follow_the_polylines() -> None:
    found = sequence("phantom", image_size=128, frames=1)
    for index, name in enumerate(CLASS_NAMES):
        rows, columns = np.nonzero(found.masks[0, index])
        points = np.concatenate(found.polylines[name][0])
        away = np.hypot(
            columns[:, None] + 0.5 - points[:, 0], rows[:, None] + 0.5 - points[:, 1]
        ).min(axis=1)
        # 4.2 px wide at most, and points 0.67 px apart.
        assert away.max() < 2.1 + 0.34


def test_neighbouring_frames_show_the_same_patient_moved_a_little() -> None:
    found = sequence("human", frames=12, image_size=128)
    lines = [frame[0] for frame in found.polylines["catheter"]]
    for before, after in pairwise(lines):
        gaps = np.hypot(*(before[::8, None] - after).transpose(2, 0, 1)).min(axis=1)
        assert gaps.max() < 0.02 * 128
    assert np.abs(lines[0][-1] - lines[-1][-1]).max() > 0.2


def test_a_field_without_devices_yet_has_no_tip(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late = replace(DOMAINS["human"].devices, late=1.0)
    monkeypatch.setattr(
        simulator, "DOMAINS", {"human": replace(DOMAINS["human"], devices=late)}
    )
    found = sequence(frames=1)
    assert not found.masks.any()
    assert all(np.isnan(tips).all() for tips in found.tips.values())
    assert all(frames == ((),) for frames in found.polylines.values())


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patient": -1}, "patient must be at least 0, got -1"),
        ({"frames": 0}, "frames must be at least 1, got 0"),
        ({"first_frame": -2}, "first_frame must be at least 0, got -2"),
    ],
)
def test_sequences_that_make_no_sense_are_refused(
    changes: dict[str, int], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        sequence(**changes)


def test_an_unknown_domain_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DataError, match="animal, human, neuro, phantom, simulation"):
        simulate("robot")
