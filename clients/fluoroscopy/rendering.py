"""What devices absorb, and which pixels they are.

A mask is exact in this sense: a pixel is 1 when its centre is not further from the
device's centreline than the device's radius, that is, the geometric projection of the
device before any blur. Devices thinner than a pixel are one pixel wide in the mask.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clients.fluoroscopy.canvas import Canvas
from clients.fluoroscopy.devices import Catheter, Guidewire, Strand
from clients.fluoroscopy.geometry import Curve, Flags, arc_length
from clients.fluoroscopy.projection import Near, cylinder, trace, tube
from clients.fluoroscopy.spectrum import CONTRAST, POLYMER, STEEL, Thickness

MIN_MASK_RADIUS_PX = 0.5
LUMEN_SHARE = 0.64
COIL_DENSITY = 1.5  # of the wire's radiopaque tip, relative to its body
BAND_STEEL_MM = 0.8  # of a marker band; platinum, as steel that absorbs as much


class Drawn(NamedTuple):
    """A device in a frame."""

    mask: Flags  # (side, side)
    curve: Curve  # (points, 2), in units of the field, from the entry to the tip


def draw_devices(
    strands: tuple[Strand, ...],
    lines: list[dict[str, Curve]],
    thickness: Thickness,
    canvas: Canvas,
) -> dict[str, list[Drawn]]:
    """Put devices into the beam.

    Args:
        strands: Of the patient.
        lines: Centrelines of each strand in this frame.
        thickness: (materials, side, side), mm; the devices are added to it.
        canvas: The pixels.

    Returns:
        Class name -> its devices, that of the main strand first.
    """
    drawn: dict[str, list[Drawn]] = {}
    flat = thickness.reshape(len(thickness), -1)
    for strand, curves in zip(strands, lines, strict=True):
        for name, curve in curves.items():
            device = strand.devices[name]
            near = trace(curve, canvas, device.radius * canvas.resolution + 1)
            if isinstance(device, Catheter):
                _fill_catheter(flat, near, curve, device, strand, canvas)
            else:
                _fill_wire(flat, near, curve, device, strand, canvas)
            mask = np.zeros(canvas.side**2, bool)
            reach = max(device.radius * canvas.resolution, MIN_MASK_RADIUS_PX)
            mask[near.pixel[near.distance <= np.float32(reach)]] = True
            mask = mask.reshape(canvas.side, canvas.side)
            drawn.setdefault(name, []).append(Drawn(mask, curve))
    return drawn


def _fill_wire(
    flat: NDArray[np.float32],
    near: Near,
    curve: Curve,
    wire: Guidewire,
    strand: Strand,
    canvas: Canvas,
) -> None:
    length = _along(near, curve)
    from_tip = arc_length(curve)[-1] - length
    # The last centimetres carry a coil of denser metal.
    coil = np.clip((wire.coil - from_tip) / 0.01, 0, 1) * (COIL_DENSITY - 1) + 1
    steel = wire.steel_mm * cylinder(near.distance, wire.radius * canvas.resolution)
    steel = steel * coil * _density(strand, length)
    np.add.at(flat[STEEL], near.pixel, steel.astype(np.float32))


def _fill_catheter(
    flat: NDArray[np.float32],
    near: Near,
    curve: Curve,
    catheter: Catheter,
    strand: Strand,
    canvas: Canvas,
) -> None:
    length = _along(near, curve)
    from_tip = arc_length(curve)[-1] - length
    radius = catheter.radius * canvas.resolution
    dense = _density(strand, length)
    wall = catheter.polymer_mm * tube(near.distance, radius, LUMEN_SHARE)
    np.add.at(flat[POLYMER], near.pixel, (wall * dense).astype(np.float32))
    for begin, end in catheter.bands:
        inside = (from_tip >= begin) & (from_tip <= end)
        band = BAND_STEEL_MM * tube(near.distance[inside], radius, 0.8)
        np.add.at(flat[STEEL], near.pixel[inside], band)
    if catheter.filling_mm > 0:
        lumen = cylinder(near.distance, radius * LUMEN_SHARE)
        filling = catheter.filling_mm * lumen * _bubbles(strand, length, near)
        np.add.at(flat[CONTRAST], near.pixel, filling.astype(np.float32))


def _along(near: Near, curve: Curve) -> NDArray[np.float64]:
    """Return the way from the entry to the place nearest to each pixel, fields."""
    return np.interp(near.position, np.arange(len(curve)), arc_length(curve))


def _density(strand: Strand, length: NDArray[np.float64]) -> NDArray[np.float64]:
    places = np.linspace(0, 1.6, len(strand.density))
    return np.interp(length, places, strand.density)


def _bubbles(
    strand: Strand, length: NDArray[np.float64], near: Near
) -> NDArray[np.float64]:
    """Return how full the lumen is: agent with bubbles of air that move along."""
    first, second = strand.sway[0]
    wave = np.sin(310 * length + 9 * np.sin(37 * length + first) + 1.3 * near.distance)
    wave += np.sin(223 * length - 2.0 * near.distance + second)
    patchy = np.clip(2 * np.sin(9 * length + second), 0, 1)
    return 1 - 0.7 * patchy * (wave > 0.3)
