"""One patient on one machine: everything that stays the same from frame to frame."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

from clients.fluoroscopy.anatomy import Anatomy
from clients.fluoroscopy.body import Body, body_canvas, place_body
from clients.fluoroscopy.canvas import Canvas
from clients.fluoroscopy.detector import Exposure, draw_exposure, expose, mean_signal
from clients.fluoroscopy.devices import Strand, draw_strands
from clients.fluoroscopy.display import Display, draw_display, set_window
from clients.fluoroscopy.distractors import draw_distractors
from clients.fluoroscopy.domains import Domain
from clients.fluoroscopy.geometry import Field
from clients.fluoroscopy.motion import NO_MOTION, draw_motion
from clients.fluoroscopy.rendering import Drawn, draw_devices
from clients.fluoroscopy.spectrum import Thickness
from clients.fluoroscopy.vessels import Inflow, draw_inflow

Stream = Callable[[str], np.random.Generator]
"""Name of what is drawn -> its own source of randomness."""


class Scene(NamedTuple):
    """What is in the beam in one frame."""

    thickness: Thickness  # (materials, size, size), mm
    devices: dict[str, list[Drawn]]  # class name -> devices, the main one first


@dataclass(frozen=True)
class Patient:
    """A body, its devices and the machine's settings."""

    body: Body
    strands: tuple[Strand, ...]
    exposure: Exposure
    display: Display
    size: int  # side of a frame, px
    frame_time_s: float
    field_mm: float

    def scene(self, frame: int) -> Scene:
        """Return everything in the beam.

        Args:
            frame: Number of the frame, from 0.

        Returns:
            Materials and devices of this frame.
        """
        time_s = frame * self.frame_time_s
        thickness = self.body.at(time_s)
        motion = self.body.motion
        lines = [strand.centrelines(time_s, motion) for strand in self.strands]
        devices = draw_devices(self.strands, lines, thickness, Canvas(self.size))
        return Scene(thickness, devices)

    def signal(self, rng: np.random.Generator, scene: Scene) -> Field:
        """Return the detector's signal of a frame, (size, size), without lag."""
        return expose(rng, scene.thickness, self.exposure)


def draw_patient(stream: Stream, domain: Domain, size: int) -> Patient:
    """Draw a patient.

    Args:
        stream: Sources of randomness.
        domain: The kind of hospital.
        size: Side of the frames, px.

    Returns:
        A patient whose frames can be taken.
    """
    strands = draw_strands(stream("devices"), domain.devices)
    canvas = body_canvas(size)
    anatomy, inflow = _draw_anatomy(stream, domain, strands, canvas)
    motion = draw_motion(
        stream("motion"),
        domain.motion,
        downwards=anatomy.downwards,
        spine=anatomy.spine,
        heart=anatomy.heart,
        heart_radius=anatomy.heart_radius,
    )
    technique = anatomy.technique
    exposure = draw_exposure(stream("exposure"), domain.detector, Canvas(size))
    patient = Patient(
        body=place_body(anatomy, canvas, size=size, motion=motion, inflow=inflow),
        strands=tuple(strand.scaled(technique.device_scale) for strand in strands),
        exposure=exposure.adapted(dose=technique.dose, blur=technique.blur),
        display=draw_display(stream("display"), domain.display, size),
        size=size,
        frame_time_s=stream("timing").uniform(*domain.frame_time_ms) / 1000,
        field_mm=anatomy.field_mm,
    )
    rng = stream("subtraction")
    shift = rng.normal(0, 1, 2) * rng.uniform(*domain.mask_shift) * size
    return _regulate(patient, shift.astype(np.float32))


def _draw_anatomy(
    stream: Stream, domain: Domain, strands: tuple[Strand, ...], canvas: Canvas
) -> tuple[Anatomy, Inflow | None]:
    """Return the anatomy with its implants, and the contrast agent in its vessels."""
    rng = stream("anatomy")
    build = domain.anatomies[rng.integers(len(domain.anatomies))]
    routes = [strand.route(0.0, NO_MOTION) for strand in strands]
    anatomy = build(rng, canvas, routes)
    chances, source = domain.distractors, stream("distractors")
    steel = draw_distractors(source, canvas, routes[0], chances)
    anatomy = replace(anatomy, moving_steel=anatomy.moving_steel + steel)
    if anatomy.vessels is None:
        return anatomy, None
    return anatomy, draw_inflow(
        stream("inflow"),
        anatomy.vessels,
        canvas,
        anatomy.field_mm,
        anatomy.concentration,
    )


def _regulate(patient: Patient, shift: np.ndarray) -> Patient:
    """Set dose and window as the machine does on the first frame.

    Args:
        patient: With dose and window still open.
        shift: (2,), px, by how much the body has moved since the subtraction mask.

    Returns:
        The patient, ready.
    """
    exposure, display = patient.exposure, patient.display
    signal = mean_signal(patient.scene(0).thickness, exposure)
    level = np.float32(1 / np.median(signal[exposure.field_of_view]))
    exposure = replace(exposure, gain=exposure.gain * level)
    background = None
    if display.subtraction > 0:
        background = mean_signal(patient.body.before(), exposure)
        matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
        background = cv2.warpAffine(
            background, matrix, background.shape, borderMode=cv2.BORDER_REPLICATE
        )
    display = set_window(display, signal * level, background, exposure)
    return replace(patient, exposure=exposure, display=display)
