"""From materials in the beam to the signal of the detector.

The chain of a fluoroscope: attenuation of a beam of several energies, falling off
towards the edge (image intensifiers), collimator, blur of the focal spot, scattered
radiation, Poisson noise of the quanta, blur of the scintillator, noise of the
electronics. The dose is regulated: the mean signal in the field of view is 1.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from clients.fluoroscopy.canvas import Canvas
from clients.fluoroscopy.collimator import draw_collimator
from clients.fluoroscopy.devices import REFERENCE_PX
from clients.fluoroscopy.geometry import Field, Flags, Range
from clients.fluoroscopy.spectrum import TISSUE, Spectrum, Thickness, tube_spectrum

BLADE_TRANSMISSION = 0.004
SCATTER_WIDTH = 0.13  # standard deviation of the scatter kernel, in fields
MANY_QUANTA = 50  # per pixel
SCATTER_GRID = 48  # px of the coarse grid on which scatter is spread


@dataclass(frozen=True)
class Detector:
    """The imaging chain of one kind of hospital; ranges are drawn per patient."""

    kilovolt: Range
    filter_mm: Range  # aluminium
    quanta: Range  # caught per pixel of a 128 px image, mean over the field of view
    scatter: Range  # scattered signal behind the grid, relative to the primary one
    focal_blur_px: Range  # standard deviation at 128 px
    screen_blur_px: Range  # standard deviation at 128 px
    electronic: float = 2.0  # standard deviation in quanta of a 128 px pixel
    vignette: Range = (0.0, 0.0)  # loss of signal in the corners
    lag: Range = (0.0, 0.0)  # share of the frame before in a displayed frame
    collimators: tuple[str, ...] = ("open",)  # one is drawn per patient
    collimator_turn: float = 0.0  # standard deviation, rad
    penumbra: Range = (0.004, 0.01)  # width of the collimator's edge, in fields


@dataclass(frozen=True)
class Exposure:
    """How one patient is imaged: constant over the frames."""

    spectrum: Spectrum
    gain: Field  # (size, size), dose, collimator and vignette; 1 = mean of the field
    opened: Field  # (size, size), share of the beam that the collimator lets through
    field_of_view: Flags  # (size, size), not behind the collimator
    quanta: float  # per pixel of this image size at a signal of 1
    scatter: float
    focal_blur: float  # px
    screen_blur: float  # px
    electronic: float  # quanta
    lag: float

    def adapted(self, *, dose: float, blur: float) -> "Exposure":
        """Return the exposure with that many times the dose and the blur."""
        return replace(
            self,
            quanta=dose * self.quanta,
            focal_blur=blur * self.focal_blur,
            screen_blur=blur * self.screen_blur,
        )


def draw_exposure(
    rng: np.random.Generator, detector: Detector, canvas: Canvas
) -> Exposure:
    """Draw beam, dose, collimator and blur of a patient.

    Args:
        rng: Source of randomness of this patient.
        detector: The kind of hospital.
        canvas: The pixels of a frame.

    Returns:
        The settings that all frames of the patient share; the dose still open.
    """
    low, high = np.log(detector.quanta)
    scale = canvas.side / REFERENCE_PX
    turn = rng.normal(0, detector.collimator_turn)
    outside = draw_collimator(rng, str(rng.choice(detector.collimators)), canvas, turn)
    penumbra = max(rng.uniform(*detector.penumbra), 0.75 / canvas.side)
    opened = np.clip(0.5 - outside / np.float32(2 * penumbra), 0, 1)
    opened = opened * opened * (3 - 2 * opened)
    x, y = (axis - np.float32(0.5) for axis in canvas.coordinates())
    falling = 1 - np.float32(2 * rng.uniform(*detector.vignette)) * (x * x + y * y)
    return Exposure(
        spectrum=tube_spectrum(
            rng.uniform(*detector.kilovolt), rng.uniform(*detector.filter_mm)
        ),
        gain=(BLADE_TRANSMISSION + (1 - BLADE_TRANSMISSION) * opened) * falling,
        opened=opened,
        field_of_view=outside <= 0,
        quanta=float(np.exp(rng.uniform(low, high))) / scale**2,
        scatter=rng.uniform(*detector.scatter),
        focal_blur=rng.uniform(*detector.focal_blur_px) * scale,
        screen_blur=rng.uniform(*detector.screen_blur_px) * scale,
        electronic=detector.electronic / scale**2,
        lag=rng.uniform(*detector.lag),
    )


def mean_signal(thickness: Thickness, exposure: Exposure) -> Field:
    """Return the signal that a frame has on average, without any noise.

    Args:
        thickness: (materials, size, size), mm.
        exposure: The patient's settings.

    Returns:
        (size, size), >= 0; the screen's blur included.
    """
    return blur(_arriving(thickness, exposure), exposure.screen_blur)


def expose(rng: np.random.Generator, thickness: Thickness, exposure: Exposure) -> Field:
    """Take one frame.

    Args:
        rng: Source of the frame's noise.
        thickness: (materials, size, size), mm of everything in the beam.
        exposure: The patient's settings.

    Returns:
        (size, size), signal; about 1 on average over the field of view, and where
        hardly anything arrives it may be a little below 0.
    """
    expected = _arriving(thickness, exposure) * np.float32(exposure.quanta)
    caught = _count_quanta(rng, expected)
    signal = blur(caught * np.float32(1 / exposure.quanta), exposure.screen_blur)
    if exposure.electronic > 0:
        noise = rng.standard_normal(signal.shape, dtype=np.float32)
        signal += noise * np.float32(exposure.electronic / exposure.quanta)
    return signal


def blur(image: Field, deviation_px: float) -> Field:
    """Blur an image with a Gaussian; up to a twentieth of a pixel changes nothing."""
    if deviation_px <= 0.05:
        return image
    return cv2.GaussianBlur(
        image, (0, 0), deviation_px, borderType=cv2.BORDER_REPLICATE
    )


def blur_widely(image: Field, deviation_px: float) -> Field:
    """Blur an image with a wide Gaussian, on a coarser grid.

    Args:
        image: (size, size).
        deviation_px: Standard deviation; at most a few pixels are blurred directly.

    Returns:
        (size, size).
    """
    step = max(1, int(deviation_px / 3))
    if step == 1:
        return blur(image, deviation_px)
    side = max(8, round(len(image) / step))
    coarse = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    coarse = blur(coarse, deviation_px * side / len(image))
    return cv2.resize(coarse, image.shape[::-1], interpolation=cv2.INTER_CUBIC)


def _count_quanta(rng: np.random.Generator, expected: Field) -> Field:
    """Draw whole numbers of quanta with the Poisson distribution.

    Where many are expected, the normal distribution with the same mean and variance
    stands in for it, which takes a fifth of the time.
    """
    noise = rng.standard_normal(expected.shape, dtype=np.float32)
    caught = np.rint(expected + np.sqrt(expected) * noise)
    few = expected < MANY_QUANTA
    if few.any():
        caught[few] = rng.poisson(expected[few])
    return caught


def _arriving(thickness: Thickness, exposure: Exposure) -> Field:
    """Return primary and scattered radiation, (size, size)."""
    primary = exposure.spectrum.transmit(thickness) * exposure.gain
    primary = blur(primary, exposure.focal_blur)
    if exposure.scatter <= 0:
        return primary
    size, grid = len(primary), min(SCATTER_GRID, len(primary))
    coarse = cv2.resize(primary, (grid, grid), interpolation=cv2.INTER_AREA)
    depth = cv2.resize(thickness[TISSUE], (grid, grid), interpolation=cv2.INTER_AREA)
    # The thicker the body, the more of what passes has been scattered on the way.
    depth *= np.float32(1 / max(float(depth.mean()), 1e-6))
    spread = blur(coarse * (0.4 + 0.6 * depth), SCATTER_WIDTH * grid)
    spread = cv2.resize(spread, (size, size), interpolation=cv2.INTER_LINEAR)
    share = np.float32(exposure.scatter / (1 + exposure.scatter))
    return primary * (1 - share) + spread * share
