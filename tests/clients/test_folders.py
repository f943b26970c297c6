"""Frames out of folders, and what stands in their way."""

import logging
import os
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from clients.annotations.annotation import LabelMap
from clients.data import folders
from clients.data.catalogue import FolderSpec
from clients.data.check import check_catalogue
from clients.data.errors import DataError
from clients.data.folders import find, load_folder
from clients.data.frames import FrameSet
from clients.data.identity import SiteKey, patient_token
from clients.data.scan import scan_folder
from clients.data.store import StoredFrames
from strategies.data_settings import DataSettings

WriteImage = Callable[[Path, NDArray], None]
MakeDicom = Callable[..., FileDataset]

KEY = SiteKey(bytes(range(32)))
# Without order: nothing that could be taken for the blades of a collimator.
GREY = np.random.default_rng(0).permutation(256).astype(np.uint8).reshape(16, 16)
WIRE = np.zeros((16, 16), np.uint8)
WIRE[:, 6:10] = 255
SETTINGS = {
    "frame_size": 16,
    "crop": "none",
    "clip_percentile": 0.5,
    "polarity": "keep",
    "normalise": "unit",
    "augmentation": "none",
}


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cache for all tests, so that the real frames are prepared once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENDOFED_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def open_folder(
    folder: Path, classes: tuple[str, ...] = ("catheter",), **changes: object
) -> StoredFrames:
    chosen = {name: changes.pop(name, value) for name, value in SETTINGS.items()}
    changes.setdefault("min_patients", 1)
    spec = FolderSpec(folder, labels=LabelMap(classes=classes), **changes)  # type: ignore[arg-type]
    return load_folder(spec, settings=DataSettings(**chosen), key=KEY)  # type: ignore[arg-type]


def load(
    folder: Path, classes: tuple[str, ...] = ("catheter",), **changes: object
) -> FrameSet:
    stored = open_folder(folder, classes, **changes)
    return stored.subset(torch.arange(len(stored)))


@pytest.fixture
def pairs(tmp_path: Path, write_image: WriteImage) -> Path:
    """Four frames of two sequences and one of a third, all of DOE^JANE."""
    folder = tmp_path / "DOE_JANE"
    for name in ("DOE_2_00", "DOE_1_00", "DOE_1_01", "DOE_2_01", "alone"):
        write_image(folder / "images" / f"{name}.png", GREY)
        write_image(folder / "masks" / f"{name}.png", WIRE)
    return folder


@pytest.fixture
def dicom(tmp_path: Path, write_image: WriteImage, make_dicom: MakeDicom) -> Path:
    """Two files of three frames; DOE_1 has masks for two frames, DOE_2 one for all."""
    folder = tmp_path / "DOE_JANE"
    (folder / "dicom").mkdir(parents=True)
    for number, name in enumerate(("DOE_1", "DOE_2")):
        pixels = np.stack([np.roll(GREY, shift) for shift in range(3)])
        dataset = make_dicom(pixels, SOPInstanceUID=f"1.2.{number}", PatientID=name)
        dataset.save_as(folder / "dicom" / f"{name}.dcm")
    for name in ("DOE_1_00", "DOE_1_02", "DOE_2"):
        write_image(folder / "masks" / f"{name}.png", WIRE)
    return folder


def refused(folder: Path, capfd: pytest.CaptureFixture[str], **changes: object) -> str:
    """Return the error's message after a look for leaks in all that was written."""
    with pytest.raises(DataError) as caught:
        load(folder, **changes)  # type: ignore[arg-type]
    shown = traceback.format_exception_only(caught.value)
    told = "".join(shown) + "".join(capfd.readouterr())
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    for secret in ("DOE", "JANE", "SECRET", str(folder), "255"):
        assert secret not in told
    return str(caught.value)


# ------------------------------------------------------------------ stills


def test_sequences_are_numbered_by_the_tokens_of_their_patients(pairs: Path) -> None:
    frames = load(pairs)
    names = ["DOE_1", "DOE_1", "DOE_2", "DOE_2", "alone"]
    tokens = sorted(patient_token(name) for name in names)
    assert frames.patients.tolist() == tokens
    assert frames.sequences.tolist() == [
        sorted(set(tokens)).index(token) for token in tokens
    ]
    assert frames.annotated.tolist() == [[True, False]] * 5
    assert torch.equal(frames.masks[:, 0], torch.from_numpy(WIRE > 0).expand(5, 16, 16))
    assert int(frames.masks[:, 1].sum()) == 0
    # Grey k of 0 to 255, stretched between the percentiles 0.5 and 99.5.
    assert frames.images[0, 0, 8, 8] == pytest.approx(GREY[8, 8] / 255, abs=0.01)


