"""Sizes of the bodies that lie under the beam, in mm.

Rounded from textbooks of anatomy; the origin lies in the middle of the chest, x to the
right, y towards the feet, z to the back.
"""

from dataclasses import dataclass

import numpy as np

from clients.fluoroscopy.geometry import Curve, Range
from clients.fluoroscopy.skeleton import Cage


@dataclass(frozen=True)
class Trunk:
    """A kind of body; lengths in mm."""

    cage: Cage
    wall: float  # soft tissue around the cage
    lung_top: float  # height of the apex
    dome: float  # height of the diaphragm
    heart: Curve  # (3,), x to the right, y down, z back
    heart_radii: Curve  # (2,)
    rib_bone: Range
    field: Range
    views: tuple[tuple[Curve, Curve], ...]  # regions of which one is looked at
    turns: tuple[float, ...]  # rad; how the body may lie in the image
    wobble: float  # standard deviation of the turn, rad
    obliques: Range  # rad
    contrast: float  # chance of a tree that can be filled


HUMAN = Trunk(
    cage=Cage(
        half_width=132,
        half_depth=82,
        ribs=11,
        rib_spacing=25,
        rib_half_width=6.5,
        rib_drop=92,
        first_rib=-170,
        vertebra_half_width=17,
        vertebra_period=25,
        vertebra_bone=13,
    ),
    wall=24,
    lung_top=-165,
    dome=78,
    heart=np.array([22.0, 38.0, -22.0]),
    heart_radii=np.array([66.0, 50.0]),
    rib_bone=(4.5, 7.0),
    field=(115, 165),
    views=(
        (np.array([-35.0, -45.0]), np.array([60.0, 60.0])),
        (np.array([-60.0, -30.0]), np.array([75.0, 80.0])),
        (np.array([-35.0, -45.0]), np.array([60.0, 60.0])),
        (np.array([-30.0, 215.0]), np.array([30.0, 270.0])),
    ),
    turns=(0.0,),
    wobble=0.05,
    obliques=(-0.6, 0.6),
    contrast=0.35,
)
PIG = Trunk(
    cage=Cage(
        half_width=84,
        half_depth=92,
        ribs=14,
        rib_spacing=21,
        rib_half_width=4.8,
        rib_drop=125,
        first_rib=-190,
        vertebra_half_width=12,
        vertebra_period=19,
        vertebra_bone=13,
    ),
    wall=20,
    lung_top=-180,
    dome=70,
    heart=np.array([8.0, 20.0, -55.0]),
    heart_radii=np.array([55.0, 42.0]),
    rib_bone=(4.0, 6.5),
    field=(110, 160),
    views=((np.array([-30.0, -60.0]), np.array([30.0, 50.0])),),
    turns=(0.0, np.pi / 2, -np.pi / 2),
    wobble=0.25,
    obliques=(0.0, 1.0),
    contrast=0.2,
)
