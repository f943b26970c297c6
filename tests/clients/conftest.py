"""Small frames, folders and DICOM files for the data room's tests."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, XRayAngiographicImageStorage

from clients.data.frames import FrameSet

WriteImage = Callable[[Path, NDArray], None]
MakeDicom = Callable[..., FileDataset]


@pytest.fixture
def make_frames() -> Callable[[list[int]], FrameSet]:
    """Return a builder of 4 px frames; frame k is grey k / 100 everywhere."""

    def build(sequences: list[int]) -> FrameSet:
        count = len(sequences)
        grey = torch.arange(count, dtype=torch.float32) / 100
        return FrameSet(
            images=grey[:, None, None, None].expand(count, 1, 4, 4).clone(),
            masks=torch.zeros(count, 2, 4, 4, dtype=torch.uint8),
            annotated=torch.ones(count, 2, dtype=torch.bool),
            sequences=torch.tensor(sequences),
        )

    return build


@pytest.fixture
def write_image() -> WriteImage:
    """Return a writer of image files that makes the folder first."""

    def write(path: Path, pixels: NDArray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())

    return write


@pytest.fixture
def make_dicom() -> MakeDicom:
    """Return a builder of uncompressed grey files of a patient with a name."""

    def build(pixels: NDArray, **elements: object) -> FileDataset:
        frames = pixels if pixels.ndim == 3 else pixels[None]
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = XRayAngiographicImageStorage
        meta.MediaStorageSOPInstanceUID = "1.2.3.4"
        dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.PatientName = "DOE^JANE"
        dataset.PatientID = "SECRET-77"
        dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames.shape
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 8 * frames.itemsize
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(np.issubdtype(frames.dtype, np.signedinteger))
        dataset.PixelData = frames.tobytes()
        for name, value in elements.items():
            setattr(dataset, name, value)
        return dataset

    return build
