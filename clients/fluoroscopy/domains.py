"""Kinds of hospitals: what is imaged, with which devices, on which machine.

Four stand for the data types of FedEFM (arXiv 2501.16992, section on unseen data:
human, animal, phantom, simulation); "neuro" is held out for transfer tests, and
`random_domain` makes hospitals that nobody has seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from clients.fluoroscopy.anatomy import Builder
from clients.fluoroscopy.bench import build_phantom, build_simulation
from clients.fluoroscopy.detector import Detector
from clients.fluoroscopy.devices import DeviceRanges
from clients.fluoroscopy.display import DisplayRanges
from clients.fluoroscopy.geometry import Range
from clients.fluoroscopy.head import build_neuro
from clients.fluoroscopy.motion import MotionRanges
from clients.fluoroscopy.trunk import build_animal, build_human


@dataclass(frozen=True)
class Domain:
    """One kind of hospital."""

    anatomies: tuple[Builder, ...]  # one is drawn per patient
    detector: Detector
    devices: DeviceRanges = field(default_factory=DeviceRanges)
    display: DisplayRanges = field(default_factory=DisplayRanges)
    motion: MotionRanges = field(default_factory=MotionRanges)
    distractors: Mapping[str, float] = field(default_factory=dict)  # name -> chance
    frame_time_ms: Range = (66.0, 134.0)
    mask_shift: Range = (0.0, 0.0)  # fields; movement since the subtraction mask


STILL = MotionRanges(breath=(0.0, 0.0), beat=(0.0, 0.0))

_HUMAN = Domain(
    anatomies=(build_human,),
    detector=Detector(
        kilovolt=(68, 85),
        filter_mm=(3, 8),
        quanta=(1500, 4500),
        scatter=(0.35, 0.8),
        focal_blur_px=(0.3, 0.5),
        screen_blur_px=(0.35, 0.5),
        lag=(0.0, 0.25),
        collimators=("open", "open", "rounded", "blades"),
        collimator_turn=0.03,
    ),
    devices=DeviceRanges(wire_steel_mm=(0.8, 1.4), catheter_polymer_mm=(1.5, 2.6)),
    display=DisplayRanges(harmonisation=(0.1, 0.35), harmonisation_width=(0.12, 0.25)),
    distractors={
        "cable": 0.2,
        "clips": 0.12,
        "lead": 0.12,
        "stent": 0.12,
        "sternal-wires": 0.15,
        "valve": 0.07,
    },
)
_ANIMAL = Domain(
    anatomies=(build_animal,),
    detector=Detector(
        kilovolt=(60, 75),
        filter_mm=(2, 4),
        quanta=(600, 1600),
        scatter=(0.3, 0.6),
        focal_blur_px=(0.4, 0.7),
        screen_blur_px=(0.5, 0.75),
        electronic=5.0,
        vignette=(0.35, 0.7),
        lag=(0.2, 0.45),
        collimators=("circle",),
    ),
    devices=DeviceRanges(
        wire_width_px=(1.4, 2.2),
        catheter_width_px=(3.2, 5.0),
        wire_steel_mm=(0.7, 1.2),
        catheter_polymer_mm=(1.7, 2.8),
    ),
    display=DisplayRanges(
        logarithmic=0.0,
        harmonisation=(0.0, 0.15),
        gamma=(0.5, 0.75),
        sharpening=(0.0, 0.3),
    ),
    distractors={"cable": 0.25, "clips": 0.1},
    frame_time_ms=(33.0, 67.0),
)
_PHANTOM = Domain(
    anatomies=(build_phantom,),
    detector=Detector(
        kilovolt=(55, 66),
        filter_mm=(2.5, 5),
        quanta=(280, 560),
        scatter=(0.1, 0.25),
        focal_blur_px=(0.2, 0.3),
        screen_blur_px=(0.12, 0.18),
        lag=(0.2, 0.35),
        collimators=("chamfered",),
        penumbra=(0.006, 0.012),
    ),
    devices=DeviceRanges(
        wire_width_px=(1.4, 2.0),
        catheter_width_px=(2.8, 4.2),
        wire_steel_mm=(0.4, 0.7),
        catheter_polymer_mm=(0.4, 0.8),
        density=1.3,
        filled=0.85,
        filling_mm=(2.5, 6.0),
        bands=0.1,
        side_strands=(2, 5),
        hook=0.0,
        inside=0.85,
        tips=(0.75, 0.2, 0.05),
        shown=(0.5, 0.25, 0.25),
        steering=0.3,
        loop=0.15,
        late=0.0,
    ),
    display=DisplayRanges(
        subtracts=1.0,
        harmonisation=(0.5, 0.8),
        harmonisation_width=(0.02, 0.04),
        sharpening=(0.0, 0.3),
        dark_margin=(-0.1, 0.05),
        light_margin=(0.5, 0.9),
        gamma=(0.95, 1.05),
        black=(0.02, 0.05),
    ),
    motion=STILL,
    frame_time_ms=(66.0, 67.0),
    mask_shift=(0.0015, 0.004),
)
_SIMULATION = Domain(
    anatomies=(build_simulation,),
    detector=Detector(
        kilovolt=(70, 70),
        filter_mm=(4, 4),
        quanta=(12000, 40000),
        scatter=(0.0, 0.0),
        focal_blur_px=(0.2, 0.3),
        screen_blur_px=(0.2, 0.3),
        electronic=0.0,
    ),
    devices=DeviceRanges(
        wire_width_px=(1.6, 2.4),
        wire_steel_mm=(0.16, 0.32),
        catheter_polymer_mm=(0.4, 0.8),
        bands=0.0,
        filled=0.0,
    ),
    display=DisplayRanges(
        harmonisation=(0.0, 0.0), sharpening=(0.0, 0.0), bright_devices=1.0
    ),
    motion=STILL,
    frame_time_ms=(50.0, 50.0),
)
_NEURO = Domain(
    anatomies=(build_neuro,),
    detector=Detector(
        kilovolt=(70, 90),
        filter_mm=(4, 9),
        quanta=(1500, 4000),
        scatter=(0.2, 0.45),
        focal_blur_px=(0.25, 0.4),
        screen_blur_px=(0.3, 0.45),
        lag=(0.0, 0.2),
        collimators=("open", "circle", "rounded"),
    ),
    devices=DeviceRanges(
        wire_width_px=(1.0, 1.5),
        catheter_width_px=(2.2, 3.4),
        wire_steel_mm=(0.8, 1.4),
        catheter_polymer_mm=(1.2, 2.2),
        bands=0.6,
        hook=0.0,
        steering=0.55,
    ),
    display=DisplayRanges(
        subtracts=0.3, harmonisation=(0.1, 0.35), light_margin=(-0.02, 0.25)
    ),
    motion=MotionRanges(breath=(0.0, 0.001), beat=(0.0, 0.002)),
    mask_shift=(0.0005, 0.002),
    distractors={"coils": 0.2, "clips": 0.1, "stent": 0.1},
)
DOMAINS: Mapping[str, Domain] = MappingProxyType(
    {
        "human": _HUMAN,
        "animal": _ANIMAL,
        "phantom": _PHANTOM,
        "simulation": _SIMULATION,
        "neuro": _NEURO,
    }
)
"""Name -> kind of hospital. No default hospital has "neuro": it is held out."""
