"""Folders as they come out of archives, and everything that can be wrong with them."""

import json
import os
import traceback
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from clients.annotations.annotation import LabelMap
from clients.data import archive
from clients.data.catalogue import Catalogue, FolderSpec, Problem, Severity
from clients.data.errors import DataError
from clients.data.identity import SiteKey, patient_token
from clients.data.scan import scan_folder

WriteImage = Callable[[Path, NDArray], None]
MakeDicom = Callable[..., FileDataset]

KEY = SiteKey(bytes(range(32)))
GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
WIRE = np.zeros((16, 16), np.uint8)
WIRE[:, 6:10] = 255


def scan(folder: Path, classes: tuple[str, ...] = ("catheter",), **changes: object):  # noqa: ANN201
    spec = FolderSpec(folder, labels=LabelMap(classes=classes), **changes)  # type: ignore[arg-type]
    return scan_folder(spec, KEY)


@pytest.fixture
def stills(tmp_path: Path, write_image: WriteImage) -> Path:
    """Five frames of three sequences of DOE^JANE, all with masks."""
    folder = tmp_path / "DOE_JANE"
    for name in ("DOE_2_00", "DOE_1_00", "DOE_1_01", "DOE_2_01", "alone"):
        write_image(folder / "images" / f"{name}.png", GREY)
        write_image(folder / "masks" / f"{name}.png", WIRE)
    return folder


