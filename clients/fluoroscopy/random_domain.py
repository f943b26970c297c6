"""Hospitals that nobody has seen: every parameter of a domain drawn from a seed.

Domain randomisation [Tobin et al., IROS 2017]: what real hospitals do lies somewhere
inside the ranges that are drawn from here, wider than those of any named domain.
"""

import numpy as np

from clients.fluoroscopy.anatomy import Builder
from clients.fluoroscopy.bench import build_phantom, build_simulation
from clients.fluoroscopy.collimator import OUTLINES
from clients.fluoroscopy.detector import Detector
from clients.fluoroscopy.devices import DeviceRanges
from clients.fluoroscopy.display import DisplayRanges
from clients.fluoroscopy.distractors import DISTRACTORS
from clients.fluoroscopy.domains import Domain
from clients.fluoroscopy.geometry import Range
from clients.fluoroscopy.head import build_neuro
from clients.fluoroscopy.motion import MotionRanges
from clients.fluoroscopy.trunk import build_animal, build_chest_film, build_human

_BUILDERS: tuple[tuple[Builder, float], ...] = (
    (build_human, 0.3),
    (build_chest_film, 0.2),
    (build_animal, 0.15),
    (build_phantom, 0.15),
    (build_neuro, 0.15),
    (build_simulation, 0.05),
)
_KEY = 20250116  # keeps these streams apart from those of patients


def random_domain(number: int) -> Domain:
    """Draw an unseen hospital.

    Args:
        number: Of the hospital, >= 0; the same number gives the same hospital.

    Returns:
        A domain with one to three anatomies and its own devices, physics and display.
    """
    rng = np.random.default_rng([_KEY, number])
    builders, weights = zip(*_BUILDERS, strict=True)
    count = int(rng.integers(1, 4))
    chosen = rng.choice(len(builders), count, replace=False, p=weights)
    anatomies = tuple(builders[index] for index in chosen)
    films = build_chest_film in anatomies
    return Domain(
        anatomies=anatomies,
        detector=_detector(rng),
        devices=_devices(rng, arm=0.5 / count if films else 0.0),
        display=_display(rng, bright=0.6 if films else 0.35),
        motion=MotionRanges(beat=(0.002, float(rng.uniform(0.004, 0.014)))),
        distractors={
            name: float(rng.uniform(0, 0.35)) * bool(rng.random() < 0.6)
            for name in sorted(DISTRACTORS)
        },
        frame_time_ms=(float(frame := rng.choice([33, 67, 133, 250])), float(frame)),
        mask_shift=(0.0, 0.003),
    )


def _between(rng: np.random.Generator, low: float, high: float, spread: float) -> Range:
    """Draw a range of a relative width around a value between two bounds."""
    middle = np.exp(rng.uniform(np.log(low), np.log(high)))
    return float(middle * (1 - spread)), float(middle * (1 + spread))


def _detector(rng: np.random.Generator) -> Detector:
    shapes = rng.choice(sorted(OUTLINES), int(rng.integers(1, 3)), replace=False)
    return Detector(
        kilovolt=_between(rng, 58, 100, 0.06),
        filter_mm=_between(rng, 2, 9, 0.2),
        quanta=_between(rng, 500, 6000, 0.3),
        scatter=_between(rng, 0.1, 0.8, 0.2),
        focal_blur_px=_between(rng, 0.2, 0.6, 0.15),
        screen_blur_px=_between(rng, 0.15, 0.6, 0.15),
        electronic=float(rng.uniform(0, 5)),
        vignette=(0.0, float(rng.choice([0.0, 0.5]))),
        lag=(0.0, float(rng.uniform(0, 0.45))),
        collimators=tuple(str(shape) for shape in shapes),
        collimator_turn=float(rng.choice([0.0, 0.05, 0.3])),
        penumbra=_between(rng, 0.003, 0.012, 0.3),
    )


def _devices(rng: np.random.Generator, arm: float) -> DeviceRanges:
    return DeviceRanges(
        wire_width_px=_between(rng, 1.1, 2.1, 0.15),
        catheter_width_px=_between(rng, 2.5, 4.6, 0.15),
        wire_steel_mm=_between(rng, 0.6, 1.3, 0.25),
        catheter_polymer_mm=_between(rng, 1.2, 2.4, 0.25),
        bands=float(rng.uniform(0, 0.7)),
        filled=float(rng.choice([0.0, 0.1, 0.5])),
        second=float(rng.uniform(0, 0.35)),
        side_strands=(0, int(rng.integers(0, 3))),
        hook=float(rng.uniform(0, 0.5)),
        arm=arm,
        steering=float(rng.uniform(0.2, 0.6)),
        loop=float(rng.uniform(0, 0.3)),
    )


def _display(rng: np.random.Generator, bright: float) -> DisplayRanges:
    coarse = float(rng.uniform(0, 0.6))
    sharp = float(rng.uniform(0, 1.0))
    logarithmic = rng.random() < 0.75
    return DisplayRanges(
        logarithmic=float(logarithmic),
        subtracts=float(rng.random() < 0.2) * 0.7,
        harmonisation=(0.7 * coarse, coarse),
        harmonisation_width=_between(rng, 0.03, 0.14, 0.2),
        sharpening=(0.5 * sharp, sharp),
        # Intensity as it is would leave all but the lungs black.
        gamma=_between(rng, *((0.6, 1.4) if logarithmic else (0.4, 0.7)), 0.1),
        dark_margin=(-0.04, float(rng.uniform(0, 0.25))),
        light_margin=(-0.04, float(rng.uniform(0, 0.25))),
        bright_devices=float(rng.random() < bright),
        black_border=bool(rng.random() < 0.7),
    )
