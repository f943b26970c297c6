"""What a check says of frames that are made to be wrong in one way each."""

import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clients.annotations.annotation import LabelMap
from clients.data import frame_check
from clients.data.catalogue import (
    Catalogue,
    FolderSpec,
    FrameEntry,
    Problem,
    SequenceEntry,
    Severity,
)
from clients.data.check import check_catalogue
from clients.data.errors import DataError
from clients.data.findings import CheckReport
from clients.data.folders import load_folder
from clients.data.identity import SiteKey
from clients.data.scan import scan_folder
from clients.images.source import SourceFacts
from strategies.data_settings import DataSettings
from tests.clients.planted_files import image_bytes
from tests.clients.planted_files import make_frame as planted_frame
from tests.clients.planted_files import make_mask as planted_mask

SIZE = 64
FACTS = SourceFacts(num_frames=1, height=SIZE, width=SIZE, bits=8)
SPEC = FolderSpec(Path("nowhere"), labels=LabelMap(classes=("catheter",)))
Image = NDArray | Exception


class Drawn:
    """An annotation that is given, or that fails."""

    def __init__(self, **layers: Image) -> None:
        self._layers = layers

    def layers(self, *_: object) -> Mapping[str, NDArray]:
        for layer in self._layers.values():
            if isinstance(layer, Exception):
                raise layer
        return self._layers


class Opened:
    """A file whose frames are given, or fail."""

    facts, identity = FACTS, None

    def __init__(self, frames: list[Image]) -> None:
        self._frames = frames

    def read_frame(self, index: int) -> NDArray:
        found = self._frames[index]
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[Path, list[Image]]:
    """What lies in each file; opening reads it."""
    found: dict[Path, list[Image]] = {}
    monkeypatch.setattr(frame_check, "open_source", lambda path: Opened(found[path]))
    return found


AddSequence = Callable[..., SequenceEntry]


@pytest.fixture
def add_sequence(files: dict[Path, list[Image]]) -> AddSequence:
    """Return a builder of a sequence that lies in one file."""

    def build(
        number: int,
        frames: list[Image],
        annotations: list[Drawn | None] | None = None,
        *,
        patient: int | None = None,
    ) -> SequenceEntry:
        path = Path(f"file-{number}")
        files[path] = frames
        annotations = annotations or [Drawn(catheter=line_mask())] * len(frames)
        return SequenceEntry(
            id=f"S-{number}",
            patient=f"P-{number if patient is None else patient}",
            patient_token=number,
            facts=replace(FACTS, num_frames=len(frames)),
            frames=tuple(
                FrameEntry(path, index, index + 1, annotation)
                for index, annotation in enumerate(annotations)
            ),
        )

    return build


def line_mask() -> NDArray[np.uint8]:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[30:33] = 1
    return mask


def make_frame(seed: int, *, device: float = -40.0) -> NDArray[np.float64]:
    noise = np.random.default_rng(seed).normal(0, 3, (SIZE, SIZE))
    return 100 + noise + device * line_mask().astype(float)


def three_patients(add_sequence: AddSequence) -> list[SequenceEntry]:
    return [add_sequence(k, [make_frame(k), make_frame(10 + k)]) for k in range(3)]


def check(*sequences: SequenceEntry, spec: FolderSpec = SPEC) -> CheckReport:
    return check_catalogue(Catalogue(spec, tuple(sequences), ()))


def found(report: CheckReport, part: str) -> list[Problem]:
    return [problem for problem in report.problems if part in problem.what]


def test_good_frames_are_counted_and_have_no_problem(add_sequence: AddSequence) -> None:
    report = check(*three_patients(add_sequence))
    assert report.problems == ()
    assert report.num_patients == 3
    assert [report.count(n) for n in ("frames", "damaged", "labelled")] == [6, 0, 6]
    assert report.sizes == {(64, 64): 6}
    assert report.foreground == {"catheter": pytest.approx(3 / 64)}
    assert report.drawn == {"catheter": 6}
    assert report.polarity == "dark"