@pytest.fixture
def write_dicom(make_dicom: MakeDicom) -> Callable[..., Path]:
    def write(path: Path, frames: int = 1, **elements: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.stack([np.roll(GREY, shift) for shift in range(frames)])
        name = f"1.2.{zlib.crc32(str(path).encode())}"
        given = {"SOPInstanceUID": name, "SeriesInstanceUID": f"{name}.1"}
        dataset = make_dicom(pixels, **(given | elements))
        if frames == 1:
            del dataset.NumberOfFrames
        dataset.save_as(path)
        return path

    return write


def texts(catalogue: Catalogue, severity: Severity) -> list[str]:
    return [p.what for p in catalogue.problems if p.severity is severity]


def errors(catalogue: Catalogue) -> list[str]:
    return texts(catalogue, Severity.ERROR)


def warnings(catalogue: Catalogue) -> list[str]:
    return texts(catalogue, Severity.WARNING)


def only(problems: list[Problem], fragment: str) -> Problem:
    (found,) = [problem for problem in problems if fragment in problem.what]
    return found


def shown(catalogue: Catalogue) -> str:
    return " ".join([repr(catalogue), *(str(p) for p in catalogue.problems)])


# ------------------------------------------------------------------ stills


def test_stills_become_sequences_under_pseudonyms(stills: Path) -> None:
    found = scan(stills)
    assert errors(found) == []
    assert sorted(len(one.frames) for one in found.sequences) == [1, 2, 2]
    assert [one.id for one in found.sequences] == sorted(
        one.id for one in found.sequences
    )
    by_patient = {one.patient: one for one in found.sequences}
    one = by_patient[KEY.patient_id("DOE_1")]
    assert one.patient_token == patient_token("DOE_1")
    assert [frame.path.name for frame in one.frames] == ["DOE_1_00.png", "DOE_1_01.png"]
    assert (one.facts.num_frames, one.facts.height, one.facts.width) == (2, 16, 16)
    layers = one.frames[0].annotation.layers(16, 16, None)
    assert np.array_equal(layers["catheter"], WIRE > 0)


def test_nothing_that_is_shown_tells_names(stills: Path) -> None:
    (stills / "masks" / "alone.png").unlink()
    (stills / "images" / "DOE_1_01.png").write_bytes(b"DOE^JANE")
    found = shown(scan(stills))
    for secret in ("DOE", "JANE", "alone", str(stills.parent)):
        assert secret not in found


def test_pseudonyms_change_with_the_key_and_tokens_do_not(stills: Path) -> None:
    spec = FolderSpec(stills)
    first, second = scan_folder(spec, KEY), scan_folder(spec, SiteKey(bytes(32)))
    ids = [{one.id for one in found.sequences} for found in (first, second)]
    tokens = [
        {one.patient_token for one in found.sequences} for found in (first, second)
    ]
    assert not ids[0] & ids[1] and tokens[0] == tokens[1]


def test_patients_told_apart_by_file_names_are_a_warning(stills: Path) -> None:
    assert any(
        "3 patients are told apart by file names" in w for w in warnings(scan(stills))
    )


def test_folders_below_images_are_patients(
    tmp_path: Path, write_image: WriteImage
) -> None:
    for name in ("p1/a_1", "p1/b_1", "p2/a_1", "p3/7"):
        write_image(tmp_path / "images" / f"{name}.png", GREY)
        write_image(tmp_path / "masks" / f"{name}.png", WIRE)
    found = scan(tmp_path)
    assert len(found.sequences) == 4 and found.problems == ()
    assert {one.patient for one in found.sequences} == {
        KEY.patient_id(name) for name in ("p1", "p2", "p3")
    }


def test_frames_are_in_the_order_of_their_numbers(
    tmp_path: Path, write_image: WriteImage
) -> None:
    for number in (1, 2, 10):
        write_image(tmp_path / "images" / f"a_{number}.png", GREY)
    (sequence,) = scan(tmp_path).sequences
    assert [frame.path.stem for frame in sequence.frames] == ["a_1", "a_2", "a_10"]


def test_frames_of_one_name_with_two_sizes_are_two_sequences_of_one_patient(
    stills: Path, write_image: WriteImage
) -> None:
    write_image(stills / "images" / "DOE_1_02.png", GREY[:8])
    write_image(stills / "masks" / "DOE_1_02.png", WIRE[:8])
    found = scan(stills)
    of_doe = [s for s in found.sequences if s.patient == KEY.patient_id("DOE_1")]
    assert sorted((s.facts.height, len(s.frames)) for s in of_doe) == [(8, 1), (16, 2)]
    assert sum("differ in size" in text for text in warnings(found)) == 2


def test_names_in_other_alphabets_and_in_no_alphabet_are_paired(
    tmp_path: Path, write_image: WriteImage
) -> None:
    for top in ("images", "masks"):
        pixels = GREY if top == "images" else WIRE
        write_image(tmp_path / top / "影像" / "Müller_01.png", pixels)
        write_image(tmp_path / top / "x.png", pixels)
        odd = os.path.join(os.fsencode(tmp_path / top), b"M\xfcller_01.png")
        os.rename(tmp_path / top / "x.png", odd)
    found = scan(tmp_path, min_patients=2)
    assert errors(found) == []
    assert [len(one.frames) for one in found.sequences] == [1, 1]


# ------------------------------------------------------------------- dicom


def test_dicom_is_found_whatever_its_name_and_known_by_its_header(
    tmp_path: Path, write_dicom: Callable[..., Path], write_image: WriteImage
) -> None:
    write_dicom(tmp_path / "A" / "IM0001", 3, PatientID="A")
    write_dicom(tmp_path / "A" / "1.2.840.7", 3, PatientID="A")
    write_dicom(tmp_path / "elsewhere" / "x.dat", 2, PatientID="B")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "notes.txt").write_text("DOE^JANE")
    write_image(tmp_path / "masks" / "IM0001_02.png", WIRE)
    write_image(tmp_path / "masks" / "1.2.840.7.png", WIRE)
    write_image(tmp_path / "masks" / "x.dat.png", WIRE)
    found = scan(tmp_path, min_patients=2)
    assert errors(found) == []
    assert sorted(one.facts.num_frames for one in found.sequences) == [2, 3, 3]
    assert len({one.patient for one in found.sequences}) == 2
    labelled = [
        sum(f.annotation is not None for f in s.frames) for s in found.sequences
    ]
    assert sorted(labelled) == [1, 2, 3]


