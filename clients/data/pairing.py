"""Which annotation belongs to which frame.

An annotation belongs to the image of the same place (`clients.data.places`), or, if
there is none, to the only one of the same name. Frames of a file with several are
meant by `NAME_NN`, counted from 0 with any number of digits; `NAME` alone is a mask for
all its frames but those that have their own, or has as many frames as the file. What
fits two images, and a frame that has two annotations, is an error: nothing is guessed.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from clients.annotations.annotation import Annotation, LabelMap
from clients.annotations.masks import MaskFiles
from clients.data.archive import Source
from clients.data.places import Place, split_number


class FrameKey(NamedTuple):
    """One frame of the archive."""

    path: Path
    index: int  # within the file, from 0


@dataclass(frozen=True)
class Claim:
    """An annotation that looks for its frame.

    Attributes:
        places: Of the image, as the annotation's name or content says it; the first
            that fits anything counts, so that the rest need not be found out.
        content: A finished annotation, or the path of a mask.
        layer: Class that a mask shows; "" = its pixel values tell.
        pages: Frames of a mask file.
        number: Of the frame within its file, where the content tells it.
    """

    places: Iterable[Place] = field(repr=False)
    content: Annotation | Path = field(repr=False)
    layer: str = ""
    pages: int = 1
    number: int | None = None


class Conflict(NamedTuple):
    """Annotations that do not fit a source, or one frame of it."""

    source: Source
    index: int | None
    what: str


@dataclass
class Pairing:
    """Who belongs to whom, and what is left."""

    annotations: dict[FrameKey, Annotation] = field(default_factory=dict, repr=False)
    conflicts: list[Conflict] = field(default_factory=list, repr=False)
    unused: int = 0  # annotations that belong to no frame
    between_kinds: int = 0  # annotations that fit both a DICOM file and another image


class _Given(NamedTuple):
    """An annotation that was given to a frame."""

    source: Source
    claim: Claim
    page: int | None  # of a mask file with several
    is_own: bool  # else it is for all frames of the file


class _Fit(NamedTuple):
    """A source that an annotation fits, and the one frame of it that is meant."""

    source: Source
    index: int | None  # None = all


TWO_IMAGES = (
    "Another image has the same name but for the suffix, or an annotation fits both: "
    "give masks the subfolders of their images, or remove one of the two."
)
TWO_ANNOTATIONS = (
    "There is more than one annotation; keep one. Masks of several classes go into "
    "folders named after the classes, as in masks/catheter/."
)
PAGES = (
    "A mask file has {pages} frames, the image {frames}; export it with one for all "
    "or as many as the image."
)


def pair(
    sources: Sequence[Source], claims: Iterable[Claim], labels: LabelMap
) -> Pairing:
    """Give every annotation to its frame.

    Args:
        sources: All files with frames; those that cannot be read keep their
            annotations from being called left over.
        claims: All annotations.
        labels: What the site declares.

    Returns:
        One annotation per frame at most, and everything that does not fit.
    """
    index, pairing = _Index(sources), Pairing()
    pairing.conflicts += [Conflict(twin, None, TWO_IMAGES) for twin in index.twins()]
    given: dict[FrameKey, list[_Given]] = defaultdict(list)
    for claim in claims:
        fits = index.find(claim)
        if len({fit.source.file.path for fit in fits}) > 1:
            _report_rivals(fits, pairing)
        elif not fits:
            pairing.unused += 1
        elif fits[0].source.facts is not None:  # else the image is what is wrong
            _give(claim, fits[0], given, pairing)
    for key, found in given.items():
        _settle(key, found, labels, pairing)
    return pairing


class _Index:
    """Finds sources by place and by name."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._by_place: dict[Place, list[Source]] = defaultdict(list)
        self._by_stem: dict[str, list[Source]] = defaultdict(list)
        for source in sources:
            self._by_place[source.place].append(source)
            self._by_stem[source.place.stem].append(source)

    def twins(self) -> list[Source]:
        """Return what no name tells apart, one source for each such place."""
        return [
            found[0]
            for found in self._by_place.values()
            if len(found) > 1 and not _differ_in_kind(found)
        ]

    def find(self, claim: Claim) -> list[_Fit]:
        """Return what fits: by place, else by name, else the only film there is."""
        place = None
        for place in claim.places:
            fits = _match(claim, place, self._at) or _match(claim, place, self._named)
            if fits:
                return fits
        if claim.number is None or place is None:
            return []
        films = [source for source in self._sources if _num_frames(source) != 1]
        films = _below(films, place)
        return _match(claim, place, lambda _: films) if len(films) == 1 else []

    def _at(self, place: Place) -> list[Source]:
        return self._by_place.get(place, [])

    def _named(self, place: Place) -> list[Source]:
        found = self._by_stem.get(place.stem, [])
        return _below(found, place) or found


