"""Fluoroscopy of many kinds of hospital, made from geometry and physics.

Devices and anatomy attenuate a beam of several energies; a detector and a display
turn it into grey values; masks, tips and centrelines come from the geometry itself
and are exact. What is in each kind of hospital stands in
`clients.fluoroscopy.domains`.

The frames serve to build, test and compare methods. Numbers reached on them say
nothing about patients.
"""

import re
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.errors import DataError
from clients.data.frames import FrameSet
from clients.data.preprocessing import normalise_frame
from clients.fluoroscopy.display import MAX_GREY, develop
from clients.fluoroscopy.domains import DOMAINS, Domain
from clients.fluoroscopy.geometry import Curve, Field
from clients.fluoroscopy.patient import Patient, Scene, draw_patient
from clients.fluoroscopy.random_domain import random_domain
from models.classes import CLASS_NAMES

MIN_IMAGE_SIZE = 32
MEMORY = 3  # frames before the first that lag still shows
RANDOM_DOMAIN = re.compile(r"random-(0|[1-9][0-9]{0,8})")


@dataclass(frozen=True)
class SimulatedSequence:
    """What one patient's fluoroscopy shows, and the truth about it.

    Places are in px, x to the right and y downwards from the corner of the image; the
    centre of the first pixel is at (0.5, 0.5).

    Attributes:
        images: float32 (frames, size, size) in [0, 1], as displayed: 8-bit grey / 255.
        masks: uint8 (frames, classes, size, size) in {0, 1}.
        tips: Class name -> float64 (frames, 2), x and y of the tip of the main device;
            NaN when it is not in the field of view, or there is none.
        polylines: Class name -> for each frame its devices, the main one first, each
            float64 (points, 2) from the entry to the tip; may leave the image.
        valid: bool (size, size), inside the collimator.
        spacing_mm: Side of a pixel, at the patient.
        frame_time_ms: From frame to frame.
    """

    images: NDArray[np.float32]
    masks: NDArray[np.uint8]
    tips: dict[str, NDArray[np.float64]]
    polylines: dict[str, tuple[tuple[Curve, ...], ...]]
    valid: NDArray[np.bool_]
    spacing_mm: float
    frame_time_ms: float


def is_domain(name: str) -> bool:
    """Tell whether frames of this name can be simulated.

    Args:
        name: One of `DOMAINS`, or "random-N" with a whole number N >= 0.

    Returns:
        True if `simulate_frames` knows it.
    """
    return name in DOMAINS or RANDOM_DOMAIN.fullmatch(name) is not None


def simulate_frames(
    domain: str, *, patients: int, frames_per_patient: int, image_size: int, seed: int
) -> FrameSet:
    """Simulate the labelled frames of one hospital.

    Args:
        domain: A name in `DOMAINS`, or "random-N": the N-th unseen hospital.
        patients: Number of patients, >= 1; each is one sequence.
        frames_per_patient: Frames of each sequence, >= 1; near-duplicates.
        image_size: Side of the frames, px, >= 32.
        seed: >= 0. The same arguments give the same bits; a patient's frames depend
            on neither the number of patients nor the number of frames.

    Returns:
        Patients in order, each with its frames in order, all classes annotated. The
        frames have passed `normalise_frame` and are 0 behind the collimator, as real
        ones; `valid` is the field of view inside it.

    Raises:
        DataError: If the domain is unknown or a number is too small.
    """
    _check_arguments(domain, patients=patients, frames_per_patient=frames_per_patient)
    _check_arguments(domain, image_size=image_size, seed=seed)
    images, masks, valid = [], [], []
    for number in range(patients):
        patient = _draw(domain, number, image_size, seed)
        seen = patient.exposure.field_of_view
        for grey, scene in _film(domain, patient, number, seed, 0, frames_per_patient):
            image = normalise_frame(grey, seen)
            images.append(np.where(seen, image, np.float32(0)))
            masks.append(_masks(scene, patient))
            valid.append(seen)
    numbers = torch.arange(patients).repeat_interleave(frames_per_patient)
    return FrameSet(
        images=torch.from_numpy(np.stack(images)[:, None]),
        masks=torch.from_numpy(np.stack(masks)),
        annotated=torch.ones(len(images), len(CLASS_NAMES), dtype=torch.bool),
        sequences=numbers,
        patients=numbers.clone(),
        valid=torch.from_numpy(np.stack(valid)[:, None]),
    )