def test_single_frames_of_a_series_are_one_sequence(
    tmp_path: Path, write_dicom: Callable[..., Path]
) -> None:
    for name, series in (("a", "1.1"), ("b", "1.1"), ("c", "1.2")):
        write_dicom(tmp_path / name, SeriesInstanceUID=series, PatientID="A")
    found = scan(tmp_path)
    assert sorted(len(one.frames) for one in found.sequences) == [1, 2]


def test_files_with_several_frames_are_sequences_even_in_one_series(
    tmp_path: Path, write_dicom: Callable[..., Path]
) -> None:
    for name in ("a", "b"):
        write_dicom(tmp_path / name, 2, SeriesInstanceUID="1.1", PatientID="A")
    assert [len(one.frames) for one in scan(tmp_path).sequences] == [2, 2]


def test_where_the_header_names_nobody_folders_tell_patients_apart(
    tmp_path: Path, write_dicom: Callable[..., Path]
) -> None:
    nobody = {"PatientID": "", "PatientName": ""}
    for name in ("p1/a", "p1/b", "p2/a", "lonely"):
        write_dicom(tmp_path / name, 2, **nobody)
    found = scan(tmp_path)
    patients = [one.patient for one in found.sequences]
    assert len(patients) == 4 and len(set(patients)) == 3


def test_burned_in_text_is_a_warning_for_its_sequence(
    tmp_path: Path, write_dicom: Callable[..., Path]
) -> None:
    write_dicom(tmp_path / "a", 2, PatientID="A", BurnedInAnnotation="YES")
    write_dicom(tmp_path / "b", 2, PatientID="B", BurnedInAnnotation="NO")
    found = scan(tmp_path)
    problem = only(list(found.problems), "burned into the pixels")
    assert problem.severity is Severity.WARNING
    (marked,) = [one for one in found.sequences if one.id == problem.sequence]
    assert marked.facts.burned_in is True


# ------------------------------------------------------------- annotations


def test_films_have_masks_by_number_or_in_one_file_with_pages(tmp_path: Path) -> None:
    for name in ("a", "b"):
        size = (16, 16)
        code = cv2.VideoWriter.fourcc(*"MJPG")
        film = cv2.VideoWriter(str(tmp_path / f"{name}.avi"), code, 10, size)
        for _ in range(3):
            film.write(cv2.cvtColor(GREY, cv2.COLOR_GRAY2BGR))
        film.release()
    (tmp_path / "masks").mkdir()
    pages = [WIRE, np.zeros_like(WIRE), WIRE.T.copy()]
    assert cv2.imwritemulti(str(tmp_path / "masks" / "a.tif"), pages)
    (tmp_path / "masks" / "b_1.png").write_bytes(cv2.imencode(".png", WIRE)[1])
    found = scan(tmp_path, min_patients=2)
    assert errors(found) == []
    by_name = {one.frames[0].path.stem: one for one in found.sequences}
    drawn = [
        frame.annotation.layers(16, 16, None)["catheter"]
        for frame in by_name["a"].frames
    ]
    assert np.array_equal(drawn, [page > 0 for page in pages])
    has = [frame.annotation is not None for frame in by_name["b"].frames]
    assert has == [False, True, False]


def test_masks_lie_in_folders_of_their_classes(
    stills: Path, write_image: WriteImage
) -> None:
    for name in ("catheter", "Guide-Wires"):
        for path in sorted((stills / "masks").glob("*.png")):
            write_image(stills / "masks" / name / path.name, WIRE)
    for path in (stills / "masks").glob("*.png"):
        path.unlink()
    found = scan(stills, classes=("catheter", "guidewire"))
    assert errors(found) == []
    layers = found.sequences[0].frames[0].annotation.layers(16, 16, None)
    assert set(layers) == {"catheter", "guidewire"} and layers["guidewire"].any()


