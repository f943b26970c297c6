"""One door to all image files, whatever their names say."""

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.dataset import FileDataset

from clients.data.errors import DataError
from clients.images.dicom import DicomFile
from clients.images.opening import is_dicom, is_image, open_source
from clients.images.stills import ArrayFile, StillImage
from clients.images.video import VideoFile

MakeDicom = Callable[..., FileDataset]

PIXELS = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)


def write_video(path: Path) -> None:
    code = cv2.VideoWriter_fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, 10.0, (64, 64))
    for _ in range(3):
        writer.write(np.zeros((64, 64, 3), np.uint8))
    writer.release()


@pytest.fixture
def one_of_each(make_dicom: MakeDicom, tmp_path: Path) -> dict[str, Path]:
    """Return one file of every kind by its suffix."""
    make_dicom(PIXELS).save_as(tmp_path / "a.dcm")
    np.save(tmp_path / "a.npy", PIXELS)
    for suffix in (".png", ".tif", ".jpg"):
        pixels = PIXELS if suffix != ".jpg" else (PIXELS // 17).astype(np.uint8)
        (tmp_path / f"a{suffix}").write_bytes(cv2.imencode(suffix, pixels)[1].tobytes())
    write_video(tmp_path / "a.avi")
    return {path.suffix: path for path in tmp_path.iterdir()}


KINDS = {
    ".dcm": DicomFile,
    ".npy": ArrayFile,
    ".png": StillImage,
    ".tif": StillImage,
    ".jpg": StillImage,
    ".avi": VideoFile,
}


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("name", ["", "IM000001", "1.2.840.113", "größe ☃.PNG"])
def test_content_decides_whatever_the_name(
    suffix: str, name: str, one_of_each: dict[str, Path]
) -> None:
    path = one_of_each[suffix]
    if name:
        path = path.rename(path.with_name(name))
    source = open_source(path)
    assert isinstance(source, KINDS[suffix])
    assert source.read_frame(0).shape == (64, 64)


@pytest.mark.parametrize("suffix", KINDS)
def test_every_kind_is_an_image(suffix: str, one_of_each: dict[str, Path]) -> None:
    path = one_of_each[suffix]
    assert is_image(path)
    assert is_dicom(path) == (suffix == ".dcm")
    assert is_image(path.rename(path.with_suffix(suffix.upper())))


def test_a_dicom_file_without_suffix_is_an_image(one_of_each: dict[str, Path]) -> None:
    path = one_of_each[".dcm"].rename(one_of_each[".dcm"].with_name("IM000001"))
    assert is_dicom(path) and is_image(path)


@pytest.mark.parametrize(
    "name", ["notes.txt", "labels.json", "README", ".hidden.png", "._IM1.dcm", "folder"]
)
def test_other_files_are_no_images(name: str, tmp_path: Path) -> None:
    if name == "folder":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text("nothing to see here, not even pixels" * 9)
    assert not is_image(tmp_path / name)


@pytest.mark.parametrize(
    "kind",
    [
        "1.2.840.10008.1.3.10",  # DICOMDIR
        "1.2.840.10008.5.1.4.1.1.88.67",  # dose report
        "1.2.840.10008.5.1.4.1.1.11.1",  # presentation state
    ],
)
def test_dicom_objects_without_pixels_are_no_images(
    kind: str, make_dicom: MakeDicom, tmp_path: Path
) -> None:
    dataset = make_dicom(PIXELS)
    del dataset.PixelData
    dataset.file_meta.MediaStorageSOPClassUID = kind
    dataset.save_as(tmp_path / "a.dcm")
    assert is_dicom(tmp_path / "a.dcm")
    assert not is_image(tmp_path / "a.dcm")
    with pytest.raises(DataError, match="has no pixel data"):
        open_source(tmp_path / "a.dcm")


@pytest.mark.parametrize("suffix", [".dcm", ".png", ".tif", ".npy", ".mp4", ".txt", ""])
def test_a_file_without_a_byte_says_so(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"a{suffix}").touch()
    with pytest.raises(DataError, match=r"^is empty"):
        open_source(tmp_path / f"a{suffix}")


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        (".dcm", "is no DICOM file"),
        (".png", "is no PNG, JPEG or TIFF image although"),
        (".npy", "is no NumPy array although"),
        (".mp4", "is no video although"),
        (".txt", "is of no known kind"),
        ("", "is of no known kind"),
    ],
)
@pytest.mark.parametrize("content", [b"hello world " * 50, b"\0" * 500, b"x"])
def test_a_file_of_something_else_says_what_was_wanted(
    suffix: str, message: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / f"a{suffix}").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_source(tmp_path / f"a{suffix}")


def test_what_is_not_there_or_a_link_in_a_circle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").symlink_to(tmp_path / "b.dcm")
    (tmp_path / "b.dcm").symlink_to(tmp_path / "a.dcm")
    for name in ("a.dcm", "nothing.dcm"):
        with pytest.raises(DataError, match="cannot be opened"):
            open_source(tmp_path / name)
        assert is_image(tmp_path / name)  # so that somebody gets to hear of it


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_does_not_hang_the_program(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.dcm")
    os.mkfifo(tmp_path / "b")
    for name in ("a.dcm", "b"):
        with pytest.raises(DataError, match="a pipe or a device"):
            open_source(tmp_path / name)
    assert is_image(tmp_path / "a.dcm")  # so that somebody gets to hear of it
    assert not is_image(tmp_path / "b")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no file but a folder"):
        open_source(tmp_path)


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse also where the tests run as root, whom rights do not bind."""

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)


@pytest.mark.parametrize("suffix", KINDS)
def test_a_file_that_may_not_be_read_says_so(
    suffix: str, one_of_each: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_reading(monkeypatch)
    with pytest.raises(DataError, match="may not read it; grant reading rights"):
        open_source(one_of_each[suffix])


def test_a_file_without_suffix_that_may_not_be_read_counts_as_an_image(
    one_of_each: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = one_of_each[".dcm"].rename(one_of_each[".dcm"].with_name("IM000001"))
    forbid_reading(monkeypatch)
    assert is_image(path)
    assert not is_image(path.rename(path.with_name("a.txt")))
