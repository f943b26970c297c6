"""Fluoroscopy of five kinds of hospital, made from geometry and physics.

Optical depths of background and devices add up (Beer-Lambert); the detector turns
them into grey values; the masks come from the geometry itself and are exact. Four
kinds stand for the data types of FedEFM (arXiv 2501.16992, section on unseen data:
human, animal, phantom, simulation); "neuro" is held out for transfer tests.

The frames serve to build, test and compare methods. Numbers reached on them say
nothing about patients.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import shift

from clients.data.errors import DataError
from clients.data.frames import FrameSet
from clients.data.preprocessing import normalise_frame
from clients.fluoroscopy.anatomy import (
    Anatomy,
    build_animal,
    build_human,
    build_neuro,
    build_phantom,
    build_simulation,
)
from clients.fluoroscopy.detector import Detector, Exposure, draw_exposure, expose
from clients.fluoroscopy.devices import DeviceRanges, Devices, draw_devices
from clients.fluoroscopy.geometry import Field
from models.classes import CLASS_NAMES

MIN_IMAGE_SIZE = 32
BREATH = 0.006  # amplitude of the background's motion, in fields


@dataclass(frozen=True)
class Domain:
    """One kind of hospital: what is imaged, with which devices and which machine."""

    anatomy: Anatomy
    detector: Detector
    devices: DeviceRanges = field(default_factory=DeviceRanges)


DOMAINS: Mapping[str, Domain] = MappingProxyType(
    {
        "human": Domain(
            anatomy=build_human,
            detector=Detector(
                photons=(1500, 4000),
                scatter_share=0.35,
                focal_blur_px=0.5,
                screen_blur_px=0.5,
                logarithmic=True,
                bright_devices=False,
                collimators=("open", "blades"),
            ),
        ),
        "animal": Domain(
            anatomy=build_animal,
            detector=Detector(
                photons=(700, 1600),
                scatter_share=0.3,
                focal_blur_px=0.6,
                screen_blur_px=0.6,
                logarithmic=False,
                bright_devices=False,
                collimators=("circle",),
            ),
            devices=DeviceRanges(wire_depth=(0.6, 1.1), catheter_depth=(0.4, 0.65)),
        ),
        "phantom": Domain(
            anatomy=build_phantom,
            detector=Detector(
                photons=(500, 1200),
                scatter_share=0.15,
                focal_blur_px=0.4,
                screen_blur_px=0.45,
                logarithmic=False,
                bright_devices=False,
                collimators=("octagon",),
            ),
            devices=DeviceRanges(wire_depth=(0.3, 0.65), catheter_depth=(0.2, 0.36)),
        ),
        "simulation": Domain(
            anatomy=build_simulation,
            detector=Detector(
                photons=(10000, 30000),
                scatter_share=0.0,
                focal_blur_px=0.25,
                screen_blur_px=0.25,
                logarithmic=True,
                bright_devices=True,
                collimators=("open",),
            ),
            devices=DeviceRanges(wire_depth=(0.13, 0.28), catheter_depth=(0.08, 0.18)),
        ),
        "neuro": Domain(
            anatomy=build_neuro,
            detector=Detector(
                photons=(1500, 4000),
                scatter_share=0.25,
                focal_blur_px=0.4,
                screen_blur_px=0.5,
                logarithmic=True,
                bright_devices=False,
                collimators=("open", "circle"),
            ),
            devices=DeviceRanges(
                wire_width_px=(1.0, 1.6),
                catheter_width_px=(2.2, 3.4),
                wire_depth=(0.8, 1.4),
                catheter_depth=(0.4, 0.7),
            ),
        ),
    }
)
"""Name -> kind of hospital. No default hospital has "neuro": it is held out."""


@dataclass(frozen=True)
class _Patient:
    devices: Devices
    exposure: Exposure
    background: Field
    breath: float  # rad, phase


def simulate_frames(
    domain: str, *, patients: int, frames_per_patient: int, image_size: int, seed: int
) -> FrameSet:
    """Simulate the labelled frames of one hospital.

    Args:
        domain: A name in `DOMAINS`.
        patients: Number of patients, >= 1; each is one sequence.
        frames_per_patient: Frames of each sequence, >= 1; near-duplicates.
        image_size: Side of the frames, px, >= 32.
        seed: >= 0. The same arguments give the same bits; a patient's frames depend
            on neither the number of patients nor the number of frames.

    Returns:
        Patients in order, each with its frames in order, all classes annotated. The
        frames have passed `normalise_frame`, as real ones do.

    Raises:
        DataError: If the domain is unknown or a number is too small.
    """
    _check_arguments(domain, patients, frames_per_patient, image_size, seed)
    images, masks = [], []
    for number in range(patients):
        entropy = (zlib.crc32(domain.encode()), number)
        patient = _draw_patient(_stream(seed, *entropy), DOMAINS[domain], image_size)
        for frame in range(frames_per_patient):
            rng = _stream(seed, *entropy, frame)
            image, mask = _take_frame(rng, patient, DOMAINS[domain], frame)
            images.append(image)
            masks.append(mask)
    count = patients * frames_per_patient
    return FrameSet(
        images=torch.from_numpy(np.stack(images)[:, None]),
        masks=torch.from_numpy(np.stack(masks)),
        annotated=torch.ones(count, len(CLASS_NAMES), dtype=torch.bool),
        sequences=torch.arange(patients).repeat_interleave(frames_per_patient),
    )


def _check_arguments(
    domain: str, patients: int, frames_per_patient: int, image_size: int, seed: int
) -> None:
    if domain not in DOMAINS:
        raise DataError(f"The domain must be one of {', '.join(sorted(DOMAINS))}.")
    wanted = {
        "patients": (patients, 1),
        "frames_per_patient": (frames_per_patient, 1),
        "image_size": (image_size, MIN_IMAGE_SIZE),
        "seed": (seed, 0),
    }
    for name, (value, least) in wanted.items():
        if value < least:
            raise DataError(f"{name} must be at least {least}, got {value}.")


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _draw_patient(rng: np.random.Generator, domain: Domain, size: int) -> _Patient:
    devices = draw_devices(rng, domain.devices)
    return _Patient(
        devices=devices,
        exposure=draw_exposure(rng, domain.detector, size),
        background=domain.anatomy(rng, size, devices.route(0, size)),
        breath=rng.uniform(0, 2 * np.pi),
    )


def _take_frame(
    rng: np.random.Generator, patient: _Patient, domain: Domain, frame: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the image (size, size) and the masks (classes, size, size)."""
    size = len(patient.background)
    depth = _breathe(patient, frame)
    masks = np.zeros((len(CLASS_NAMES), size, size), np.uint8)
    for name, device in patient.devices.render(frame, size).items():
        depth = depth + device.depth
        # What the collimator hides is not in the picture, so not in the mask.
        seen = device.mask & patient.exposure.field_of_view
        masks[CLASS_NAMES.index(name)] = seen
    grey = expose(rng, depth, patient.exposure, domain.detector)
    return normalise_frame(grey), masks


def _breathe(patient: _Patient, frame: int) -> Field:
    """Shift the background by a fraction of a pixel, as breathing does."""
    size = len(patient.background)
    phase = patient.breath + patient.devices.pulse * frame
    sway = BREATH * size * np.array([np.cos(phase), 0.4 * np.sin(phase)])
    # Not cv2.warpAffine: in 5.0.0.93 its cubic mode truncates the replicated border
    # of float64 images to whole numbers.
    return shift(patient.background, sway, order=3, mode="nearest")