def _match(
    claim: Claim, place: Place, look_up: Callable[[Place], list[Source]]
) -> list[_Fit]:
    if claim.number is not None:
        fits = [_Fit(source, claim.number) for source in look_up(place)]
    else:
        fits = [_Fit(source, None) for source in look_up(place)]
        parts = split_number(place.stem)
        if parts and parts[1] == "_":
            film = Place(place.folders, parts[0])
            fits += [_Fit(source, int(parts[2])) for source in look_up(film)]
    return [fit for fit in fits if (fit.index or 0) < _num_frames(fit.source)]


def _below(sources: list[Source], place: Place) -> list[Source]:
    depth = len(place.folders)
    return [one for one in sources if one.place.folders[:depth] == place.folders]


def _num_frames(source: Source) -> float:
    return math.inf if source.facts is None else source.facts.num_frames


def _differ_in_kind(sources: Iterable[Source]) -> bool:
    return len({source.is_dicom for source in sources}) > 1


def _report_rivals(fits: list[_Fit], pairing: Pairing) -> None:
    sources = [fit.source for fit in fits]
    if _differ_in_kind(sources):
        pairing.between_kinds += 1
    elif len({source.place for source in sources}) > 1:  # else they are twins
        pairing.conflicts.append(Conflict(fits[0].source, fits[0].index, TWO_IMAGES))


def _give(
    claim: Claim,
    fit: _Fit,
    given: dict[FrameKey, list[_Given]],
    pairing: Pairing,
) -> None:
    """Note for which frames an annotation is, if it can be for any."""
    source, num_frames = fit.source, int(_num_frames(fit.source))
    wanted = num_frames if fit.index is None else 1
    if claim.pages not in (1, wanted):
        text = PAGES.format(pages=claim.pages, frames=wanted)
        pairing.conflicts.append(Conflict(source, fit.index, text))
    elif fit.index is None and num_frames > 1 and not isinstance(claim.content, Path):
        pairing.unused += 1  # drawn on one frame, but nobody says on which
    else:
        frames = range(num_frames) if fit.index is None else (fit.index,)
        for index in frames:
            page = index if claim.pages > 1 else None
            is_own = fit.index is not None
            key = FrameKey(source.file.path, index)
            given[key].append(_Given(source, claim, page, is_own))


def _settle(
    key: FrameKey, found: list[_Given], labels: LabelMap, pairing: Pairing
) -> None:
    """Make one annotation of all that a frame was given, if they go together."""
    own_layers = {one.claim.layer for one in found if one.is_own}
    found = [one for one in found if one.is_own or one.claim.layer not in own_layers]
    contents = {one.claim.layer: one.claim.content for one in found}
    pages = {one.page for one in found}
    goes_together = len(contents) == len(found) and "" not in contents
    if len(found) > 1 and not goes_together:
        pairing.conflicts.append(Conflict(found[0].source, key.index, TWO_ANNOTATIONS))
    elif len(pages) > 1:
        text = PAGES.format(pages="one or several", frames="several")
        pairing.conflicts.append(Conflict(found[0].source, key.index, text))
    elif isinstance(found[0].claim.content, Path):
        pairing.annotations[key] = MaskFiles(contents, labels, pages.pop())
    else:
        pairing.annotations[key] = found[0].claim.content
