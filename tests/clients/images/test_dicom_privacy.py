"""Nothing that a DICOM file says of a patient comes out, whatever goes wrong.

Every header element that takes text, and the file's own name, hold a marker. Files are
damaged in every way that comes to mind, and whatever was raised, logged, warned of or
printed is searched for the marker.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.datadict import DicomDictionary, keyword_dict
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLosslessSV1

MakeDicom = Callable[..., FileDataset]
Waves = Callable[..., NDArray]

MARKER, NUMBER = "ZQXMARK", "98765432"  # as the ear in conftest.py knows them
TEXT_TYPES = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"}
PIXEL_TEXT = {"PhotometricInterpretation", "SpecificCharacterSet"}
NAME = f"{MARKER}^JANE"


class Ear(Protocol):
    """What conftest.py gives."""

    def forget(self) -> None: ...
    def check(self, *more: str) -> None: ...
    def use(self, path: Path) -> str: ...


def fill(dataset: Dataset) -> int:
    """Put a marker into every element of the dictionary that takes text."""
    filled = 0
    for tag, (kind, _, _, retired, keyword) in DicomDictionary.items():
        group = tag >> 16
        if retired or not keyword or keyword in PIXEL_TEXT or group in (0, 2, 0xFFFE):
            continue
        if kind in TEXT_TYPES:
            setattr(dataset, keyword, NAME if kind == "PN" else MARKER)
            filled += 1
        elif kind == "UI" and keyword not in dataset and keyword != "SOPClassUID":
            setattr(dataset, keyword, f"1.2.{NUMBER}")
            filled += 1
    dataset.add_new(0x00091001, "LO", MARKER)  # private
    return filled


@pytest.fixture
def marked(make_dicom: MakeDicom, waves: Waves) -> FileDataset:
    """Return a file with a marker in every element that takes one."""
    with pydicom.config.disable_value_validation():
        dataset = make_dicom(waves(8))
        assert fill(dataset) > 1000
        dataset.preamble = (MARKER * 20).encode()[:128]
        dataset.file_meta.PrivateInformationCreatorUID = f"1.2.{NUMBER}"
        dataset.file_meta.SourceApplicationEntityTitle = MARKER
        dataset.NumberOfFrames = 3
    return dataset


def keep(dataset: FileDataset) -> None:
    """Leave it as it is."""


def lose_pixels(dataset: FileDataset) -> None:
    del dataset.PixelData


def lose_rows(dataset: FileDataset) -> None:
    del dataset.Rows


def cut_pixels(dataset: FileDataset) -> None:
    dataset.PixelData = dataset.PixelData[:1000]


def claim_chess(dataset: FileDataset) -> None:
    dataset.PhotometricInterpretation = MARKER


def claim_a_palette(dataset: FileDataset) -> None:
    dataset.PhotometricInterpretation = "PALETTE COLOR"


def claim_many_frames(dataset: FileDataset) -> None:
    dataset.NumberOfFrames = NUMBER


def claim_bits(dataset: FileDataset) -> None:
    dataset.BitsStored = 99


def claim_syntax(dataset: FileDataset) -> None:
    dataset.file_meta.TransferSyntaxUID = f"1.2.{NUMBER}"


def break_table(dataset: FileDataset) -> None:
    item = Dataset()
    item.LUTDescriptor, item.LUTExplanation = [256, 0, 16], MARKER
    item.add_new("LUTData", "OW", MARKER.encode() + b"\0")
    dataset.VOILUTSequence = [item]


def break_jpeg(dataset: FileDataset) -> None:
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    bad = b"\xff\xd8\xff\xfe\x00\x10" + MARKER.encode() * 30
    dataset.PixelData = encapsulate([bad] * 3)


DAMAGE = (
    keep,
    lose_pixels,
    lose_rows,
    cut_pixels,
    claim_chess,
    claim_a_palette,
    claim_many_frames,
    claim_bits,
    claim_syntax,
    break_table,
    break_jpeg,
)


@pytest.mark.parametrize("damage", DAMAGE)
def test_no_dicom_file_tells_whom_it_shows(
    damage: Callable[[FileDataset], None],
    marked: FileDataset,
    tmp_path: Path,
    ear: Ear,
) -> None:
    with pydicom.config.disable_value_validation():
        damage(marked)
        path = tmp_path / f"{MARKER}.dcm"
        marked.save_as(path)
    ear.forget()
    assert "DataError" in ear.use(path)  # at least for frames that do not exist


def test_wrong_values_of_any_element_are_not_quoted(
    marked: FileDataset,
    tmp_path: Path,
    ear: Ear,
) -> None:
    numbers = ("FrameTime", "WindowCenter", "WindowWidth", "RescaleSlope", "CineRate")
    marked.StudyInstanceUID, marked.PatientBirthDate = MARKER, MARKER
    marked.BurnedInAnnotation = MARKER.lower()
    path = tmp_path / f"{MARKER}.dcm"
    for name in numbers:
        with pydicom.config.disable_value_validation():
            marked.add_new(keyword_dict[name], "LO", MARKER)
            marked.save_as(path)
        ear.forget()
        ear.use(path)


def test_no_byte_that_goes_wrong_makes_a_dicom_file_talk(
    marked: FileDataset,
    tmp_path: Path,
    ear: Ear,
) -> None:
    path = tmp_path / f"{MARKER}.dcm"
    with pydicom.config.disable_value_validation():
        marked.save_as(path)
    stored = path.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(stored)
        for place in generator.integers(0, len(stored), 30):
            damaged[place] = generator.integers(0, 256)
        path.write_bytes(bytes(damaged))
        ear.use(path)
