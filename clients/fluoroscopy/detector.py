"""From optical depth to the grey values a workstation shows.

The chain of a fluoroscope: Beer-Lambert attenuation, collimator, scattered radiation,
focal-spot blur, Poisson noise of the X-ray quanta, blur of the scintillator, then a
window and 8-bit grey. Left out: spectrum and beam hardening, lag, recursive filters.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from clients.fluoroscopy.devices import REFERENCE_PX, Range
from clients.fluoroscopy.geometry import Field, Flags, pixel_centres

MAX_GREY = 255
BLADE_TRANSMISSION = 0.02
SCATTER_WIDTH = 0.12  # standard deviation of the scatter kernel, in fields


@dataclass(frozen=True)
class Detector:
    """The imaging chain of one kind of hospital."""

    photons: Range  # per pixel of a 128 px image in the open beam; drawn per patient
    scatter_share: float  # of the signal
    focal_blur_px: float  # standard deviation at 128 px
    screen_blur_px: float  # standard deviation at 128 px
    logarithmic: bool  # grey follows the optical depth instead of the intensity
    bright_devices: bool  # the inverted display of rendered simulators
    collimators: tuple[str, ...]  # one is drawn per patient


@dataclass(frozen=True)
class Exposure:
    """How one patient is imaged: constant over the frames."""

    photons: float  # per pixel of a 128 px image in the open beam
    gamma: float  # exponent of the display curve
    margins: Range  # unused share of the grey range below and above
    transmission: Field  # (size, size) of the collimator, 0 to 1
    field_of_view: Flags  # (size, size), not behind the collimator


def draw_exposure(rng: np.random.Generator, detector: Detector, size: int) -> Exposure:
    """Draw dose, display curve and collimator of a patient.

    Args:
        rng: Source of randomness of this patient.
        detector: The kind of hospital.
        size: Side of the image, px.

    Returns:
        The settings that all frames of the patient share.
    """
    low, high = np.log(detector.photons)
    outside = _collimator(rng, str(rng.choice(detector.collimators)), size)
    opened = np.clip(0.5 - outside * size / 1.5, 0, 1)
    return Exposure(
        photons=float(np.exp(rng.uniform(low, high))),
        gamma=rng.uniform(0.8, 1.25),
        margins=(rng.uniform(-0.03, 0.08), rng.uniform(-0.03, 0.08)),
        transmission=BLADE_TRANSMISSION + (1 - BLADE_TRANSMISSION) * opened,
        field_of_view=outside <= 0,
    )


def expose(
    rng: np.random.Generator, depth: Field, exposure: Exposure, detector: Detector
) -> Field:
    """Take one frame.

    Args:
        rng: Source of the frame's noise.
        depth: (size, size), optical depth of everything in the beam.
        exposure: The patient's settings.
        detector: The hospital's imaging chain.

    Returns:
        (size, size), whole grey values from 0 to 255.
    """
    scale = len(depth) / REFERENCE_PX
    primary = np.exp(-depth) * exposure.transmission
    primary = _blur(primary, detector.focal_blur_px * scale)
    scattered = _blur(primary, SCATTER_WIDTH * len(depth))
    share = detector.scatter_share
    quanta = exposure.photons / scale**2  # smaller pixels catch fewer
    caught = rng.poisson(((1 - share) * primary + share * scattered) * quanta)
    signal = _blur(caught / quanta, detector.screen_blur_px * scale)
    return _display(signal, exposure, detector)


def _display(signal: Field, exposure: Exposure, detector: Detector) -> Field:
    """Window the signal on what is inside the collimator, then round to 8 bits."""
    if detector.logarithmic:
        signal = np.log(np.maximum(signal, 0.5 / exposure.photons))
    low, high = np.percentile(signal[exposure.field_of_view], (0.2, 99.8))
    below, above = (margin * (high - low) for margin in exposure.margins)
    width = max(high + above - (low - below), np.finfo(float).tiny)
    grey = np.clip((signal - (low - below)) / width, 0, 1) ** exposure.gamma
    if detector.bright_devices:
        grey = 1 - grey
    return np.round(grey * MAX_GREY)


def _blur(image: Field, deviation_px: float) -> Field:
    if deviation_px <= 0:
        return image
    blurred = cv2.GaussianBlur(
        image, (0, 0), deviation_px, borderType=cv2.BORDER_REPLICATE
    )
    return blurred.astype(np.float64, copy=False)


def _collimator(rng: np.random.Generator, shape: str, size: int) -> Field:
    """Return the signed distance from the blades' edge, in fields; outside > 0."""
    x, y = (axis - 0.5 for axis in pixel_centres(size))
    shift = rng.normal(0, 0.01, 2)
    radius = rng.uniform(0.46, 0.49)
    if shape == "circle":  # the round field of an image intensifier
        return np.hypot(x - shift[0], y - shift[1]) - radius - 0.03
    sides = np.maximum(np.abs(x - shift[0]), np.abs(y - shift[1])) - radius
    if shape == "octagon":
        corner = (np.abs(x) + np.abs(y) - rng.uniform(1.7, 1.85) * radius) / np.sqrt(2)
        return np.maximum(sides, corner)
    if shape == "blades":  # two blades closed on opposite sides
        across = (x, y)[rng.integers(2)]
        return np.abs(across - shift[0]) - rng.uniform(0.36, 0.46)
    return np.full((size, size), -1.0)  # "open"
