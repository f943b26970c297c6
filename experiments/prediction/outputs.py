"""Everything that is written of one input, complete or not at all.

All files of an input lie in a folder of its own, which is made under another name and
gets its own in one step when the last frame is written.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from clients.data.errors import DataError
from clients.images.source import SourceFacts
from experiments.prediction.dicom_seg import SegmentationWriter
from experiments.prediction.frames import PredictedFrame
from experiments.prediction.overlays import OverlayVideo, draw_overlay
from experiments.prediction.tips_table import TipRow, tip_rows, write_tips
from models.classes import CLASS_NAMES

KINDS = ("masks", "npy", "overlays", "video", "dicom-seg", "tips")
MASK_STYLES = ("classes", "labels")
ON = 255


@dataclass(frozen=True)
class OutputChoice:
    """What is written of every input."""

    kinds: frozenset[str]  # of KINDS
    masks: str = "classes"  # one of MASK_STYLES
    model_name: str = ""  # said in a DICOM Segmentation
    keep_identity: bool = False  # name the patient there


class InputWriter:
    """Writes the frames of one input as they come.

    Args:
        folder: Exists and is empty.
        choice: What to write.
        facts: Of the input.
        dicom: The input if it is a DICOM file; else there is no dicom-seg.
    """

    def __init__(
        self,
        folder: Path,
        choice: OutputChoice,
        facts: SourceFacts,
        dicom: Path | None,
    ) -> None:
        """Get ready for the first frame.

        Raises:
            DataError: If a DICOM Segmentation is wanted and the header forbids it.
        """
        self._folder, self._choice, self._facts = folder, choice, facts
        self._tips: list[TipRow] = []
        self._array: NDArray[np.float32] | None = None
        self._video: OverlayVideo | None = None
        self._segmentation: SegmentationWriter | None = None
        if "video" in choice.kinds:
            self._video = OverlayVideo(folder / "overlay.mp4", facts.frame_time_ms)
        if "dicom-seg" in choice.kinds and dicom is not None:
            self._segmentation = SegmentationWriter(
                dicom, choice.model_name, keep_identity=choice.keep_identity
            )
        for kind in {"masks", "overlays"} & choice.kinds:
            (folder / kind).mkdir()
        if "npy" in choice.kinds:
            shape = (facts.num_frames, len(CLASS_NAMES), facts.height, facts.width)
            self._array = np.lib.format.open_memmap(
                folder / "probabilities.npy", "w+", np.float32, shape
            )

    def add(self, frame: PredictedFrame) -> None:
        """Write a frame.

        Args:
            frame: They come in order, each once.

        Raises:
            DataError: If OpenCV or the header of the source does not allow it.
        """
        kinds = self._choice.kinds
        if "masks" in kinds:
            self._write_masks(frame)
        if self._array is not None:
            self._array[frame.number - 1] = frame.probabilities
        if kinds & {"overlays", "video"}:
            picture = draw_overlay(frame, tips="tips" in kinds)
            if "overlays" in kinds:
                write_png(self._folder / "overlays" / _name(frame), picture)
            if self._video is not None:
                self._video.add(picture)
        if self._segmentation is not None:
            self._segmentation.add(frame.masks)
        if "tips" in kinds:
            self._tips += tip_rows(frame, self._facts.spacing_mm)

    def finish(self) -> None:
        """Write what needs all frames.

        Raises:
            DataError: If the header of the source cannot be referred to.
        """
        self.close()
        if self._segmentation is not None:
            self._segmentation.write(self._folder / "segmentation.dcm")
        if "tips" in self._choice.kinds:
            write_tips(self._folder, self._tips, self._facts)

    def close(self) -> None:
        """Close what is open."""
        if self._video is not None:
            self._video.close()
        if isinstance(self._array, np.memmap):
            self._array.flush()
        self._array = None

    def _write_masks(self, frame: PredictedFrame) -> None:
        folder = self._folder / "masks"
        if self._choice.masks == "labels":
            write_png(folder / _name(frame), label_map(frame.masks))
            return
        for name, mask in zip(CLASS_NAMES, frame.masks, strict=True):
            write_png(folder / _name(frame, f"_{name}"), ON * mask.astype(np.uint8))


def label_map(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Put the masks of all classes into one image; classes may overlap.

    Args:
        masks: (classes, height, width).

    Returns:
        (height, width): 1 for the first class plus 2 for the second and so on, so that
        3 is both; 0 is neither.
    """
    weights = 2 ** np.arange(len(masks))
    summed: NDArray[np.uint8] = np.tensordot(weights, masks, axes=1).astype(np.uint8)
    return summed


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a picture; OpenCV gets no path, which it would quote.

    Args:
        path: Of the file.
        pixels: (height, width) or (height, width, 3), blue first.
    """
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


@contextmanager
def whole_folder(place: Path) -> Iterator[Path]:
    """Offer a folder that gets its name when everything inside went well.

    Args:
        place: The name it gets.

    Yields:
        An empty folder beside it.

    Raises:
        DataError: If there is such a folder already.
    """
    if place.exists():
        raise DataError("has results in the output folder already; choose another one")
    partial = place.with_name(f".{place.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.replace(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _name(frame: PredictedFrame, ending: str = "") -> str:
    return f"{frame.number:04d}{ending}.png"
