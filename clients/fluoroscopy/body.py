"""A patient's body on the grid of the frames: what stands still, moves and flows."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from clients.fluoroscopy.anatomy import Anatomy
from clients.fluoroscopy.canvas import Canvas
from clients.fluoroscopy.geometry import Field
from clients.fluoroscopy.motion import Modes, Motion
from clients.fluoroscopy.spectrum import (
    BONE,
    CONTRAST,
    MATERIALS,
    STEEL,
    TISSUE,
    Thickness,
)
from clients.fluoroscopy.vessels import Inflow

MARGIN = 0.06  # of the field, drawn beyond its border because it may move into it
MOST_DETAIL = 512  # px across the field in which anatomy is drawn
BEFORE_S = -1.0  # when the mask of a digital subtraction is taken


@dataclass(frozen=True)
class Body:
    """Anatomy, its motion and the contrast agent in it.

    Attributes:
        motion: Breath and heartbeat.
        still: (2, size, size), tissue and bone that stand still, mm.
        moving: (side, side, 4), tissue, bone, contrast agent and steel that move, mm.
        rest: Where each pixel of a frame lies in `moving` at rest, px.
        modes: By how much a full breath and a full beat move it, px of `moving`.
        inflow: Contrast agent that comes and goes.
        steady: (materials, size, size), the body when nothing moves or flows.
    """

    motion: Motion
    still: NDArray[np.float32]
    moving: NDArray[np.float32]
    rest: tuple[Field, Field]
    modes: Modes
    inflow: Inflow | None
    steady: Thickness | None = None

    def at(self, time_s: float) -> Thickness:
        """Return the materials in the beam, (materials, size, size), mm.

        Args:
            time_s: Since the first frame.

        Returns:
            A new array.
        """
        if self.steady is not None:
            return self.steady.copy()
        moving = self.moving
        if self.inflow is not None:
            moving = moving.copy()
            moving[..., 2] += self.inflow.at(time_s)
        return self._move(moving, time_s)

    def before(self) -> Thickness:
        """Return the materials before any contrast agent, (materials, size, size)."""
        moving = self.moving.copy()
        moving[..., 2] = 0
        return self._move(moving, BEFORE_S)

    def _move(self, moving: NDArray[np.float32], time_s: float) -> Thickness:
        breath, beat = (np.float32(v) for v in self.motion.amplitudes(time_s))
        # What is seen at a pixel was elsewhere at rest: displacements are taken back.
        maps = [
            rest - breath * by_breath - beat * by_beat
            for rest, by_breath, by_beat in zip(self.rest, *self.modes, strict=True)
        ]
        moved = _sample(moving, *maps)
        size = self.still.shape[1]
        thickness = np.zeros((len(MATERIALS), size, size), np.float32)
        np.add(self.still[0], moved[..., 0], out=thickness[TISSUE])
        np.add(self.still[1], moved[..., 1], out=thickness[BONE])
        thickness[CONTRAST], thickness[STEEL] = moved[..., 2], moved[..., 3]
        return np.maximum(thickness, 0, out=thickness)


def body_canvas(size: int) -> Canvas:
    """Return the pixels on which the anatomy of frames of a size is drawn."""
    detail = min(size, MOST_DETAIL)
    return Canvas(detail, int(np.ceil(MARGIN * detail)))


def place_body(
    anatomy: Anatomy,
    canvas: Canvas,
    *,
    size: int,
    motion: Motion,
    inflow: Inflow | None,
) -> Body:
    """Bring an anatomy to the grid of the frames.

    Args:
        anatomy: Drawn on `canvas`.
        canvas: Of the anatomy.
        size: Side of the frames, px.
        motion: Of the patient.
        inflow: Contrast agent, on `canvas`; None = there is none.

    Returns:
        The body at any time.
    """
    x, y = Canvas(size).coordinates()
    rest = (_place(x, canvas), _place(y, canvas))
    layers = np.stack((anatomy.tissue, anatomy.bone), axis=2)
    still = _sample(layers.astype(np.float32, copy=False), *rest)
    agent = canvas.blank() if anatomy.agent is None else anatomy.agent
    parts = (anatomy.moving_tissue, anatomy.moving_bone, agent, anatomy.moving_steel)
    body = Body(
        motion=motion,
        still=np.ascontiguousarray(still.transpose(2, 0, 1)),
        moving=np.stack(parts, axis=2).astype(np.float32, copy=False),
        rest=rest,
        modes=motion.modes(x, y, scale=canvas.resolution),
        inflow=inflow,
    )
    if inflow is None and not motion.moves:
        return replace(body, steady=body.at(0.0))
    return body


def _place(axis: Field, canvas: Canvas) -> Field:
    """Return places in the field as the pixel numbers that cv2.remap wants."""
    return axis * np.float32(canvas.resolution) + np.float32(canvas.margin - 0.5)


def _sample(
    layers: NDArray[np.float32], columns: Field, rows: Field
) -> NDArray[np.float32]:
    # float32: in OpenCV 5.0.0.93 the cubic mode of warpAffine truncates replicated
    # borders of float64 images to whole numbers.
    return cv2.remap(
        layers, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