def simulate_sequence(
    domain: str,
    *,
    patient: int,
    frames: int,
    image_size: int,
    seed: int,
    first_frame: int = 0,
) -> SimulatedSequence:
    """Simulate one patient's sequence with everything that is known about it.

    Args:
        domain: A name in `DOMAINS`, or "random-N".
        patient: Number of the patient, >= 0, the same as in `simulate_frames`.
        frames: Number of frames, >= 1.
        image_size: Side of the frames, px, >= 32.
        seed: >= 0.
        first_frame: Number of the first frame, >= 0; frames are the same whichever
            comes first.

    Returns:
        Frames as displayed, with masks, tips and centrelines.

    Raises:
        DataError: If the domain is unknown or a number is too small.
    """
    _check_arguments(domain, frames=frames, image_size=image_size)
    _check_arguments(domain, patient=patient, seed=seed, first_frame=first_frame)
    drawn = _draw(domain, patient, image_size, seed)
    film = list(_film(domain, drawn, patient, seed, first_frame, frames))
    polylines = {
        name: tuple(
            tuple(device.curve * image_size for device in scene.devices.get(name, []))
            for _, scene in film
        )
        for name in CLASS_NAMES
    }
    return SimulatedSequence(
        images=np.stack([grey / np.float32(MAX_GREY) for grey, _ in film]),
        masks=np.stack([_masks(scene, drawn) for _, scene in film]),
        tips={name: _tips(polylines[name], drawn) for name in CLASS_NAMES},
        polylines=polylines,
        valid=drawn.exposure.field_of_view,
        spacing_mm=drawn.field_mm / image_size,
        frame_time_ms=1000 * drawn.frame_time_s,
    )


_LEAST = {
    "patients": 1,
    "frames_per_patient": 1,
    "frames": 1,
    "image_size": MIN_IMAGE_SIZE,
    "patient": 0,
    "first_frame": 0,
    "seed": 0,
}


def _check_arguments(domain: str, **numbers: int) -> None:
    if not is_domain(domain):
        known = ", ".join(sorted(DOMAINS))
        raise DataError(f"The domain must be one of {known}, or random-N (N >= 0).")
    for name, value in numbers.items():
        if value < _LEAST[name]:
            raise DataError(f"{name} must be at least {_LEAST[name]}, got {value}.")


def _domain(name: str) -> Domain:
    if name in DOMAINS:
        return DOMAINS[name]
    return random_domain(int(name.removeprefix("random-")))


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _draw(domain: str, number: int, size: int, seed: int) -> Patient:
    entropy = (zlib.crc32(domain.encode()), number)

    def stream(name: str) -> np.random.Generator:
        return _stream(seed, *entropy, zlib.crc32(name.encode()))

    return draw_patient(stream, _domain(domain), size)


def _film(
    domain: str, patient: Patient, number: int, seed: int, first: int, count: int
) -> Iterator[tuple[Field, Scene]]:
    """Yield grey values (size, size), 0 to 255, and the scene of each frame."""
    entropy = (zlib.crc32(domain.encode()), number)
    recent: deque[Field] = deque(maxlen=MEMORY + 1)
    lag = patient.exposure.lag
    for frame in range(max(0, first - MEMORY) if lag > 0 else first, first + count):
        scene = patient.scene(frame)
        recent.append(patient.signal(_stream(seed, *entropy, 0, frame), scene))
        if frame >= first:
            shown = _afterglow(recent, lag) if lag > 0 else recent[-1]
            yield develop(shown, patient.display, patient.exposure), scene


def _afterglow(recent: Sequence[Field], lag: float) -> Field:
    """Mix what is left of the frames before into the newest, the last of `recent`.

    A recursive filter, cut off after `MEMORY` frames so that a sequence may begin
    anywhere.
    """
    weights = lag ** np.arange(len(recent))[::-1]
    weights = (weights / weights.sum()).astype(np.float32)
    return sum(weight * signal for weight, signal in zip(weights, recent, strict=True))


def _masks(scene: Scene, patient: Patient) -> NDArray[np.uint8]:
    """Return (classes, size, size); what the collimator hides is in no mask."""
    masks = np.zeros((len(CLASS_NAMES), patient.size, patient.size), np.uint8)
    for name, devices in scene.devices.items():
        for device in devices:
            masks[CLASS_NAMES.index(name)] |= device.mask
    return masks * patient.exposure.field_of_view


def _tips(
    polylines: tuple[tuple[Curve, ...], ...], patient: Patient
) -> NDArray[np.float64]:
    """Return (frames, 2), NaN where the main device's tip is not in the field."""
    tips = np.full((len(polylines), 2), np.nan)
    for frame, devices in enumerate(polylines):
        if not devices:
            continue
        column, row = np.floor(devices[0][-1]).astype(int)
        inside = 0 <= row < patient.size and 0 <= column < patient.size
        if inside and patient.exposure.field_of_view[row, column]:
            tips[frame] = devices[0][-1]
    return tips
