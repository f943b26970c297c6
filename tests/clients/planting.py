"""Folders in which everything that could tell a patient holds a marker.

Names of files and folders, every header field of a DICOM file that takes text, a date
or a number and is not needed for its pixels, comments of images, every text of an
annotation. What reads such a folder must write none of it anywhere: see `traces_in`.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.clients.planted_files import (
    DATE,
    LABEL,
    MARKER,
    NUMBER,
    SIZE,
    TIME,
    coco_text,
    cvat_text,
    dicom_bytes,
    image_bytes,
    labelme_text,
    make_frame,
    make_mask,
    npy_bytes,
)

TRACES = ("zqxmarker", NUMBER, DATE, TIME[:9])
"""Of what is planted, in lower case; none of them comes up by chance."""
OPTIONS = ("--labels", f"{LABEL}=catheter", "--classes", "catheter")
"""What `endofed data check` needs to understand a planted folder."""


def traces_in(written: str | bytes) -> list[str]:
    """Return the traces that a text or the content of a file holds; none is right."""
    data = (
        written.encode("utf-8", "surrogateescape")
        if isinstance(written, str)
        else (written)
    )
    # Also as UTF-16 and 32, which databases and some logs use.
    plain = data.lower().replace(b"\0", b"")
    return [trace for trace in TRACES if trace.encode() in plain]


def traces_below(folder: Path) -> dict[str, list[str]]:
    """Return file -> traces in its name or content, for all below a folder with any."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        content = path.read_bytes() if path.is_file() else b""
        traces = [*traces_in(name), *traces_in(content)]
        if traces:
            found[name] = traces
    return found


def plant_site(folder: Path, *, patients: int = 3) -> None:
    """Fill a folder with good data: DICOM, PNG, JPEG; masks, Labelme, COCO and CVAT.

    Args:
        folder: Made if it is missing.
        patients: Each has one sequence of two frames, of one kind of files; >= 1.
    """
    makers = (_plant_dicom_patient, _plant_png_patient, _plant_jpeg_patient)
    for number in range(patients):
        makers[number % len(makers)](folder, number)


def plant_damage(folder: Path) -> None:
    """Add files to a planted folder that are wrong in many ways.

    Args:
        folder: Of `plant_site`.
    """
    place = folder / "dicom" / f"{MARKER} damaged"
    place.mkdir(parents=True)
    frames = np.stack([make_frame(90, k) for k in range(2)])
    whole = dicom_bytes(frames, 90)
    changes = {
        "cut": whole[: len(whole) - 3000],
        "head": whole[:200],
        "photometric": whole.replace(b"MONOCHROME2 ", b"ZQXMARKER77 "),
        "syntax": whole.replace(b"1.2.840.10008.1.2.1\0", b"1.2.1987654321.1.2.1"),
        "window": whole.replace(b"127.500001", b"ZQXMARKER7"),
        "charset": whole.replace(b"ISO_IR 100", b"ZQXMARKER7"),
        "no-pixels": whole.replace(b"\xe0\x7f\x10\x00", b"\xe0\x7f\x11\x00"),
        "empty": b"",
        "text": MARKER.encode() * 40,
    }
    for name, content in changes.items():
        (place / f"{MARKER} {name}.dcm").write_bytes(content)
    images = folder / "images" / f"{MARKER} damaged"
    images.mkdir(parents=True)
    png = image_bytes(".png", make_frame(92, 0))
    for name, content in {
        "cut.png": png[: len(png) // 2],
        "text.png": MARKER.encode(),
        "text.tif": MARKER.encode(),
        "text.npy": MARKER.encode(),
        "text.mp4": MARKER.encode(),
        "pickled.npy": npy_bytes(np.array([MARKER], dtype=object)),
        "nan.npy": npy_bytes(np.full((SIZE, SIZE), np.nan)),
    }.items():
        (images / f"{MARKER} {name}").write_bytes(content)
    for number, annotation in enumerate(_damaged_annotations()):
        name = f"{MARKER}-wrong{number}_00"
        image = images / f"{name}.png"
        image.write_bytes(image_bytes(".png", make_frame(70 + number, 0)))
        suffix = ".xml" if annotation.lstrip().startswith("<") else ".json"
        image.with_suffix(suffix).write_text(annotation.replace("NAME", name))
    wrong = folder / "masks" / f"{MARKER} damaged" / f"{MARKER}_other_00.png"
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(image_bytes(".png", np.ones((8, 8), np.uint8)))
    image = images / wrong.name
    image.write_bytes(image_bytes(".png", make_frame(69, 0)))
    (folder / f"{MARKER} nowhere").symlink_to(folder / MARKER)
    (folder / f"{MARKER} circle").symlink_to(folder, target_is_directory=True)


def _plant_dicom_patient(folder: Path, number: int) -> None:
    """Write one file with two frames, and a mask for both."""
    name = f"{MARKER} {number} Ä"
    frames = np.stack([make_frame(number, k) for k in range(2)])
    _write(folder / "dicom" / f"{name}.dcm", dicom_bytes(frames, number))
    _write(folder / "masks" / f"{name}.png", image_bytes(".png", make_mask()))


def _plant_png_patient(folder: Path, number: int) -> None:
    """Write two images, one annotated in Labelme and one in CVAT."""
    place = folder / "images" / f"{MARKER} {number} Ä"
    for k in range(2):
        name = f"{MARKER}{number}_{k:02d}"
        image = image_bytes(".png", make_frame(number, k))
        _write(place / f"{name}.png", image)
        text = cvat_text(name) if k else labelme_text(name)
        _write(place / f"{name}.{'xml' if k else 'json'}", text.encode())


def _plant_jpeg_patient(folder: Path, number: int) -> None:
    """Write two images, both annotated in one COCO file."""
    place = folder / "images" / f"{MARKER} {number} Ä"
    names = [f"{MARKER}{number}_{k:02d}" for k in range(2)]
    for k, name in enumerate(names):
        _write(place / f"{name}.jpg", image_bytes(".jpg", make_frame(number, k)))
    _write(folder / f"{MARKER} {number} coco.json", coco_text(names).encode())


def _damaged_annotations() -> Iterator[str]:
    """Yield annotations of an image NAME.png, all with the marker and a mistake."""
    unknown = f"{MARKER} stranger"
    yield labelme_text("NAME", unknown)
    yield cvat_text("NAME", unknown)
    yield coco_text(["NAME"], unknown).replace(".jpg", ".png")
    yield labelme_text("NAME").replace('"polygon"', f'"{MARKER}"')
    yield labelme_text("NAME").replace("[0, 30]", f'["{MARKER}", 30]')
    yield labelme_text("NAME").replace(
        f'"imageHeight": {SIZE}', f'"imageHeight": {NUMBER}'
    )
    yield cvat_text("NAME").replace("0,31.5;", f"{MARKER},31.5;")
    yield cvat_text("NAME").replace(
        "<annotations>",
        f"<!DOCTYPE annotations [<!ENTITY {MARKER} '{MARKER}'>]><annotations>",
        1,
    )
    yield cvat_text("NAME")[:-40]
    yield coco_text(["NAME"]).replace('"image_id": 0', f'"image_id": "{MARKER}"')
    yield labelme_text("NAME")[:-30]


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