def test_progress_is_told_after_every_frame(add_sequence: AddSequence) -> None:
    told: list[tuple[int, int]] = []
    sequences = tuple(three_patients(add_sequence))
    check_catalogue(
        Catalogue(SPEC, sequences, ()), progress=lambda *now: told.append(now)
    )
    assert told == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize(
    ("bad", "part"),
    [
        (DataError("is cut off"), "the file is cut off"),
        (np.full((SIZE, SIZE), np.nan), "not finite"),
        (np.zeros((SIZE, SIZE, 3)), "no grey image"),
        (OSError("SECRET"), "cannot be read"),
        (ZeroDivisionError("SECRET"), "cannot be read"),
    ],
)
@pytest.mark.parametrize("skips", [False, True])
def test_a_frame_that_cannot_be_read_is_named_and_the_others_still_count(
    add_sequence: AddSequence, bad: Image, part: str, skips: bool
) -> None:
    sequences = three_patients(add_sequence)
    sequences[1] = add_sequence(1, [make_frame(1), bad, make_frame(11)])
    report = check(*sequences, spec=replace(SPEC, skip_damaged=skips))
    severity = Severity.WARNING if skips else Severity.ERROR
    (problem,) = report.problems
    assert (problem.severity, problem.sequence, problem.frame) == (severity, "S-1", 2)
    assert part in problem.what
    assert "SECRET" not in problem.what
    assert [report.count(n) for n in ("frames", "damaged", "labelled")] == [7, 1, 6]


@pytest.mark.parametrize(
    ("bad", "part"),
    [
        (DataError("a label means nothing"), "a label means nothing"),
        (np.zeros((SIZE, SIZE + 1), np.uint8), "another size"),
        (KeyError("SECRET"), "annotation cannot be read"),
    ],
)
def test_an_annotation_that_does_not_fit_damages_its_frame_only(
    add_sequence: AddSequence, bad: Image, part: str
) -> None:
    sequences = three_patients(add_sequence)
    good = Drawn(catheter=line_mask())
    frames: list[Image] = [make_frame(1), make_frame(11)]
    sequences[1] = add_sequence(1, frames, [Drawn(catheter=bad), good])
    report = check(*sequences)
    (problem,) = report.problems
    assert (problem.severity, problem.frame) == (Severity.ERROR, 1)
    assert part in problem.what
    assert "SECRET" not in problem.what
    assert report.count("labelled") == 5


def test_a_single_grey_is_a_warning_and_with_a_device_on_it_an_error(
    add_sequence: AddSequence,
) -> None:
    sequences = three_patients(add_sequence)
    blank = np.full((SIZE, SIZE), 7, np.uint8)
    empty = Drawn(catheter=np.zeros_like(blank))
    drawn = Drawn(catheter=line_mask())
    sequences[1] = add_sequence(
        1, [make_frame(1), blank, blank, blank], [drawn, empty, None, drawn]
    )
    report = check(*sequences)
    assert [(p.severity, p.frame) for p in report.problems] == [
        (Severity.ERROR, 4),
        (Severity.WARNING, 2),
        (Severity.WARNING, 3),
    ]
    assert report.count("labelled") == 7


def test_some_empty_masks_are_normal_and_counted(add_sequence: AddSequence) -> None:
    sequences = three_patients(add_sequence)
    empty = Drawn(catheter=np.zeros((SIZE, SIZE), np.uint8))
    sequences[0] = add_sequence(0, [make_frame(0), make_frame(10)], [empty, empty])
    report = check(*sequences)
    assert report.problems == ()
    assert report.count("labelled") == 6
    assert report.drawn == {"catheter": 4}
    assert report.foreground["catheter"] == pytest.approx(3 / 64 * 4 / 6)