def test_the_order_of_frames_does_not_depend_on_the_key(pairs: Path) -> None:
    spec = FolderSpec(pairs, labels=LabelMap(classes=("catheter",)))
    settings = DataSettings(**SETTINGS)  # type: ignore[arg-type]
    digests = {
        load_folder(
            spec, settings=settings, key=SiteKey(secret), cache=pairs.parent / name
        ).digest()
        for name, secret in (("a", bytes(32)), ("b", bytes(range(32))))
    }
    assert len(digests) == 1


def test_one_declared_class_may_be_the_second(pairs: Path) -> None:
    frames = load(pairs, classes=("guidewire",))
    assert frames.annotated.tolist() == [[False, True]] * 5
    assert int(frames.masks[:, 0].sum()) == 0 and int(frames.masks[:, 1].sum()) > 0


@pytest.mark.parametrize("first", ["catheter", "guidewire"])
def test_with_two_classes_three_means_both(
    first: str, pairs: Path, write_image: WriteImage
) -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[0:4], mask[4:8], mask[8:12] = 1, 2, 3
    for path in (pairs / "masks").iterdir():
        write_image(path, mask)
    second = {"catheter": "guidewire", "guidewire": "catheter"}[first]
    frames = load(pairs, classes=(first, second))
    rows = frames.masks[0, :, :, 0].bool().numpy()
    bits = {0: [*range(0, 4), *range(8, 12)], 1: list(range(4, 12))}
    order = (0, 1) if first == "catheter" else (1, 0)
    for index, bit in enumerate(order):
        assert np.nonzero(rows[index])[0].tolist() == bits[bit]


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".jpg", ".tif", ".tiff"])
def test_several_image_formats_are_read(
    suffix: str, tmp_path: Path, write_image: WriteImage
) -> None:
    write_image(tmp_path / "images" / f"a_1{suffix.lower()}", GREY)
    (tmp_path / "images" / f"a_1{suffix.lower()}").rename(
        tmp_path / "images" / f"a_1{suffix}"
    )
    write_image(tmp_path / "masks" / "a_1.png", WIRE)
    expected = torch.from_numpy(GREY / np.float32(255))
    assert torch.allclose(load(tmp_path).images[0, 0], expected, atol=0.1)


@pytest.mark.parametrize(
    "pixels",
    [
        GREY.astype(np.uint16) * 16,
        cv2.cvtColor(GREY, cv2.COLOR_GRAY2BGR),
        cv2.cvtColor(GREY, cv2.COLOR_GRAY2BGRA),
    ],
    ids=["16 bit", "colour", "colour and alpha"],
)
def test_depth_and_colour_of_the_file_do_not_matter(
    pixels: NDArray, pairs: Path, write_image: WriteImage
) -> None:
    expected = load(pairs).images
    for path in (pairs / "images").iterdir():
        write_image(path, pixels)
    assert torch.allclose(load(pairs).images, expected, atol=1e-3)


def test_arrays_and_films_have_frames_too(
    tmp_path: Path, write_image: WriteImage
) -> None:
    np.save(tmp_path / "a.npy", np.stack([GREY, np.roll(GREY, 3)]).astype(np.uint16))
    masks = np.stack([WIRE > 0, WIRE > 300])
    (tmp_path / "masks").mkdir()
    np.save(tmp_path / "masks" / "a.npy", masks)
    frames = load(tmp_path)
    assert torch.equal(frames.masks[:, 0].bool(), torch.from_numpy(masks))
    assert frames.sequences.tolist() == [0, 0]


def test_frames_of_bright_devices_are_inverted_where_dark_ones_are_wanted(
    pairs: Path,
) -> None:
    kept = load(pairs).images
    inverted = load(pairs, polarity="dark", device_polarity="bright").images
    assert torch.allclose(inverted, 1 - kept, atol=1e-4)
    for polarity, device in (("keep", "bright"), ("dark", "dark"), ("dark", "unknown")):
        same = load(pairs, polarity=polarity, device_polarity=device).images
        assert torch.equal(same, kept)


# ------------------------------------------------------------------- dicom


