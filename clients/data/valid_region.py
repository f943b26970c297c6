"""The part of a frame that lies inside the collimator.

Lead blades, the round field of an image intensifier and black bars leave an empty,
even border around the picture. FGA-Net crops to "the non-zero region"
(doi 10.21037/qims-2024-2926, its preprocessing); real borders hold noise and scatter
and are bright on inverted displays, so a test for zero finds few of them.

The search is ours and errs on the side of keeping. A border is cut off only if it
reaches the frame's edge, is even and the darkest (or brightest) of the frame, ends in
a step almost everywhere, and leaves an opening that collimators can have: convex, with
straight sides, or round about the middle. A dark spine, a
lung or the air around a head fails at least one of these.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from clients.data.errors import DataError

WORKING_SIDE = 512
"""Larger frames are searched at this length of their longer side, px."""
MIN_SIDE = 16  # px; less is too little to tell a border from a picture
MIN_SHARE = 0.001  # of the frame; less border than this is not worth a cut
MIN_OPENING = 0.1  # of the frame; it holds the middle of the frame, too
TOLERANCES = (0.06, 0.2)  # allowed spread of a border, in units of the contrast
SPREAD_FACTOR = 1.5  # of the border's own spread along the edge of the frame
WIDER = (0.35, 0.5)  # allowed spread where scattered radiation lights the border
STEP_FACTOR = 1.75  # a step must exceed the allowed spread by this much
WIDE_STEP = 0.25  # the step where the wider spread is allowed, in units of the contrast
STEP_REACH = 0.02  # how far inside the step must be complete, in longer sides
MIN_STEEP = 0.85  # share of a border's edge that must show the step
MIN_WIDE_STEEP = 0.95  # the same where the wider spread is allowed
MIN_EVEN = 0.95  # share of a border's pixels within the allowed spread
SPECK = (0.02, 0.15)  # areas of the opening, longer sides; smaller is burned-in text
STRAIGHT = 0.004  # allowed distance from a straight line, in longer sides
LONG = 0.2  # a straight side; round fields show shorter ones, in longer sides
MIN_LONG = 0.6  # share of a border's edge made of long straight sides
ROUND = 0.006  # allowed distance from a circle, in longer sides
MIN_ON_CIRCLE = 0.75  # share of all edges on the circle; around heads 0.55 at most
MAX_OFF_CENTRE = 0.08  # of a circle, in longer sides

_Field = NDArray[np.float32]
_Flags = NDArray[np.bool_]


class _Border(NamedTuple):
    """A piece of even border and the edge of the opening that faces it."""

    pixels: _Flags  # (height, width)
    edge: NDArray[np.int32]  # (points, 2) of x, y along the opening, in order
    steep: NDArray[np.bool_]  # (points,), the frame steps up inside this point


def find_valid_region(pixels: NDArray[np.number]) -> NDArray[np.bool_]:
    """Find the part of a frame that is not behind a collimator.

    Works on dark borders and, for displays like MONOCHROME1, on bright ones. The edge
    lies at the foot of the step, so the blades' half-shadow stays valid, and of the
    border a rim of up to 1 % of the longer side. Borders that are neither darkest nor
    brightest, such as the grey noise around a subtracted frame, are not found.

    Args:
        pixels: (height, width), any real type and range; frames from a detector of 8
            to 16 bits and frames in [0, 1] alike.

    Returns:
        (height, width); all True where no border is certain.

    Raises:
        DataError: If the image is not two-dimensional, is empty or is not finite.
    """
    if pixels.ndim != 2 or pixels.size == 0:
        raise DataError(f"A frame needs height and width, got shape {pixels.shape}.")
    grey = pixels.astype(np.float32)
    if not np.isfinite(grey).all():
        raise DataError("the image holds pixels that are not finite (NaN or infinity)")
    height, width = grey.shape
    ratio = WORKING_SIDE / max(height, width)
    if ratio < 1:
        size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    if min(grey.shape) < MIN_SIDE:
        return np.ones((height, width), np.bool_)
    smooth = cv2.GaussianBlur(
        grey, (0, 0), max(0.8, max(grey.shape) / 256), borderType=cv2.BORDER_REPLICATE
    )
    outside = _find_border(smooth) | _find_border(-smooth, bright=True)
    resized = cv2.resize(
        outside.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST
    )
    return resized == 0


class _Rule(NamedTuple):
    """What counts as border, in units of the smoothed frame."""

    limit: float  # a border is darker
    step: float  # the opening is brighter by at least this much
    steep: float  # share of the edge that must show it


def _find_border(smooth: _Field, *, bright: bool = False) -> _Flags:
    """Return the pixels behind the blades; none where that is not certain.

    Args:
        smooth: (height, width), negated when a bright border is looked for.
        bright: It is negated.
    """
    none = np.zeros(smooth.shape, np.bool_)
    above = smooth[_frame_edge(smooth.shape)]
    level, top = float(np.percentile(above, 2)), float(np.percentile(smooth, 99))
    if top <= level:
        return none
    contrast = float(np.median(smooth[smooth > level + (top - level) / 4])) - level
    spread = _spread(above - level, contrast)
    found = _search(smooth, _Rule(level + spread, STEP_FACTOR * spread, MIN_STEEP))
    if bright:  # nothing scatters light into a bright border
        return found
    for share in WIDER:
        if found.any():
            break
        rule = _Rule(level + share * contrast, WIDE_STEP * contrast, MIN_WIDE_STEEP)
        wide = _search(smooth, rule)
        found = wide if _is_pair(wide) else none
    return found


def _spread(above: _Field, contrast: float) -> float:
    """Return how far above its level a border lies, by what the frame's edge shows."""
    least, most = (share * contrast for share in TOLERANCES)
    spread = float(np.percentile(above[above < most], 90))
    return float(np.clip(SPREAD_FACTOR * spread, least, most))


