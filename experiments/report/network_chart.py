"""Sites on a circle and who teaches whom."""

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from experiments.report.axes import WIDTH, drawing, hint, label, shortened, unit
from experiments.report.formats import number
from experiments.report.markup import joined, tag

HEIGHT = 268.0
CENTRE = (WIDTH / 2, HEIGHT / 2)
RADIUS, WIDE_RADIUS = 90.0, 118.0  # of the circle, with names and with numbers only
SITE_RADIUS, LEAST_RADIUS = 13.0, 8.0  # of a site; smaller ones have no number
MAX_NAMED = 8  # sites; more are known by their numbers
MAX_NAME, MAX_BESIDE = 18, 10  # characters of a name; of one beside its site
BEND = 0.16  # share of the distance, so that both directions can be seen
MAX_WITH_NUMBER, MAX_THICK = 16, 40  # edges

Place = tuple[float, float]


def network_chart(
    sites: Sequence[str],
    weights: Mapping[tuple[str, str], float | None],
    *,
    description: str,
) -> Markup:
    """Draw sites and arrows from teacher to student.

    Args:
        sites: All sites, in the order of their numbers.
        weights: (teacher, student) -> weight; a thicker arrow weighs more.
        description: For those who cannot see it.

    Returns:
        The SVG element.
    """
    places = _circle(sites)
    heaviest = max((weight or 0.0 for weight in weights.values()), default=0.0) or 1.0
    radius = _site_radius(len(sites))
    widest = 2.5 if len(weights) <= MAX_THICK else 1.0
    parts = []
    for (teacher, student), weight in weights.items():
        share = (weight or 0.0) / heaviest
        text = f"{teacher} → {student}: weight {number(weight)}"
        start, end = places[teacher], places[student]
        parts.append(_arrow(start, end, widest * (0.4 + share), radius, text))
    if len(weights) <= MAX_WITH_NUMBER:
        parts += [
            _number(places[teacher], places[student], weight)
            for (teacher, student), weight in weights.items()
            if weight is not None
        ]
    parts += _sites(sites, places)
    return drawing(parts, HEIGHT, description)


def star_chart(sites: Sequence[str], *, description: str) -> Markup:
    """Draw sites around a server, where no site teaches another.

    Args:
        sites: All sites, in the order of their numbers.
        description: For those who cannot see it.

    Returns:
        The SVG element.
    """
    places = _circle(sites)
    x, y = CENTRE
    parts = [_stroke(f"M{_at(CENTRE)} L{_at(place)}", 1.2) for place in places.values()]
    parts += [
        tag("circle", cx=unit(x), cy=unit(y), r=26, class_="server"),
        label(x, y + 4, "server", "middle", "on-server"),
        *_sites(sites, places),
    ]
    return drawing(parts, HEIGHT, description)


def _circle(sites: Sequence[str]) -> dict[str, Place]:
    """Place the first site on top, the others clockwise."""
    radius = RADIUS if len(sites) <= MAX_NAMED else WIDE_RADIUS
    turn = 2 * math.pi / max(len(sites), 1)
    return {
        site: (
            CENTRE[0] + radius * math.sin(index * turn),
            CENTRE[1] - radius * math.cos(index * turn),
        )
        for index, site in enumerate(sites)
    }


def _sites(sites: Sequence[str], places: Mapping[str, Place]) -> list[Markup]:
    radius = _site_radius(len(sites))
    parts = []
    for index, site in enumerate(sites):
        x, y = places[site]
        parts += [
            tag("circle", hint(site), cx=unit(x), cy=unit(y), r=radius, class_="site"),
        ]
        if radius >= LEAST_RADIUS:
            parts.append(label(x, y + 4, str(index + 1), "middle", "on-site"))
        if len(sites) <= MAX_NAMED:
            parts.append(_name(x, y, site))
    return parts


def _site_radius(count: int) -> float:
    """Return how large sites may be without touching."""
    return min(SITE_RADIUS, 0.29 * 2 * math.pi * WIDE_RADIUS / max(count, 1))


def _name(x: float, y: float, site: str) -> Markup:
    """Write a name where no arrow passes: outside, else above or below its site."""
    across = x - CENTRE[0]
    if abs(across) > 0.7 * RADIUS and len(site) <= MAX_BESIDE:
        side = 1 if across > 0 else -1
        anchor = "start" if across > 0 else "end"
        return label(x + side * (SITE_RADIUS + 5), y + 4, site, anchor)
    is_below = y > CENTRE[1] - 1
    text = shortened(site, MAX_NAME)
    half = 3.6 * len(text) + 2  # a guess of half its width
    inside = min(max(x, half), WIDTH - half)
    name_y = y + SITE_RADIUS + 15 if is_below else y - SITE_RADIUS - 7
    return label(inside, name_y, text, "middle", "haloed")


def _arrow(start: Place, end: Place, width: float, radius: float, text: str) -> Markup:
    bend = _bend(start, end)
    tail, tip = _towards(start, bend, radius + 1), _towards(end, bend, radius + 2)
    size = min(7 + width, 0.6 * math.dist(tail, tip))
    return joined(
        [
            _stroke(f"M{_at(tail)} Q{_at(bend)} {_at(tip)}", width, text),
            tag("path", d=_head(bend, tip, size), class_="head"),
        ]
    )


def _head(before: Place, tip: Place, size: float) -> str:
    """Return the outline of an arrow's head."""
    angle = math.atan2(tip[1] - before[1], tip[0] - before[0])
    wings = [
        (tip[0] - size * math.cos(angle + turn), tip[1] - size * math.sin(angle + turn))
        for turn in (-0.4, 0.4)
    ]
    return f"M{_at(tip)} L{_at(wings[0])} L{_at(wings[1])} Z"


def _number(start: Place, end: Place, weight: float) -> Markup:
    bend = _bend(start, end)
    middle = [
        0.25 * a + 0.5 * b + 0.25 * c for a, b, c in zip(start, bend, end, strict=True)
    ]
    return label(middle[0], middle[1] + 4, number(weight, 2), "middle", "haloed")


def _bend(start: Place, end: Place) -> Place:
    across, down = end[0] - start[0], end[1] - start[1]
    return (
        (start[0] + end[0]) / 2 + BEND * down,
        (start[1] + end[1]) / 2 - BEND * across,
    )


def _towards(place: Place, aim: Place, distance: float) -> Place:
    across, down = aim[0] - place[0], aim[1] - place[1]
    length = math.hypot(across, down) or 1.0
    return (
        place[0] + across / length * distance,
        place[1] + down / length * distance,
    )


def _stroke(path: str, width: float, text: str = "") -> Markup:
    return tag(
        "path",
        hint(text) if text else "",
        d=path,
        class_="edge",
        stroke_width=f"{width:.1f}",
    )


def _at(place: Place) -> str:
    return f"{unit(place[0])} {unit(place[1])}"
