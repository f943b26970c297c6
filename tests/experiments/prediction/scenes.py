"""A network that finds what is dark, and frames in which that is the truth."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, XRayAngiographicImageStorage
from torch import Tensor

from experiments.model_source import ModelSource, data_settings_of
from models.assembly import Recipe
from models.network import SegmentationNetwork, SegmentationOutput

SIZE = 64
GROUND, CATHETER, WIRE = 200, 140, 0
SHARPNESS = 40.0


class DarkNetwork(SegmentationNetwork):
    """Grey 0.55 to 0.85 is a catheter, below 0.5 a guidewire."""

    def __init__(self) -> None:
        super().__init__()
        self.image_size, self.num_classes = SIZE, 2
        self.seen: list[tuple[int, ...]] = []

    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        self.check_images(images)
        self.seen.append(tuple(images.shape))
        catheter = 0.15 - (images - 0.7).abs()
        logits = SHARPNESS * torch.cat([catheter, 0.5 - images], dim=1)
        return SegmentationOutput(logits, images)


class Scene(NamedTuple):
    """A frame and the masks that are true in it."""

    pixels: NDArray[np.uint8]
    masks: NDArray[np.bool_]  # (classes, height, width)


MakeScene = Callable[..., Scene]
MakeXa = Callable[..., FileDataset]


@pytest.fixture
def make_scene() -> MakeScene:
    """Return a maker of frames with a catheter and a wire that ends in the frame."""

    def make(height: int, width: int, shift: int = 0) -> Scene:
        masks = np.zeros((2, height, width), np.uint8)
        # Neither is symmetric, so that an exchange of axes or a flip shows.
        top, left = height // 8 + shift, width // 8
        masks[0, top : top + 7, left : width // 2] = 1
        masks[1, height // 2 : height // 2 + 5, width // 3 :] = 1
        pixels = np.full((height, width), GROUND, np.uint8)
        pixels[masks[0] > 0] = CATHETER
        pixels[masks[1] > 0] = WIRE
        return Scene(pixels, masks > 0)

    return make


@pytest.fixture
def dark_source() -> ModelSource:
    """The dark network as `open_model` would give it."""
    return ModelSource(
        kind="random",
        network=DarkNetwork(),
        recipe=Recipe("dark", SIZE, 0),
        data=replace(
            data_settings_of({}, SIZE), crop="none", normalise="unit", polarity="dark"
        ),
        card={"weights-digest": "d" * 64},
    )


@pytest.fixture
def make_xa() -> MakeXa:
    """Return a maker of X-ray angiographic files of a patient with a name."""

    def make(frames: NDArray[np.uint8], **elements: object) -> FileDataset:
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = XRayAngiographicImageStorage
        meta.MediaStorageSOPInstanceUID = "1.2.3.4"
        made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        made.SOPClassUID, made.SOPInstanceUID = XRayAngiographicImageStorage, "1.2.3.4"
        made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.3", "1.2.3.1"
        made.Modality = "XA"
        made.PatientName, made.PatientID = "DOE^JANE", "SECRET-77"
        made.NumberOfFrames, made.Rows, made.Columns = frames.shape
        made.SamplesPerPixel = 1
        made.PhotometricInterpretation = "MONOCHROME2"
        made.BitsAllocated = made.BitsStored = 8
        made.HighBit, made.PixelRepresentation = 7, 0
        made.ImagerPixelSpacing = [0.4, 0.4]
        made.EstimatedRadiographicMagnificationFactor = 2
        made.FrameTime = 40
        content = frames.tobytes()
        made.PixelData = content + b"\0" * (len(content) % 2)
        for name, value in elements.items():
            setattr(made, name, value)
        return made

    return make


def write_png(path: Path, pixels: NDArray[np.uint8]) -> Path:
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return path


def read_png(path: Path) -> NDArray[np.uint8]:
    stored = np.frombuffer(path.read_bytes(), np.uint8)
    return cv2.imdecode(stored, cv2.IMREAD_UNCHANGED)