def test_a_declared_class_that_is_never_drawn_is_an_error(
    add_sequence: AddSequence,
) -> None:
    spec = replace(SPEC, labels=LabelMap(classes=("catheter", "guidewire")))
    empty = np.zeros((SIZE, SIZE), np.uint8)
    annotation = Drawn(catheter=line_mask(), guidewire=empty)
    sequences = [
        add_sequence(number, [make_frame(number)], [annotation]) for number in range(3)
    ]
    report = check(*sequences, spec=spec)
    (problem,) = report.problems
    assert problem.severity is Severity.ERROR
    assert "guidewire is declared but drawn in no frame" in problem.what
    assert problem.sequence == ""


def test_one_frame_in_two_patients_is_an_error_at_both(
    add_sequence: AddSequence,
) -> None:
    sequences = three_patients(add_sequence)
    # The same grey values in another type, as a DICOM file and its export have them.
    copy = make_frame(0).astype(np.float32)
    sequences[2] = add_sequence(2, [make_frame(2), make_frame(12), copy])
    report = check(*sequences)
    assert [(p.severity, p.sequence, p.frame) for p in report.problems] == [
        (Severity.ERROR, "S-0", 1),
        (Severity.ERROR, "S-2", 3),
    ]
    assert "another patient" in report.problems[0].what


def test_copies_within_one_patient_are_warnings_once_a_sequence(
    add_sequence: AddSequence,
) -> None:
    sequences = three_patients(add_sequence)
    again = make_frame(3)
    sequences.append(add_sequence(3, [again, again, again]))
    sequences.append(add_sequence(4, [make_frame(4), again], patient=3))
    report = check(*sequences)
    assert report.errors == ()
    assert [(p.sequence, p.frame) for p in found(report, "within the")] == [("S-3", 2)]
    places = [(p.sequence, p.frame) for p in found(report, "of the same patient")]
    assert places == [("S-3", 1), ("S-4", 2)]


def test_too_few_patients_are_left_by_damage(add_sequence: AddSequence) -> None:
    sequences = three_patients(add_sequence)
    sequences[0] = add_sequence(0, [DataError("damaged")])
    report = check(*sequences, spec=replace(SPEC, skip_damaged=True))
    assert [p.what for p in report.errors] == [
        "annotated frames of 2 patient(s) can be used, at least 3 are needed; repair "
        "the damaged frames"
    ]


def test_nothing_but_damage_is_an_error_even_where_damage_is_left_out(
    add_sequence: AddSequence,
) -> None:
    spec = replace(SPEC, skip_damaged=True)
    report = check(add_sequence(0, [DataError("damaged")]), spec=spec)
    assert any("no frame can be used" in problem.what for problem in report.errors)
    assert report.sizes == {}
    assert report.foreground == {}
    assert report.polarity == ""


def test_devices_other_than_declared_are_a_warning_at_every_sequence(
    add_sequence: AddSequence,
) -> None:
    report = check(
        *three_patients(add_sequence), spec=replace(SPEC, device_polarity="bright")
    )
    assert [p.sequence for p in found(report, "site declares bright")] == [
        "S-0",
        "S-1",
        "S-2",
    ]
    assert report.errors == ()


def test_an_inverted_sequence_among_others_is_a_warning(
    add_sequence: AddSequence,
) -> None:
    sequences = three_patients(add_sequence)
    sequences += [add_sequence(k, [make_frame(k)]) for k in (3, 4)]
    sequences[2] = add_sequence(2, [make_frame(2, device=40.0)])
    report = check(*sequences)
    assert report.polarity == "dark"
    (problem,) = report.problems
    assert problem.sequence == "S-2"
    assert "devices are bright, most are dark" in problem.what


def test_masks_beside_the_devices_are_a_warning(add_sequence: AddSequence) -> None:
    sequences = [add_sequence(k, [make_frame(k, device=0.0)]) for k in range(8)]
    report = check(*sequences)
    assert report.polarity == "unclear"
    (problem,) = report.problems
    assert problem.severity is Severity.WARNING
    assert "masks lie on the devices" in problem.what


