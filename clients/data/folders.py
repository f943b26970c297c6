"""Labelled frames out of a hospital's own folder.

Two layouts. "pairs": `images/NAME.png` (jpg, tif, tiff) with `masks/NAME.png`; frames
that share NAME up to its last underscore are one sequence. "dicom": `dicom/*.dcm`, or
`*.dcm` in the folder itself, with `masks/STEM_00.png`, `STEM_01.png` ... for frames of
STEM.dcm counted from 0, or one `masks/STEM.png` for all; frames without a mask are
left out, and every file is a sequence.

A mask has one channel and its frame's size. If one class is declared, nonzero marks
it. With several, bit k marks the k-th: 1 = first, 2 = second, 3 = both.

Messages count frames and files from 1 in sorted order and never name them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.errors import DataError
from clients.data.frames import FrameSet
from clients.data.preprocessing import normalise_frame, resize_frame, resize_mask
from clients.images.dicom import DicomFile
from models.classes import CLASS_NAMES

LAYOUTS = ("auto", "pairs", "dicom")
IMAGE_SUFFIXES = (".png", ".jpg", ".tif", ".tiff")
MASK_SUFFIXES = (".png",)
DICOM_SUFFIXES = (".dcm",)


class _Labelled(NamedTuple):
    where: str  # "frame 17 of 58 (sorted order)"
    pixels: NDArray[np.number]  # (height, width)
    mask: NDArray[np.number]  # (height, width), whole numbers
    sequence: str


def load_folder(
    folder: Path, *, layout: str, classes: Sequence[str], image_size: int
) -> FrameSet:
    """Read, check and scale all labelled frames of a folder.

    Args:
        folder: With the subfolders described above.
        layout: "pairs", "dicom", or "auto" for whichever is there.
        classes: Which classes the masks show, in the order of their values; the
            others are marked as not annotated.
        image_size: Side of the result, px.

    Returns:
        The frames in sorted order, with grey values stretched to [0, 1].

    Raises:
        DataError: If the folder, a frame or a mask is missing, damaged or does not
            fit. The message holds no name, no path and no pixel value.
    """
    _check_classes(classes)
    try:
        if not folder.is_dir():
            raise DataError(
                "the data folder of its sites entry does not exist on this machine; "
                "correct `folder` in the sites file"
            )
        chosen = _choose_layout(folder, layout)
        read = _read_pairs if chosen == "pairs" else _read_dicom
        return _collect(read(folder), classes, image_size)
    except OSError:
        raise DataError(
            "the data folder or a file in it cannot be opened; check that this "
            "program's user may read it"
        ) from None


def _check_classes(classes: Sequence[str]) -> None:
    known = set(classes) <= set(CLASS_NAMES)
    if not classes or not known or len(set(classes)) != len(classes):
        raise DataError(
            f"classes must be one or more different ones of {', '.join(CLASS_NAMES)}"
        )


def _choose_layout(folder: Path, layout: str) -> str:
    if layout not in LAYOUTS:
        raise DataError(f"layout must be one of {', '.join(LAYOUTS)}")
    present = {
        "pairs": (folder / "images").is_dir(),
        "dicom": bool(_dicom_files(folder)),
    }
    if layout != "auto":
        if not present[layout]:
            wanted = {"pairs": "an images/ folder", "dicom": "DICOM files (*.dcm)"}
            raise DataError(f'layout "{layout}" needs {wanted[layout]}, found none')
        return layout
    if all(present.values()):
        raise DataError(
            "the data folder has both images/ and DICOM files; set `layout` to "
            '"pairs" or "dicom"'
        )
    found = [name for name, is_there in present.items() if is_there]
    if not found:
        raise DataError(
            "the data folder has neither an images/ folder nor DICOM files (*.dcm, "
            "in it or in dicom/); is it empty?"
        )
    return found[0]


def _read_pairs(folder: Path) -> Iterator[_Labelled]:
    images = _files(folder / "images", IMAGE_SUFFIXES)
    masks = _by_stem(folder / "masks")
    if not images:
        raise DataError(f"images/ holds no {', '.join(IMAGE_SUFFIXES)} file")
    if len({path.stem for path in images}) < len(images):
        raise DataError(
            "two images differ only in their suffix, so their mask is ambiguous"
        )
    for number, path in enumerate(images, start=1):
        where = f"frame {number} of {len(images)} (sorted order)"
        if path.stem not in masks:
            raise DataError(f"{where}: no mask of the same name in masks/")
        pixels = _to_grey(_read_image(path, where), where)
        mask = _read_image(masks[path.stem], f"{where}: the mask")
        yield _Labelled(where, pixels, mask, path.stem.rpartition("_")[0] or path.stem)


def _read_dicom(folder: Path) -> Iterator[_Labelled]:
    files, masks = _dicom_files(folder), _by_stem(folder / "masks")
    num_labelled = 0
    for number, path in enumerate(files, start=1):
        where = f"file {number} of {len(files)} (sorted order)"
        try:
            source = DicomFile(path)
        except DataError as error:
            raise DataError(f"{where} {error}") from None
        for index in range(source.num_frames):
            mask = masks.get(f"{path.stem}_{index:02d}", masks.get(path.stem))
            if mask is not None:
                num_labelled += 1
                here = f"{where}, frame {index + 1} of {source.num_frames}"
                yield _read_labelled(source, index, mask, path.stem, here)
    if num_labelled == 0:
        raise DataError(
            f"none of the frames in {len(files)} DICOM file(s) has a mask; name masks "
            "after the file and the frame counted from 0, as in masks/STEM_00.png"
        )


def _read_labelled(
    source: DicomFile, index: int, mask: Path, sequence: str, where: str
) -> _Labelled:
    try:
        pixels = source.read_frame(index)
    except DataError as error:
        raise DataError(f"{where} {error}") from None
    return _Labelled(where, pixels, _read_image(mask, f"{where}: the mask"), sequence)


def _collect(
    labelled: Iterator[_Labelled], classes: Sequence[str], image_size: int
) -> FrameSet:
    images, masks, sequences = [], [], []
    for one in labelled:
        try:
            image = resize_frame(normalise_frame(one.pixels), image_size)
            layers = _split_mask(one.mask, one.pixels.shape, classes)
        except DataError as error:
            raise DataError(f"{one.where}: {error}") from None
        empty = np.zeros((len(CLASS_NAMES), image_size, image_size), np.uint8)
        for name, layer in zip(classes, layers, strict=True):
            empty[CLASS_NAMES.index(name)] = resize_mask(layer, image_size)
        images.append(image)
        masks.append(empty)
        sequences.append(one.sequence)
    annotated = torch.tensor([name in classes for name in CLASS_NAMES])
    _, numbers = np.unique(sequences, return_inverse=True)
    return FrameSet(
        images=torch.from_numpy(np.stack(images)[:, None]),
        masks=torch.from_numpy(np.stack(masks)),
        annotated=annotated.repeat(len(images), 1),
        sequences=torch.from_numpy(numbers.astype(np.int64)),
    )


def _split_mask(
    mask: NDArray[np.number], shape: tuple[int, ...], classes: Sequence[str]
) -> list[NDArray[np.number]]:
    """Return one layer (height, width) per declared class, nonzero = device."""
    if mask.ndim != 2:
        raise DataError(f"the mask has {mask.shape[2]} channels, needs a single one")
    if mask.shape != shape:
        sizes = [f"{width}x{height}" for height, width in (mask.shape, shape)]
        raise DataError(f"the mask is {sizes[0]} px, the image {sizes[1]}")
    if len(classes) == 1:
        return [mask]
    allowed = np.arange(2 ** len(classes))
    unexpected = np.setdiff1d(mask, allowed)
    if len(unexpected):
        meaning = ", ".join(f"{2**k} = {name}" for k, name in enumerate(classes))
        raise DataError(
            f"the mask holds {len(unexpected)} unexpected value(s); with several "
            f"classes it needs {meaning}, sums where they overlap and 0 elsewhere. "
            "If it shows one class only, declare just that one in `classes`"
        )
    return [mask & 2**k for k in range(len(classes))]


def _files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.suffix.lower() in suffixes)
    return sorted(path for path in found if not path.name.startswith("."))


def _dicom_files(folder: Path) -> list[Path]:
    return _files(folder / "dicom", DICOM_SUFFIXES) or _files(folder, DICOM_SUFFIXES)


def _by_stem(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in _files(folder, MASK_SUFFIXES)}


def _read_image(path: Path, where: str) -> NDArray[np.number]:
    """Decode a file from memory: `cv2.imread` would print the path of a bad one."""
    try:
        stored = np.frombuffer(path.read_bytes(), np.uint8)
        pixels = cv2.imdecode(stored, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise DataError(f"{where} cannot be read as an image")
    return pixels


def _to_grey(pixels: NDArray[np.number], where: str) -> NDArray[np.number]:
    if pixels.ndim == 2:
        return pixels
    how = {3: cv2.COLOR_BGR2GRAY, 4: cv2.COLOR_BGRA2GRAY}.get(pixels.shape[2])
    if how is None:
        raise DataError(f"{where} has {pixels.shape[2]} channels, needs 1, 3 or 4")
    return cv2.cvtColor(pixels.astype(np.float32), how)
