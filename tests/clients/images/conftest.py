"""Compressed DICOM files, made on the spot, and an ear for what must not be told."""

import logging
import traceback
from collections.abc import Callable
from pathlib import Path

import gdcm
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRLittleEndian

import clients.images.silence  # noqa: F401 - before a test writes the first video
from clients.data.errors import DataError
from clients.images.opening import is_dicom, is_image, open_source

SaveDicom = Callable[..., Path]


@pytest.fixture
def waves() -> Callable[..., NDArray]:
    """Return a maker of 3 smooth frames that use the given depth to its ends."""

    def make(bits: int, *, signed: bool = False, noise: int = 1) -> NDArray:
        rows, columns = np.mgrid[:48, :40]
        wave = (np.sin(rows / 9) + np.cos(columns / 7) + 2) / 4
        wave = (wave - wave.min()) / np.ptp(wave)
        grain = np.random.default_rng(0).integers(0, noise + 1, wave.shape)
        frame = np.clip(np.round(wave * 2**bits) + grain, 0, 2**bits - 1)
        frames = np.stack([frame, frame[::-1], frame[:, ::-1]])
        kind = f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}"
        return (frames - signed * 2 ** (bits - 1)).astype(kind)

    return make


@pytest.fixture
def save_dicom(tmp_path: Path) -> SaveDicom:
    """Return a writer of DICOM files that can compress them with GDCM."""

    def save(
        dataset: FileDataset, syntax: str = "", name: str = "DOE_JANE.dcm"
    ) -> Path:
        path = tmp_path / name
        dataset.save_as(path)
        if not syntax:
            return path
        assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        kind = getattr(gdcm.TransferSyntax, syntax)
        change.SetTransferSyntax(gdcm.TransferSyntax(kind))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return path

    return save


class Ear:
    """Hears whatever is raised, logged, warned of or printed."""

    marker = "ZQXMARK"
    number = "98765432"  # stands in where only digits are allowed

    def __init__(
        self,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
        recwarn: pytest.WarningsRecorder,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        self.caplog, self.capfd, self.recwarn = caplog, capfd, recwarn

    def forget(self) -> None:
        """Start afresh, after a test has prepared its files."""
        self.capfd.readouterr()
        self.caplog.clear()
        self.recwarn.clear()

    def check(self, *more: str) -> None:
        """Fail if a marker came out anywhere."""
        printed = self.capfd.readouterr()
        warned = [str(warning.message) for warning in self.recwarn]
        told = "\n".join([self.caplog.text, *printed, *warned, *more])
        assert self.marker.lower() not in told.lower()
        assert self.number not in told

    def use(self, path: Path) -> str:
        """Do all that can be done with a file, and check; return what was told."""
        told = [str(is_image(path)), str(is_dicom(path))]
        try:
            source = open_source(path)
            told += [repr(source), repr(source.facts), repr(source.identity)]
            for index in range(-1, source.facts.num_frames + 1):
                try:
                    source.read_frame(index)
                except DataError as error:
                    told += [str(error), *traceback.format_exception(error)]
        except DataError as error:
            told += [str(error), *traceback.format_exception(error)]
        self.check(*told)
        return "\n".join(told)


@pytest.fixture
def ear(
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> Ear:
    """Let everybody log everything, and listen."""
    return Ear(caplog, capfd, recwarn)