def test_frames_without_a_mask_are_left_out(
    dicom: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        frames = load(dicom)
    assert "1 warning(s)" in caplog.text and "DOE" not in caplog.text
    counts = torch.bincount(frames.sequences).tolist()
    assert sorted(counts) == [2, 3]
    # Frames 0 and 2 of the first file, 0, 1 and 2 of the second.
    two = frames.images[frames.sequences == counts.index(2)]
    three = frames.images[frames.sequences == counts.index(3)]
    assert torch.equal(two, three[[0, 2]])
    assert not torch.equal(three[0], three[1])


def test_dicom_files_may_lie_in_the_folder_itself(dicom: Path) -> None:
    expected = load(dicom)
    for path in (dicom / "dicom").iterdir():
        path.rename(dicom / path.name)
    (dicom / "dicom").rmdir()
    assert load(dicom, layout="dicom").digest() == expected.digest()


def test_a_dicom_file_with_cut_off_pixels_is_refused_with_its_pseudonym(
    dicom: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = dicom / "dicom" / "DOE_2.dcm"
    path.write_bytes(path.read_bytes()[:-300])
    assert "S-" in refused(dicom, capfd)


def test_a_frame_whose_pixels_are_not_finite_is_refused(
    pairs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pixels = np.stack([GREY.astype(np.float32)] * 3)
    pixels[2, 0, 0] = np.nan
    np.save(pairs / "images" / "DOE.npy", pixels)
    np.save(pairs / "masks" / "DOE.npy", WIRE > 0)
    message = refused(pairs, capfd)
    assert message.startswith("Sequence S-") and ", frame 3: " in message
    assert "finite" in message


# ------------------------------------------------------------------ errors


def test_the_errors_of_a_folder_are_counted_and_the_first_shown(
    pairs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in sorted((pairs / "images").iterdir())[:4]:
        path.write_bytes(b"DOE^JANE")
    message = refused(pairs, capfd)
    # Four damaged files, and what is left of the patients is enough for min_patients.
    assert message.startswith("The data folder has 4 error(s): Sequence S-")
    assert "And 1 more." in message and "endofed data check" in message


def test_a_missing_folder_is_an_error_without_its_path(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "does not exist" in refused(tmp_path / "DOE_JANE", capfd)


def test_an_empty_folder_is_an_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "DOE_JANE").mkdir()
    assert "holds no image" in refused(tmp_path / "DOE_JANE", capfd)


def test_a_mask_of_another_size_gives_both_sizes(
    pairs: Path, write_image: WriteImage, capfd: pytest.CaptureFixture[str]
) -> None:
    write_image(pairs / "masks" / "DOE_2_00.png", np.zeros((10, 12), np.uint8))
    message = refused(pairs, capfd)
    where = KEY.sequence_id("DOE_2\0DOE_2")
    assert message.startswith(f"Sequence {where}, frame 1: ")
    assert "12x10 px" in message and "16x16 px" in message


def test_a_mask_that_is_none_is_refused(
    pairs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (pairs / "masks" / "DOE_1_01.png").write_bytes(b"DOE^JANE")
    where = KEY.sequence_id("DOE_1\0DOE_1")
    assert refused(pairs, capfd).startswith(f"Sequence {where}, frame 2: ")


def test_unexpected_mask_values_are_counted_not_shown(
    pairs: Path, write_image: WriteImage, capfd: pytest.CaptureFixture[str]
) -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[0, :4] = [1, 2, 3, 77]
    mask[1, :2] = [77, 99]
    for path in (pairs / "masks").iterdir():
        write_image(path, mask)
    message = refused(pairs, capfd, classes=("catheter", "guidewire"))
    assert "2 unexpected value(s)" in message
    assert "77" not in message and "99" not in message


def test_images_that_would_share_a_mask_are_refused(
    pairs: Path, write_image: WriteImage, capfd: pytest.CaptureFixture[str]
) -> None:
    write_image(pairs / "images" / "alone.tif", GREY)
    assert "same name but for the suffix" in refused(pairs, capfd)


def test_a_file_that_vanishes_before_it_is_read_is_an_error_without_its_path(
    pairs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path) -> object:
        raise FileNotFoundError(2, "No such file", str(path))

    monkeypatch.setattr("clients.data.frame_tasks.open_source", refuse)
    assert "cannot be opened any more" in refused(pairs, capfd)


def test_an_unexpected_error_does_not_quote_what_it_met(
    pairs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> object:
        raise ValueError("DOE^JANE")

    monkeypatch.setattr("clients.data.frame_tasks.prepare_frame", fail)
    assert "an unexpected ValueError" in refused(pairs, capfd)


def test_damaged_frames_are_left_out_where_the_site_allows_it(
    pairs: Path, write_image: WriteImage, caplog: pytest.LogCaptureFixture
) -> None:
    (pairs / "images" / "DOE_1_01.png").write_bytes(b"DOE^JANE")
    write_image(pairs / "masks" / "DOE_2_00.png", np.zeros((10, 12), np.uint8))
    with caplog.at_level(logging.WARNING):
        frames = load(pairs, skip_damaged=True)
    assert sorted(torch.bincount(frames.sequences).tolist()) == [1, 1, 1]
    where = KEY.sequence_id("DOE_2\0DOE_2")
    assert f"Sequence {where}, frame 1 is left out" in caplog.text
    for secret in ("DOE", "JANE", str(pairs)):
        assert secret not in caplog.text


# ------------------------------------------------------------------- cache


def test_a_folder_that_is_in_the_cache_is_not_scanned_again(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_folder(pairs).digest()

    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(folders, "scan_folder", fail)
    assert (
        open_folder(pairs, normalise="z-score", augmentation="weak").digest() == first
    )
    for change in (
        {"frame_size": 8},
        {"clip_percentile": 1.0},
        {"crop": "collimator"},
        {"polarity": "dark", "device_polarity": "bright"},
        {"classes": ("guidewire",)},
        {"skip_damaged": True},
    ):
        with pytest.raises(AssertionError):
            open_folder(pairs, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("top", ["images", "masks"])
def test_a_changed_file_is_read_again_even_with_its_old_size_and_date(
    pairs: Path, top: str
) -> None:
    before = load(pairs)
    path = pairs / top / "alone.png"
    status = path.stat()
    stored = bytearray(path.read_bytes())
    changed = cv2.imencode(".png", 255 - (GREY if top == "images" else WIRE))[1]
    padding = len(stored) - len(changed)  # PNG ends at IEND: what follows is no matter
    path.write_bytes(changed.tobytes() + b"\0" * max(0, padding))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = load(pairs)
    assert not torch.equal(getattr(before, top), getattr(after, top))


def test_a_new_mask_is_noticed(pairs: Path, write_image: WriteImage) -> None:
    write_image(pairs / "images" / "new.png", GREY)
    assert len(open_folder(pairs)) == 5
    write_image(pairs / "masks" / "new.png", WIRE)
    assert len(open_folder(pairs)) == 6


def test_files_that_are_no_data_do_not_matter_to_the_cache(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_folder(pairs)
    (pairs / "notes.txt").write_text("DOE^JANE")
    monkeypatch.setattr(folders, "scan_folder", None)
    assert len(open_folder(pairs)) == 5


def test_a_cache_inside_the_data_is_refused(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENDOFED_CACHE", str(pairs / "cache"))
    with pytest.raises(DataError, match="ENDOFED_CACHE"):
        open_folder(pairs)


def test_too_few_patients_are_an_error_also_out_of_the_cache(pairs: Path) -> None:
    open_folder(pairs, min_patients=1)
    with pytest.raises(DataError, match=r"of 3 patient.* at least 4"):
        open_folder(pairs, min_patients=4)


def test_patients_whose_frames_are_all_left_out_do_not_count(
    pairs: Path, write_image: WriteImage
) -> None:
    write_image(pairs / "masks" / "alone.png", np.zeros((10, 12), np.uint8))
    with pytest.raises(DataError, match=r"of 2 patient.* at least 3"):
        open_folder(pairs, min_patients=3, skip_damaged=True)


# -------------------------------------------------------------------- find


def test_find_gives_back_the_files_of_a_pseudonym(pairs: Path) -> None:
    spec = FolderSpec(pairs)
    expected = [Path("images/DOE_1_00.png"), Path("images/DOE_1_01.png")]
    assert find(spec, KEY, KEY.patient_id("DOE_1")) == expected
    assert find(spec, KEY, KEY.sequence_id("DOE_1\0DOE_1").lower()) == expected


def test_find_lists_damaged_files_too(pairs: Path) -> None:
    (pairs / "images" / "alone.png").write_bytes(b"")
    found = find(FolderSpec(pairs), KEY, KEY.patient_id("alone"))
    assert found == [Path("images/alone.png")]


def test_a_pseudonym_of_another_key_is_an_error(pairs: Path) -> None:
    with pytest.raises(DataError, match="site key"):
        find(FolderSpec(pairs), SiteKey(bytes(32)), KEY.patient_id("DOE_1"))


# --------------------------------------------------------------- real sets


@pytest.fixture
def some_of_phantom_xa(phantom_xa: Path, tmp_path: Path) -> Path:
    """Links to both DICOM files and to four exported frames, for all takes long."""
    for name in ("IM1_02", "IM1_13", "IM2_01", "IM2_11"):
        for top in ("images", "masks"):
            (tmp_path / top).mkdir(exist_ok=True)
            (tmp_path / top / f"{name}.png").symlink_to(
                phantom_xa / top / f"{name}.png"
            )
    (tmp_path / "dicom").symlink_to(phantom_xa / "dicom")
    return tmp_path


def test_the_real_frames_have_devices_darker_than_their_ground(
    some_of_phantom_xa: Path,
) -> None:
    frames = load(some_of_phantom_xa, layout="pairs", frame_size=128)
    assert frames.sequences.tolist() == [0, 0, 1, 1]
    share = frames.masks[:, 0].float().mean(dim=(1, 2))
    assert 0.02 < float(share.min()) and float(share.max()) < 0.12
    device = (frames.masks[:, :1] > 0) & frames.valid
    ground = (frames.masks[:, :1] == 0) & frames.valid
    assert frames.images[device].mean() < frames.images[ground].mean() - 0.1


def test_the_real_dicom_frames_equal_their_exported_stills(
    some_of_phantom_xa: Path,
) -> None:
    dicom = load(some_of_phantom_xa, layout="dicom", frame_size=128)
    stills = load(some_of_phantom_xa, layout="pairs", frame_size=128)
    # The two sequences may be numbered the other way round: only their patients' names
    # and their paths decide.
    order = [0, 1, 2, 3]
    if not torch.allclose(dicom.images, stills.images, atol=1e-4):
        order = [2, 3, 0, 1]
    same = stills.subset(torch.tensor(order))
    assert torch.allclose(dicom.images, same.images, atol=1e-4)
    assert torch.equal(dicom.masks, same.masks)


@pytest.mark.parametrize("wanted", ["much", "0", "-3", "inf", "nan"])
def test_a_limit_of_the_cache_that_is_no_number_is_refused(
    pairs: Path, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    monkeypatch.setenv("ENDOFED_CACHE_GB", wanted)
    monkeypatch.setenv("ENDOFED_CACHE", str(pairs.parent / "other"))
    with pytest.raises(DataError, match="ENDOFED_CACHE_GB must be a number of GiB"):
        load(pairs)


def test_an_entry_beyond_the_limit_says_how_to_raise_it(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENDOFED_CACHE_GB", "1e-6")
    monkeypatch.setenv("ENDOFED_CACHE", str(pairs.parent / "other"))
    with pytest.raises(DataError, match=r"Raise \$ENDOFED_CACHE_GB"):
        load(pairs)


def test_check_and_load_give_a_frame_the_same_number_beside_a_damaged_one(
    tmp_path: Path, write_image: WriteImage, caplog: pytest.LogCaptureFixture
) -> None:
    masks = {"A_1": WIRE, "A_2": WIRE[:8], "B_1": WIRE}
    for turns, (name, mask) in enumerate(masks.items()):
        write_image(tmp_path / "images" / f"{name}.png", np.rot90(GREY, turns))
        write_image(tmp_path / "masks" / f"{name}.png", mask)
    (tmp_path / "images" / "A_0.png").write_bytes(b"no picture")
    write_image(tmp_path / "masks" / "A_0.png", WIRE)
    labels = LabelMap(classes=("catheter",))
    spec = FolderSpec(tmp_path, labels=labels, min_patients=1, skip_damaged=True)
    report = check_catalogue(scan_folder(spec, KEY))
    damaged = {one.frame for one in report.problems if one.frame is not None}
    assert damaged == {1, 3}  # A_0 and A_2
    load_folder(
        spec,
        settings=DataSettings(**SETTINGS),  # type: ignore[arg-type]
        key=KEY,
    )
    assert "frame 3 is left out: the mask has 16x8 px" in caplog.text
