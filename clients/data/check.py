"""Decodes everything that a catalogue lists, once, and says what is wrong with it.

One frame is in memory at a time, so ten thousand need no more than one. A damaged
frame is a finding; it never ends the check.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from clients.data.catalogue import (
    Catalogue,
    FolderSpec,
    Problem,
    SequenceEntry,
    Severity,
)
from clients.data.copies import Copies
from clients.data.findings import CheckReport, SequenceFindings
from clients.data.frame_check import FrameFindings, FrameReader
from clients.data.polarity import measure_polarity

CONSTANT = "the frame has one single grey value; is it meant to be there?"
DRAWN_ON_NOTHING = (
    "a device is drawn on a frame of one single grey value; export the frame again, or "
    "take it out"
)


def check_catalogue(
    catalogue: Catalogue, *, progress: Callable[[int, int], None] | None = None
) -> CheckReport:
    """Decode every frame and every annotation, and report.

    Args:
        catalogue: Of `clients.data.scan.scan_folder`.
        progress: Called with the number of frames done and of all, after each.

    Returns:
        The report, in the same order for the same folder and key.
    """
    total = sum(len(sequence.frames) for sequence in catalogue.sequences)
    reader, copies, done = FrameReader(), Copies(), 0
    contents: list[bytes] = []
    tallies = [_Tally(entry, catalogue.spec) for entry in catalogue.sequences]
    for tally in tallies:
        for frame in tally.entry.frames:
            found = reader.look(frame, tally.entry.facts.spacing_mm)
            tally.add(frame.number, found, is_used=catalogue.spec.uses(frame))
            if not found.damage:
                contents.append(found.content())
                if not found.constant:  # two black frames are no copies
                    copies.add(tally.entry, frame.number, found.digest)
            done += 1
            if progress is not None:
                progress(done, total)
    report = CheckReport(
        spec=catalogue.spec,
        sequences=tuple(tally.findings() for tally in tallies),
        problems=(),
        digest=hashlib.sha256(b"".join(sorted(contents))).hexdigest(),
    )
    problems = [problem for tally in tallies for problem in tally.problems]
    problems += [*catalogue.problems, *copies.problems(), *_of_folder(report)]
    problems += _too_few_patients(report, catalogue)
    return replace(report, problems=tuple(sorted(problems, key=_place)))


class _Tally:
    """Adds up the frames of one sequence."""

    def __init__(self, entry: SequenceEntry, spec: FolderSpec) -> None:
        self.entry = entry
        self.problems: list[Problem] = []
        self._spec = spec
        self._damaged = self._labelled = self._pixels = self._num_drawn = 0
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._drawn: Counter[str] = Counter()
        self._area: Counter[str] = Counter()
        self._scores: list[float] = []

    def add(self, number: int, found: FrameFindings, *, is_used: bool) -> None:
        if found.shape is not None:
            self._sizes[found.shape] += 1
        if found.damage:
            self._damaged += 1
            # What nobody trains on stops nobody.
            stops = is_used and not self._spec.skip_damaged
            severity = Severity.ERROR if stops else Severity.WARNING
            self._report(severity, found.damage, number)
            return
        if found.constant and any(map(np.any, (found.layers or {}).values())):
            self._report(Severity.ERROR, DRAWN_ON_NOTHING, number)
        elif found.constant:
            self._report(Severity.WARNING, CONSTANT, number)
        if found.layers is not None:
            self._labelled += 1
            self._add_layers(found)

    def findings(self) -> SequenceFindings:
        classes, scores = self._spec.labels.classes, self._scores
        return SequenceFindings(
            id=self.entry.id,
            patient=self.entry.patient,
            facts=self.entry.facts,
            frames=len(self.entry.frames),
            damaged=self._damaged,
            labelled=self._labelled,
            sizes=dict(sorted(self._sizes.items())),
            drawn={name: self._drawn[name] for name in classes},
            area={name: self._area[name] for name in classes},
            labelled_pixels=self._pixels,
            score=sum(scores) / len(scores) if scores else None,
        )

    def _add_layers(self, found: FrameFindings) -> None:
        areas = {
            name: int(np.count_nonzero(layer)) for name, layer in found.layers.items()
        }
        self._pixels += found.pixels.size
        self._area.update(areas)
        self._drawn.update(name for name, area in areas.items() if area)
        if not any(areas.values()):
            return
        self._num_drawn += 1
        # Frames of a sequence resemble each other: the 1st, 2nd, 4th, 8th ... will do.
        if self._num_drawn & (self._num_drawn - 1) == 0:
            device = np.any(list(found.layers.values()), axis=0)
            score = measure_polarity(found.pixels, device)
            self._scores += [] if score is None else [score]

    def _report(self, severity: Severity, what: str, number: int) -> None:
        self.problems.append(Problem(severity, what, self.entry.id, number))


def _of_folder(report: CheckReport) -> Iterable[Problem]:
    """Yield what only the whole folder shows."""
    if report.sequences and report.count("damaged") == report.count("frames"):
        yield Problem(Severity.ERROR, "no frame can be used; export the folder again")
    if report.count("labelled"):
        for name, count in report.drawn.items():
            if count == 0:
                yield Problem(
                    Severity.ERROR,
                    f"{name} is declared but drawn in no frame; take it out of the "
                    "classes, else every model learns that it is never there",
                )
    yield from _of_polarity(report)


def _too_few_patients(report: CheckReport, catalogue: Catalogue) -> list[Problem]:
    """Tell where damage leaves fewer patients than the site wants."""
    listed = {
        sequence.patient
        for sequence in catalogue.sequences
        if any(catalogue.spec.uses(frame) for frame in sequence.frames)
    }
    unlabelled = report.spec.unlabelled
    left = {
        sequence.patient
        for sequence in report.sequences
        if (sequence.frames > sequence.damaged if unlabelled else sequence.labelled)
    }
    wanted = report.spec.min_patients
    is_new = len(left) < wanted <= len(listed)  # else the catalogue has said it
    if not is_new or report.count("damaged") == report.count("frames"):
        return []
    kind = "frames" if unlabelled else "annotated frames"
    text = (
        f"{kind} of {len(left)} patient(s) can be used, at least {wanted} are needed; "
        "repair the damaged frames"
    )
    return [Problem(Severity.ERROR, text)]


def _of_polarity(report: CheckReport) -> Iterable[Problem]:
    declared, measured = report.spec.device_polarity, report.polarity
    if measured == "unclear":
        yield Problem(
            Severity.WARNING,
            "devices are neither clearly darker nor clearly brighter than what is "
            "beside them; look whether the masks lie on the devices",
        )
    expected = measured if declared == "unknown" else declared
    if expected not in ("dark", "bright"):
        return
    for sequence in report.sequences:
        if sequence.polarity in {"dark", "bright"} - {expected}:
            said = "most are" if declared == "unknown" else "the site declares"
            yield Problem(
                Severity.WARNING,
                f"devices are {sequence.polarity}, {said} {expected}; look whether "
                "the frames are inverted, or correct the declared polarity",
                sequence.id,
            )


def _place(problem: Problem) -> tuple[str, str, int, str]:
    # "error" comes before "warning", and "" before every pseudonym.
    return (problem.severity, problem.sequence, problem.frame or 0, problem.what)