def test_problems_are_in_order_and_those_of_the_catalogue_come_along(
    add_sequence: AddSequence,
) -> None:
    early = Problem(Severity.WARNING, "of the whole folder")
    late = Problem(Severity.ERROR, "of a file", "S-2", 1)
    bad = add_sequence(1, [DataError("damaged"), make_frame(1)])
    sequences = (
        add_sequence(0, [make_frame(0)]),
        bad,
        add_sequence(2, [make_frame(2)]),
    )
    report = check_catalogue(Catalogue(SPEC, sequences, (early, late, early)))
    places = [(p.severity, p.sequence) for p in report.problems]
    assert places == [
        (Severity.ERROR, "S-1"),
        (Severity.ERROR, "S-2"),
        (Severity.WARNING, ""),
        (Severity.WARNING, ""),  # two files may be wrong in the same way
    ]


def test_the_digest_knows_contents_and_neither_names_nor_order(
    add_sequence: AddSequence,
) -> None:
    before = check(*three_patients(add_sequence)).digest
    renamed = [
        add_sequence(9 - k, [make_frame(10 + k), make_frame(k)], patient=k)
        for k in range(3)
    ]
    assert check(*renamed).digest == before
    other_frame = [*three_patients(add_sequence)[:2], add_sequence(2, [make_frame(99)])]
    assert check(*other_frame).digest != before
    moved = Drawn(catheter=np.roll(line_mask(), 1, axis=0))
    other_mask = three_patients(add_sequence)
    other_mask[2] = add_sequence(2, [make_frame(2), make_frame(12)], [moved, moved])
    assert check(*other_mask).digest != before


def test_only_the_frame_in_hand_is_in_memory(add_sequence: AddSequence) -> None:
    made: list[weakref.ref[NDArray]] = []
    most = 0

    class Lazy(list):
        """A file that makes its frames when they are read."""

        def __getitem__(self, index: int) -> NDArray:
            nonlocal most
            frame = make_frame(index)
            made.append(weakref.ref(frame))
            most = max(most, sum(one() is not None for one in made))
            return frame

    check(add_sequence(0, Lazy(), [Drawn(catheter=line_mask())] * 40))
    assert len(made) == 40
    assert most <= 2


FAULTS: dict[str, Callable[[Path, Path], object]] = {
    "cut": lambda image, _: image.write_bytes(image.read_bytes()[:400]),
    "text": lambda image, _: image.write_bytes(b"no image"),
    "size": lambda _, mask: mask.write_bytes(image_bytes(".png", np.ones((8, 8)))),
    "mask": lambda _, mask: mask.write_bytes(mask.read_bytes()[:60]),
}


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_loading_refuses_what_the_check_calls_an_error_and_loads_what_it_counts(
    tmp_path: Path, fault: str | None, skips: bool
) -> None:
    folder = tmp_path / "data"
    for name in ("a_00", "a_01", "b_00", "c_00", "d_00"):
        pixels = planted_frame(ord(name[0]), int(name[-1]))
        for part, content in (("images", pixels), ("masks", planted_mask())):
            (folder / part).mkdir(parents=True, exist_ok=True)
            path = folder / part / f"{name}.png"
            path.write_bytes(image_bytes(".png", content))
    if fault is not None:
        FAULTS[fault](folder / "images" / "a_01.png", folder / "masks" / "a_01.png")
    spec = replace(SPEC, folder=folder, skip_damaged=skips)
    key = SiteKey(bytes(32))
    report = check_catalogue(scan_folder(spec, key))
    settings = DataSettings(
        frame_size=64,
        crop="none",
        clip_percentile=0.5,
        polarity="keep",
        normalise="unit",
        augmentation="none",
    )
    if fault is not None and not skips:
        assert len(report.errors) == 1
        with pytest.raises(DataError):
            load_folder(spec, settings=settings, key=key, cache=tmp_path / "cache")
    else:
        assert report.errors == ()
        frames = load_folder(spec, settings=settings, key=key, cache=tmp_path / "cache")
        assert len(frames) == report.count("labelled") == (5 if fault is None else 4)
