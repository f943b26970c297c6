"""Folders without labels: all frames, and no annotation is read."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from clients.annotations.annotation import LabelMap
from clients.data import claims
from clients.data.catalogue import FolderSpec
from clients.data.check import check_catalogue
from clients.data.errors import DataError
from clients.data.folders import load_folder
from clients.data.frames import FrameSet
from clients.data.identity import SiteKey
from clients.data.scan import scan_folder
from strategies.data_settings import DataSettings

KEY = SiteKey(bytes(range(32)))
GREY = np.random.default_rng(0).permutation(256).astype(np.uint8).reshape(16, 16)
WIRE = np.zeros((16, 16), np.uint8)
WIRE[:, 6:10] = 255
SETTINGS = DataSettings(
    frame_size=16,
    crop="none",
    clip_percentile=0.5,
    polarity="keep",
    normalise="unit",
    augmentation="none",
)

WriteImage = Callable[[Path, NDArray], None]


@pytest.fixture
def half_annotated(tmp_path: Path, write_image: WriteImage) -> FolderSpec:
    """Three patients of two frames; only the first frame of two of them has a mask."""
    folder = tmp_path / "data"
    for place, patient in enumerate(("a", "b", "c")):
        for number in range(2):
            pixels = np.roll(GREY, 2 * place + number, axis=0)
            write_image(folder / "images" / patient / f"x_{number}.png", pixels)
    for patient in ("a", "b"):
        write_image(folder / "masks" / patient / "x_0.png", WIRE)
    labels = LabelMap(classes=("catheter",))
    return FolderSpec(folder, labels=labels, min_patients=2)


def load(spec: FolderSpec, cache: Path) -> FrameSet:
    stored = load_folder(spec, settings=SETTINGS, key=KEY, cache=cache)
    return stored.subset(torch.arange(len(stored)))


def test_all_frames_are_taken_and_none_of_the_annotations(
    half_annotated: FolderSpec, tmp_path: Path
) -> None:
    labelled = load(half_annotated, tmp_path / "cache")
    bare = load(replace(half_annotated, unlabelled=True), tmp_path / "cache")
    assert len(labelled) == 2 and bool(labelled.annotated[:, 0].all())
    assert len(bare) == 6 and len(bare.patients.unique()) == 3
    assert not bool(bare.annotated.any()) and not bool(bare.masks.any())
    # Either is found again where it was stored, though they share a cache.
    again = load(half_annotated, tmp_path / "cache")
    assert again.digest() == labelled.digest()


def test_a_folder_without_any_annotation_is_no_error(
    half_annotated: FolderSpec, tmp_path: Path
) -> None:
    shutil.rmtree(half_annotated.folder / "masks")
    with pytest.raises(DataError, match="None of 6 frame"):
        load(half_annotated, tmp_path / "cache")
    spec = replace(half_annotated, unlabelled=True, min_patients=3)
    assert len(load(spec, tmp_path / "cache")) == 6
    report = check_catalogue(scan_folder(spec, KEY))
    assert not report.errors
    assert not any("annotation" in one.what for one in report.problems)


def test_annotations_are_never_opened_and_may_be_garbage(
    half_annotated: FolderSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = replace(half_annotated, unlabelled=True)
    before = load(spec, tmp_path / "one")
    (spec.folder / "masks" / "a" / "x_0.png").write_bytes(b"no image")
    shapes = {"shapes": [{"label": "PATIENT DOE"}], "imagePath": "x_0.png"}
    (spec.folder / "images" / "a" / "x_0.json").write_text(json.dumps(shapes))

    def refuse(*_: object) -> None:
        raise AssertionError("an annotation of an unlabelled folder was opened")

    monkeypatch.setattr(claims, "kind_of", refuse)
    monkeypatch.setattr(claims, "read_labelme", refuse)
    assert load(spec, tmp_path / "two").digest() == before.digest()
    assert not check_catalogue(scan_folder(spec, KEY)).errors


def test_too_few_patients_and_damaged_frames_still_stop_the_site(
    half_annotated: FolderSpec, tmp_path: Path
) -> None:
    spec = replace(half_annotated, unlabelled=True, min_patients=4)
    with pytest.raises(DataError, match=r"Frames of 3 patient\(s\), at least 4"):
        load(spec, tmp_path / "cache")
    (spec.folder / "images" / "c" / "x_1.png").write_bytes(b"no image")
    with pytest.raises(DataError):
        load(replace(spec, min_patients=3), tmp_path / "cache")
    lenient = replace(spec, min_patients=3, skip_damaged=True)
    assert len(load(lenient, tmp_path / "cache")) == 5