def _search(smooth: _Field, rule: _Rule) -> _Flags:
    """Return the border among the pixels below a limit."""
    none = np.zeros(smooth.shape, np.bool_)
    dark = smooth < rule.limit
    opening = _convex_opening(~_reaching(dark))
    share = cv2.countNonZero(opening) / opening.size
    height, width = opening.shape
    if not MIN_OPENING < share < 1 - MIN_SHARE or not opening[height // 2, width // 2]:
        return none
    borders = _split(smooth, dark, opening, rule.step)
    blades = [one for one in borders if one.steep.mean() >= rule.steep]
    blades = [one for one in blades if _is_straight(one.edge, max(smooth.shape))]
    if len(blades) == 1 and _is_corner(blades[0].pixels):  # blades close in pairs
        blades = []
    found = np.logical_or.reduce([none, *(blade.pixels for blade in blades)])
    return found | _outside_circle(borders, smooth.shape)


def _is_pair(border: _Flags) -> bool:
    """Tell whether two opposite sides of the frame are border from end to end."""
    return bool(
        (border[:, 0].all() and border[:, -1].all())
        or (border[0].all() and border[-1].all())
    )


def _frame_edge(shape: tuple[int, ...]) -> _Flags:
    ring = np.ones(shape, np.bool_)
    ring[2:-2, 2:-2] = False
    return ring


def _reaching(dark: _Flags) -> _Flags:
    """Keep the dark regions that reach the edge of the frame."""
    count, labels = cv2.connectedComponents(dark.astype(np.uint8), connectivity=4)
    reaches = np.zeros(count, np.bool_)
    reaches[labels[_frame_edge(dark.shape) & dark]] = True
    return reaches[labels]


def _convex_opening(inside: _Flags) -> NDArray[np.uint8]:
    """Return the convex hull of all that is not border, without burned-in text."""
    filled = np.zeros(inside.shape, np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8))
    stats = stats[1:]
    if not len(stats):
        return filled
    areas, lengths = stats[:, cv2.CC_STAT_AREA], stats[:, 2:4].max(axis=1)
    longest = SPECK[1] * max(inside.shape)
    large = (areas >= SPECK[0] * areas.max()) | (lengths > longest)
    chosen = np.concatenate([[False], large])[labels].astype(np.uint8)
    outlines, _ = cv2.findContours(chosen, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    hull = cv2.convexHull(np.concatenate(outlines))
    return cv2.fillConvexPoly(filled, hull, 1)


def _split(
    smooth: _Field, dark: _Flags, opening: NDArray[np.uint8], step: float
) -> list[_Border]:
    """Return the even pieces of what lies outside the opening."""
    contours, _ = cv2.findContours(opening, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if len(contours) != 1:
        return []
    contour = contours[0][:, 0]
    reach = max(2.0, STEP_REACH * max(opening.shape))
    inner = smooth[*_beside(contour, opening, reach)]
    outer = smooth[*_beside(contour, opening, -reach / 2)]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        1 - opening, connectivity=4
    )
    borders = []
    for number in range(1, count):
        pixels = labels == number
        if stats[number, cv2.CC_STAT_AREA] < MIN_SHARE * smooth.size:
            continue
        if dark[pixels].mean() < MIN_EVEN:
            continue
        near = cv2.dilate(pixels.astype(np.uint8), np.ones((3, 3), np.uint8))
        facing = near[contour[:, 1], contour[:, 0]] > 0
        start = _first_of_run(facing)
        order = np.roll(np.arange(len(contour)), -start)
        order = order[facing[order]]
        floor = np.minimum(outer[order], np.median(smooth[pixels]))
        steep = inner[order] > floor + step
        borders.append(_Border(pixels, contour[order], steep))
    return [border for border in borders if len(border.edge) > 2]


def _beside(
    contour: NDArray[np.int32], opening: NDArray[np.uint8], reach: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns this far inside each point of the opening's edge."""
    padded = cv2.copyMakeBorder(opening, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    wide = cv2.GaussianBlur(padded.astype(np.float32), (0, 0), abs(reach))
    columns, rows = contour.T + 1
    normal = np.stack(
        [
            wide[rows, columns + 1] - wide[rows, columns - 1],
            wide[rows + 1, columns] - wide[rows - 1, columns],
        ],
        axis=1,
    )
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    there = np.rint(contour + reach * normal).astype(np.int64)
    height, width = opening.shape
    return there[:, 1].clip(0, height - 1), there[:, 0].clip(0, width - 1)


def _first_of_run(facing: _Flags) -> int:
    """Return where, around a closed curve, the points that face a border begin."""
    begins = np.flatnonzero(facing & ~np.roll(facing, 1))
    return int(begins[0]) if len(begins) else 0


def _is_straight(edge: NDArray[np.int32], unit: int) -> bool:
    """Tell whether an edge is made of straight sides.

    A curve that is nowhere straight splits into sides shorter than `LONG`.
    """
    corners = cv2.approxPolyDP(edge[:, None], max(1.5, STRAIGHT * unit), False)
    sides = np.hypot(*np.diff(corners[:, 0], axis=0).T)
    long = sides[sides >= LONG * unit].sum() / sides.sum()
    return len(sides) == 1 or bool(long >= MIN_LONG)


def _is_corner(pixels: _Flags) -> bool:
    """Tell whether a piece touches just two sides of the frame, next to each other."""
    rows, columns = pixels.any(axis=1), pixels.any(axis=0)
    return bool(rows[0] != rows[-1] and columns[0] != columns[-1])


def _outside_circle(borders: list[_Border], shape: tuple[int, ...]) -> _Flags:
    """Return the border around a round field; none if the field is not round."""
    none = np.zeros(shape, np.bool_)
    if not borders:
        return none
    unit, allowed = max(shape), max(1.5, ROUND * max(shape))
    points = np.concatenate([border.edge for border in borders]).astype(np.float64)
    steep = np.concatenate([border.steep for border in borders])
    chosen = steep
    for _ in range(3):  # fit, then drop what a dark organ at the edge has bent
        if chosen.sum() < 8:
            return none
        x, y, radius = _fit_circle(points[chosen])
        away = np.hypot(points[:, 0] - x, points[:, 1] - y) - radius
        chosen = steep & (np.abs(away) <= 4 * allowed)
    on_circle = (steep & (np.abs(away) <= allowed)).mean()
    off_centre = max(abs(x - shape[1] / 2), abs(y - shape[0] / 2)) / unit
    if on_circle < MIN_ON_CIRCLE or off_centre > MAX_OFF_CENTRE:
        return none
    rows, columns = np.indices(shape)
    beyond = np.hypot(columns - x, rows - y) > radius + 0.5
    return beyond & np.logical_or.reduce([border.pixels for border in borders])


def _fit_circle(points: NDArray[np.float64]) -> tuple[float, float, float]:
    """Fit a circle by least squares (Kasa, 1976): x^2 + y^2 = 2 a x + 2 b y + c."""
    matrix = np.column_stack([2 * points, np.ones(len(points))])
    (x, y, offset), *_ = np.linalg.lstsq(matrix, (points**2).sum(axis=1), rcond=None)
    return float(x), float(y), float(np.sqrt(max(offset + x * x + y * y, 0)))