def test_a_folder_of_an_unknown_class_is_an_error(
    stills: Path, write_image: WriteImage
) -> None:
    write_image(stills / "masks" / "stent" / "alone.png", WIRE)
    (text,) = errors(scan(stills))
    assert text.startswith("1 folder(s) of masks have the name of no class")
    assert "stent" not in text


def test_masks_of_a_class_that_is_not_declared_are_passed_over(
    stills: Path, write_image: WriteImage
) -> None:
    write_image(stills / "masks" / "guidewire" / "alone.png", WIRE)
    found = scan(stills)
    assert errors(found) == []
    assert any(text.startswith("1 mask(s) lie in folders") for text in warnings(found))


def test_ignored_folders_of_masks_are_ignored(
    stills: Path, write_image: WriteImage
) -> None:
    write_image(stills / "masks" / "Stent" / "alone.png", WIRE)
    labels = LabelMap(classes=("catheter",), ignored=frozenset({"stent"}))
    found = scan_folder(FolderSpec(stills, labels=labels), KEY)
    assert [p for p in found.problems if "told apart" not in p.what] == []


def test_labelme_coco_and_cvat_are_found_by_what_is_in_them(
    tmp_path: Path, write_image: WriteImage
) -> None:
    for name in ("a", "b", "c", "d", "e"):
        write_image(tmp_path / "images" / f"{name}.png", GREY)
    line = [[2.0, 2.0], [12.0, 12.0]]
    shape = {"label": "catheter", "points": line, "shape_type": "linestrip"}
    labelme = {"shapes": [shape], "imageHeight": 16, "imageWidth": 16}
    (tmp_path / "images" / "a.json").write_text(
        json.dumps(labelme | {"imagePath": "x"})
    )
    other = json.dumps(labelme | {"imagePath": "../images/b.png"})
    (tmp_path / "other name.json").write_text(other)
    coco = {
        "images": [{"id": 1, "file_name": "c.png", "height": 16, "width": 16}],
        "categories": [{"id": 1, "name": "catheter"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "segmentation": [[2, 2, 9, 2, 9, 9]]}
        ],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances.json").write_text(json.dumps(coco))
    (tmp_path / "cvat.xml").write_text(
        '<annotations><version>1.1</version><image id="0" name="d.png" width="16" '
        'height="16"><polyline label="catheter" points="2,2;12,12"/></image>'
        "</annotations>"
    )
    (tmp_path / "export.json").write_text('{"made": "by a tool"}')
    found = scan(tmp_path)
    assert errors(found) == []
    labelled = {
        frame.path.stem: frame.annotation.layers(16, 16, None)["catheter"].any()
        for one in found.sequences
        for frame in one.frames
        if frame.annotation
    }
    assert labelled == dict.fromkeys("abcd", True)
    assert any(text.startswith("1 JSON or XML file(s)") for text in warnings(found))
    assert any(text.startswith("1 of 5 frames have no") for text in warnings(found))


def test_numbered_frames_of_cvat_belong_to_the_only_film(
    tmp_path: Path,
) -> None:
    np.save(tmp_path / "film.npy", np.stack([GREY] * 3))
    (tmp_path / "annotations.xml").write_text(
        "<annotations><meta/>"
        '<track id="0" label="catheter"><polyline frame="1" outside="0" '
        'points="2,2;12,12"/></track></annotations>'
    )
    (sequence,) = scan(tmp_path).sequences
    has = [frame.annotation is not None for frame in sequence.frames]
    assert has == [False, True, False]


@pytest.mark.parametrize("skip", [False, True])
def test_a_damaged_coco_file_is_told(stills: Path, skip: bool) -> None:
    (stills / "DOE.json").write_text('{"images": [], "annotations": [{"DOE^JANE"')
    found = scan(stills, skip_damaged=skip)
    problem = only(list(found.problems), "file of annotations cannot be used")
    assert problem.severity is (Severity.WARNING if skip else Severity.ERROR)
    assert "DOE" not in problem.what


def test_frames_without_and_masks_without_frame_are_counted(
    stills: Path, write_image: WriteImage
) -> None:
    (stills / "masks" / "DOE_1_01.png").unlink()
    write_image(stills / "masks" / "DOE_9_00.png", WIRE)
    found = scan(stills)
    assert errors(found) == []
    assert any(
        text.startswith("1 of 5 frames have no annot") for text in warnings(found)
    )
    assert any(text.startswith("1 mask(s) or other annot") for text in warnings(found))


def test_no_annotation_at_all_is_an_error(stills: Path) -> None:
    for path in (stills / "masks").iterdir():
        path.unlink()
    (text,) = errors(scan(stills))
    assert text.startswith("None of 5 frame(s) has an annotation")


def test_two_images_that_differ_only_in_the_suffix_are_an_error(
    stills: Path, write_image: WriteImage
) -> None:
    write_image(stills / "images" / "alone.tif", GREY)
    found = scan(stills)
    problem = only(list(found.errors), "same name but for the suffix")
    assert problem.sequence == KEY.sequence_id("alone\0alone")


# ----------------------------------------------------------------- damaged


@pytest.mark.parametrize("kept", [0, 20])
@pytest.mark.parametrize("skip", [False, True])
def test_one_corrupt_image_among_many_is_told_and_left_out(
    stills: Path, kept: int, skip: bool
) -> None:
    path = stills / "images" / "DOE_1_01.png"
    path.write_bytes(path.read_bytes()[:kept])
    found = scan(stills, skip_damaged=skip)
    problem = only(list(found.problems), "A file ")
    assert problem.severity is (Severity.WARNING if skip else Severity.ERROR)
    assert problem.what.endswith("It is left out.") is skip
    assert problem.sequence == KEY.sequence_id("DOE_1\0DOE_1")
    assert problem.frame == 2
    assert sum(len(one.frames) for one in found.sequences) == 4


@pytest.mark.parametrize("kept", [140, 400])
def test_a_truncated_dicom_file_is_an_error(
    tmp_path: Path, write_dicom: Callable[..., Path], kept: int
) -> None:
    write_dicom(tmp_path / "DOE_1.dcm", 2)
    path = write_dicom(tmp_path / "DOE_2.dcm", 2)
    path.write_bytes(path.read_bytes()[:kept])
    found = scan(tmp_path)
    problem = only(list(found.errors), "A file ")
    assert problem.sequence == KEY.sequence_id("DOE_2\0DOE_2.dcm")
    assert "DOE" not in shown(found) and len(found.sequences) == 1


def test_a_dicom_file_without_pixels_is_an_error(
    tmp_path: Path, make_dicom: MakeDicom
) -> None:
    dataset = make_dicom(GREY)
    del dataset.PixelData
    dataset.save_as(tmp_path / "DOE.dcm")
    assert only(list(scan(tmp_path).errors), "A file ").sequence


@pytest.mark.parametrize("suffix", ["mp4", "npy", "tif", "dcm"])
def test_a_file_that_is_not_what_its_suffix_says_is_an_error(
    stills: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (stills / "images" / f"DOE_3.{suffix}").write_text("DOE^JANE")
    found = scan(stills)
    assert len(found.errors) == 1
    assert "DOE" not in shown(found) + "".join(capfd.readouterr())


def test_a_file_that_may_not_be_read_is_an_error(stills: Path) -> None:
    path = stills / "images" / "alone.png"
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("nothing is closed to this user (root?); see the next test")
    problem = only(list(scan(stills).errors), "A file ")
    assert problem.sequence == KEY.sequence_id("alone\0alone")


def test_a_file_that_the_system_refuses_to_open_is_an_error(
    stills: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = archive.open_source

    def refuse(path: Path) -> object:
        if path.stem == "alone":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path)

    monkeypatch.setattr(archive, "open_source", refuse)
    found = scan(stills)
    problem = only(list(found.errors), "check its permissions")
    assert problem.sequence == KEY.sequence_id("alone\0alone")
    assert "alone" not in shown(found)


# ------------------------------------------------------------------ folder


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    (text,) = errors(scan(tmp_path))
    assert text.startswith("The folder holds no image, video or DICOM file")


def test_a_layout_that_is_not_there_is_an_error(stills: Path) -> None:
    (text,) = errors(scan(stills, layout="dicom"))
    assert text.startswith("The folder holds no DICOM file")


def test_a_folder_of_links_in_circles_is_read_to_the_end(stills: Path) -> None:
    (stills / "images" / "again").symlink_to(stills)
    found = scan(stills)
    assert errors(found) == [] and len(found.sequences) == 3
    assert any("lead back" in text for text in warnings(found))


def test_too_few_patients_are_an_error_with_both_numbers(stills: Path) -> None:
    (text,) = errors(scan(stills, min_patients=4))
    assert "3 patient(s)" in text and "at least 4" in text


def test_patients_without_annotated_frames_do_not_count(stills: Path) -> None:
    (stills / "masks" / "alone.png").unlink()
    (text,) = errors(scan(stills))
    assert "2 patient(s)" in text and "at least 3" in text


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_folder_that_is_none_is_refused_without_its_path(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "DOE_JANE"
    if kind == "file":
        path.write_text("")
    with pytest.raises(DataError, match="does not exist") as caught:
        scan(path)
    assert "DOE" not in "".join(traceback.format_exception_only(caught.value))


@pytest.mark.parametrize("classes", [(), ("stent",), ("catheter", "catheter")])
def test_classes_nobody_knows_are_refused(
    classes: tuple[str, ...], stills: Path
) -> None:
    with pytest.raises(DataError, match="catheter, guidewire"):
        scan(stills, classes=classes)


@pytest.mark.parametrize(
    ("name", "fragment"),
    [("layout", "auto, pairs, dicom"), ("device_polarity", "dark, bright, unknown")],
)
def test_other_impossible_declarations_are_refused(
    name: str, fragment: str, stills: Path
) -> None:
    with pytest.raises(DataError, match=fragment):
        scan(stills, **{name: "nifti"})


# --------------------------------------------------------------- real sets


def test_the_real_stills_are_58_frames_of_five_sequences(phantom_xa: Path) -> None:
    found = scan(phantom_xa, layout="pairs")
    assert errors(found) == []
    assert sorted(len(s.frames) for s in found.sequences) == [9, 10, 11, 12, 16]
    assert all(f.annotation for one in found.sequences for f in one.frames)
    assert len({one.patient for one in found.sequences}) == 5


def test_the_real_dicom_files_are_two_sequences_of_one_patient(
    phantom_xa: Path,
) -> None:
    found = scan(phantom_xa, layout="dicom")
    assert sorted(one.facts.num_frames for one in found.sequences) == [12, 14]
    assert {one.facts.height for one in found.sequences} == {512}
    num_labelled = sum(
        frame.annotation is not None for one in found.sequences for frame in one.frames
    )
    # Masks IM1_02 to IM1_13 and IM2_01 to IM2_11.
    assert num_labelled == 23
    (text,) = errors(found)
    assert "1 patient(s)" in text and "at least 3" in text
    told = shown(found)
    assert "PHANTOM" not in told and "phantom" not in told


def test_the_real_folder_needs_a_layout(phantom_xa: Path) -> None:
    (text,) = [t for t in errors(scan(phantom_xa)) if "patient(s)" not in t]
    assert "set `layout`" in text


def test_the_three_real_chest_images_are_three_patients(picc_cxr: Path) -> None:
    found = scan(picc_cxr)
    assert errors(found) == []
    assert len({one.patient for one in found.sequences}) == 3
    assert [len(one.frames) for one in found.sequences] == [1, 1, 1]
    assert any("3 patients are told apart by file names" in w for w in warnings(found))
