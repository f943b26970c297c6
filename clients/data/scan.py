"""Looks at a folder as it comes out of an archive: headers only, no frame is decoded.

Fills a `Catalogue`: everything that has a name is left behind here. What stands in the
way is listed, not raised, so that a site can mend all of it at once.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from clients.annotations.annotation import Annotation
from clients.data.archive import Archive, Source, read_archive, severity_of_damage
from clients.data.catalogue import (
    Catalogue,
    FolderSpec,
    FrameEntry,
    Problem,
    SequenceEntry,
    Severity,
)
from clients.data.claims import find_claims
from clients.data.errors import DataError
from clients.data.identity import SiteKey, patient_token
from clients.data.pairing import FrameKey, Pairing, pair
from clients.images.source import SourceFacts
from models.classes import CLASS_NAMES

POLARITIES = ("dark", "bright", "unknown")
BURNED_IN = (
    "The header says that text is burned into the pixels; look at the frames, for it "
    "may name the patient, and cover or leave them out."
)
SEVERAL_SIZES = (
    "Frames of one name or series differ in size or pixel spacing, so they count as "
    "several sequences of one patient; is it really one patient?"
)
WANTED = {
    "auto": "image, video or DICOM file",
    "pairs": "image (PNG, JPEG, TIFF), array (NPY) or video (MP4, AVI)",
    "dicom": "DICOM file",
}


@dataclass(frozen=True)
class Group:
    """The files of one sequence under its pseudonym, damaged ones among them."""

    id: str
    patient: str
    patient_token: int = field(repr=False)
    sources: tuple[Source, ...] = field(repr=False)  # in the order of their frames
    is_split: bool = False  # off a sequence of several sizes

    def frames(self) -> Iterator[tuple[int, Source, int]]:
        """Yield number from 1, source and index; a damaged file counts as one frame."""
        number = 0
        for source in self.sources:
            for index in range(source.facts.num_frames if source.facts else 1):
                number += 1
                yield number, source, index


def scan_folder(spec: FolderSpec, key: SiteKey) -> Catalogue:
    """List what a folder holds and what is wrong with it.

    Args:
        spec: The folder and what its site declares.
        key: Of the site; makes the pseudonyms.

    Returns:
        Sequences with all frames that can be read, whether annotated or not, and all
        problems that show without decoding.

    Raises:
        DataError: If the folder does not exist or a declaration is impossible. What is
            wrong with the files is no exception, but a problem in the catalogue.
    """
    check_declaration(spec)
    archive = read_archive(spec)
    claims, problems = find_claims(archive, spec)
    pairing = pair(archive.sources, claims, spec.labels)
    groups = group_sources(archive.sources, key)
    sequences = [
        entry for group in groups if (entry := _entry(group, pairing.annotations))
    ]
    problems = [
        *archive.problems,
        *_content_problems(archive, sequences, spec),
        *problems,
        *_pairing_problems(pairing),
        *_naming_problems(groups),
        *_sequence_problems(groups, pairing, spec),
    ]
    return Catalogue(
        spec, tuple(sorted(sequences, key=lambda one: one.id)), tuple(problems)
    )


def check_declaration(spec: FolderSpec) -> None:
    """Refuse a declaration that no folder could satisfy.

    Args:
        spec: What the site declares.

    Raises:
        DataError: If classes or polarity are none that exist.
    """
    classes = spec.labels.classes
    known = set(classes) <= set(CLASS_NAMES) and len(set(classes)) == len(classes)
    if not classes or not known:
        raise DataError(
            f"classes must be one or more different ones of {', '.join(CLASS_NAMES)}."
        )
    if spec.device_polarity not in POLARITIES:
        raise DataError(f"device polarity must be one of {', '.join(POLARITIES)}.")


def group_sources(sources: Sequence[Source], key: SiteKey) -> list[Group]:
    """Put the files of every sequence together.

    Args:
        sources: All files with frames.
        key: Of the site.

    Returns:
        The sequences, sorted by pseudonym; every file is in one of them.
    """
    runs: dict[str, list[Source]] = defaultdict(list)
    for source in sources:
        runs[source.sequence].append(source)
    groups = [
        Group(
            key.sequence_id(name),
            key.patient_id(files[0].patient),
            patient_token(files[0].patient),
            tuple(files),
            is_split=name != raw,
        )
        for raw, run in runs.items()
        for name, files in _split_by_size(raw, run).items()
    ]
    return sorted(groups, key=lambda group: group.id)


def _split_by_size(raw: str, run: list[Source]) -> dict[str, list[Source]]:
    """Return the files of one size and pixel spacing by a name of their own."""
    ordered = sorted(run, key=lambda source: source.order)
    sizes = dict.fromkeys(_size(one.facts) for one in ordered if one.facts)
    if len(sizes) < 2:
        return {raw: ordered}
    # A damaged file has no size: it stays with the first, to be reported there.
    first = next(iter(sizes))
    return {
        f"{raw}\0{size}": [
            one for one in ordered if (_size(one.facts) if one.facts else first) == size
        ]
        for size in sizes
    }


def _size(facts: SourceFacts) -> str:
    spacing = "" if facts.spacing_mm is None else f"{facts.spacing_mm:.6g}"
    return f"{facts.height} {facts.width} {spacing}"


def _entry(
    group: Group, annotations: Mapping[FrameKey, Annotation]
) -> SequenceEntry | None:
    """Return the frames of a sequence that can be read, None if there are none."""
    all_facts = [source.facts for source in group.sources if source.facts]
    if not all_facts:
        return None
    frames = tuple(
        FrameEntry(
            source.file.path,
            index,
            number,
            annotations.get(FrameKey(source.file.path, index)),
        )
        for number, source, index in group.frames()
        if source.facts
    )
    burned_in = {facts.burned_in for facts in all_facts}
    facts = replace(
        all_facts[0],
        num_frames=len(frames),
        bits=max(facts.bits for facts in all_facts),
        burned_in=True if True in burned_in else (None if None in burned_in else False),
    )
    return SequenceEntry(group.id, group.patient, group.patient_token, facts, frames)


def _content_problems(
    archive: Archive, sequences: Sequence[SequenceEntry], spec: FolderSpec
) -> list[Problem]:
    """Say whether there is enough to work with."""
    if not archive.sources:
        text = (
            f"The folder holds no {WANTED[spec.layout]}; correct `folder` or `layout`."
        )
        return [Problem(Severity.ERROR, text)]
    frames = [frame for sequence in sequences for frame in sequence.frames]
    num_bare = sum(not spec.uses(frame) for frame in frames)
    if frames and num_bare == len(frames):
        text = (
            f"None of {len(frames)} frame(s) has an annotation: masks lie below masks/ "
            "and are named like their image, as in masks/NAME.png, or NAME_00.png, "
            "NAME_01.png ... for the frames of one file."
        )
        return [Problem(Severity.ERROR, text)]
    patients = {
        sequence.patient
        for sequence in sequences
        if any(spec.uses(frame) for frame in sequence.frames)
    }
    found = []
    if len(patients) < spec.min_patients:
        kind = "Frames" if spec.unlabelled else "Annotated frames"
        text = (
            f"{kind} of {len(patients)} patient(s), at least "
            f"{spec.min_patients} are needed to train and to test on different ones."
        )
        found.append(Problem(Severity.ERROR, text))
    if num_bare:
        text = (
            f"{num_bare} of {len(frames)} frames have no annotation and are left out "
            "of training."
        )
        found.append(Problem(Severity.WARNING, text))
    return found


def _pairing_problems(pairing: Pairing) -> list[Problem]:
    found = []
    if pairing.between_kinds:
        text = (
            f"{pairing.between_kinds} annotation(s) fit both a DICOM file and another "
            'image: set `layout` to "pairs" or "dicom".'
        )
        found.append(Problem(Severity.ERROR, text))
    if pairing.unused:
        text = (
            f"{pairing.unused} mask(s) or other annotation(s) belong to no frame and "
            "are passed over; are their names those of the images?"
        )
        found.append(Problem(Severity.WARNING, text))
    return found


def _naming_problems(groups: Iterable[Group]) -> list[Problem]:
    """Say where nothing reliable tells one patient from the other."""
    names = {
        group.patient
        for group in groups
        for source in group.sources
        if source.is_guessed
    }
    if len(names) < 2:
        return []
    text = (
        f"{len(names)} patients are told apart by file names or studies only. If two "
        "may be one patient, give every patient a folder below images/: frames of one "
        "patient in training and test make results look better than they are."
    )
    return [Problem(Severity.WARNING, text)]


def _sequence_problems(
    groups: Iterable[Group], pairing: Pairing, spec: FolderSpec
) -> list[Problem]:
    """Say what is wrong with single sequences and frames, in their order."""
    conflicts: dict[tuple[Path, int | None], list[str]] = defaultdict(list)
    for source, index, what in pairing.conflicts:
        conflicts[source.file.path, index].append(what)
    left_out = " It is left out." if spec.skip_damaged else ""
    found = []
    for group in groups:
        if group.is_split:
            found.append(Problem(Severity.WARNING, SEVERAL_SIZES, group.id))
        if any(one.facts and one.facts.burned_in for one in group.sources):
            found.append(Problem(Severity.WARNING, BURNED_IN, group.id))
        for number, source, index in group.frames():
            at = (group.id, number if len(group.sources) > 1 else None)
            if source.facts is None:
                stop = "" if source.damage.endswith((".", "?", "!")) else "."
                text = f"A file {source.damage}{stop}{left_out}"
                found.append(Problem(severity_of_damage(spec), text, *at))
            path = source.file.path
            for what in conflicts.pop((path, None), []):
                found.append(Problem(Severity.ERROR, what, *at))
            for what in conflicts.pop((path, index), []):
                found.append(Problem(Severity.ERROR, what, group.id, number))
    return found
