"""From the detector's signal to the grey values that a workstation shows.

Logarithm, digital subtraction, harmonisation (part of the coarse contrast is taken
away, as modern systems do), edge enhancement, window, display curve, polarity, 8 bits.
"""

from dataclasses import dataclass, replace

import numpy as np

from clients.fluoroscopy.detector import Exposure, blur, blur_widely
from clients.fluoroscopy.devices import REFERENCE_PX
from clients.fluoroscopy.geometry import Field, Range

MAX_GREY = 255
LEAST_SIGNAL = 0.01  # of the regulated level; the logarithm stops there
MOST_SIGNAL = 7.0  # where the detector saturates, as beside the body
PERCENTILES = (0.4, 99.6)
SHUTTER_DEPTH = 2.0  # optical depth of the shutter of a subtracted frame


@dataclass(frozen=True)
class DisplayRanges:
    """How one kind of hospital shows its frames; drawn per patient."""

    logarithmic: float = 1.0  # chance that grey follows optical depth, not intensity
    subtracts: float = 0.0  # chance that the background is taken away
    subtraction: Range = (0.85, 1.0)  # share of it that is
    harmonisation: Range = (0.0, 0.3)  # share of the coarse contrast that is taken away
    harmonisation_width: Range = (0.06, 0.14)  # what is coarse, in fields
    sharpening: Range = (0.0, 0.6)  # gain of edge enhancement
    sharpening_px: Range = (0.6, 1.0)  # standard deviation at 128 px
    gamma: Range = (0.8, 1.25)
    dark_margin: Range = (-0.02, 0.06)  # unused share of the grey range below
    light_margin: Range = (-0.02, 0.06)  # and above
    black: Range = (0.0, 0.03)  # grey of the darkest pixels, share of white
    bright_devices: float = 0.0  # chance of the inverted display
    black_border: bool = True  # what the collimator hides is black, inverted or not


@dataclass(frozen=True)
class Display:
    """How one patient's frames are shown: constant over the frames."""

    logarithmic: bool
    subtraction: float
    harmonisation: float
    harmonisation_px: float
    sharpening: float
    sharpening_px: float
    gamma: float
    dark_margin: float
    light_margin: float
    black: float
    bright_devices: bool
    black_border: bool
    reference: Field | None = None  # (size, size), what is subtracted
    low: float = 0.0  # value that is shown black
    high: float = 1.0  # value that is shown white


def draw_display(rng: np.random.Generator, ranges: DisplayRanges, size: int) -> Display:
    """Draw how a patient's frames are shown; the window is still open.

    Args:
        rng: Source of randomness of this patient.
        ranges: What is usual in this kind of hospital.
        size: Side of a frame, px.

    Returns:
        The settings that all frames of the patient share.
    """
    logarithmic = bool(rng.random() < ranges.logarithmic)
    subtracts = bool(rng.random() < ranges.subtracts)
    subtraction = float(rng.uniform(*ranges.subtraction))
    return Display(
        logarithmic=logarithmic,
        subtraction=subtraction if logarithmic and subtracts else 0.0,
        harmonisation=rng.uniform(*ranges.harmonisation),
        harmonisation_px=rng.uniform(*ranges.harmonisation_width) * size,
        sharpening=rng.uniform(*ranges.sharpening),
        sharpening_px=rng.uniform(*ranges.sharpening_px) * size / REFERENCE_PX,
        gamma=rng.uniform(*ranges.gamma),
        dark_margin=rng.uniform(*ranges.dark_margin),
        light_margin=rng.uniform(*ranges.light_margin),
        black=rng.uniform(*ranges.black),
        bright_devices=bool(rng.random() < ranges.bright_devices),
        black_border=ranges.black_border,
    )


def set_window(
    display: Display, signal: Field, background: Field | None, exposure: Exposure
) -> Display:
    """Choose the window, and what is subtracted, from noise-free frames.

    Args:
        display: The patient's settings.
        signal: (size, size), mean signal with devices.
        background: (size, size), mean signal without devices and contrast agent, which
            is subtracted; None = nothing is.
        exposure: For the field of view.

    Returns:
        Settings with which frames can be developed.
    """
    seen = exposure.field_of_view
    reference = None
    if background is not None:
        values = np.log(np.clip(background, LEAST_SIGNAL, MOST_SIGNAL))
        reference = np.float32(display.subtraction) * (values - values[seen].mean())
    display = replace(display, reference=reference)
    values = _process(signal, display, exposure)[seen]
    low, high = np.percentile(values, PERCENTILES)
    span = max(float(high - low), 1e-3)
    return replace(
        display,
        low=float(low) - display.dark_margin * span,
        high=float(high) + display.light_margin * span,
    )


def develop(signal: Field, display: Display, exposure: Exposure) -> Field:
    """Turn a signal into grey.

    Args:
        signal: (size, size), of the detector.
        display: The patient's settings.
        exposure: For the field of view.

    Returns:
        (size, size), whole grey values from 0 to 255.
    """
    values = _process(signal, display, exposure)
    values -= np.float32(display.low)
    values *= np.float32(1 / (display.high - display.low))
    grey = np.clip(values, 0, 1, out=values) ** np.float32(display.gamma)
    if display.bright_devices:
        grey = 1 - grey
        if display.black_border:
            grey *= exposure.opened
    black = np.float32(display.black)
    return np.rint((black + (1 - black) * grey) * MAX_GREY)


def _process(signal: Field, display: Display, exposure: Exposure) -> Field:
    """Return what the window is applied to; never the array that came in."""
    if display.logarithmic:
        values = np.log(np.clip(signal, LEAST_SIGNAL, MOST_SIGNAL))
    else:
        values = np.minimum(signal, np.float32(MOST_SIGNAL))
    if display.reference is not None:
        values -= display.reference
        # A subtracted frame is flat behind the collimator, too: shut it again.
        hidden = np.float32(SHUTTER_DEPTH) * (1 - exposure.opened)
        values = values * (1 - 0.6 * (1 - exposure.opened)) - hidden
    if display.harmonisation > 0:
        coarse = blur_widely(values, display.harmonisation_px)
        values -= np.float32(display.harmonisation) * coarse
    if display.sharpening > 0:
        fine = values - blur(values, display.sharpening_px)
        values += np.float32(display.sharpening) * fine
    return values
