"""Real folders in both layouts, and everything that can be wrong with them."""

import traceback
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from clients.data.errors import DataError
from clients.data.folders import load_folder
from clients.data.frames import FrameSet
from clients.data.splits import split_by_sequence

WriteImage = Callable[[Path, NDArray], None]
MakeDicom = Callable[..., FileDataset]

GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
WIRE = np.zeros((16, 16), np.uint8)
WIRE[:, 6:10] = 255


def load(
    folder: Path,
    layout: str = "auto",
    classes: tuple[str, ...] = ("catheter",),
    image_size: int = 16,
) -> FrameSet:
    return load_folder(folder, layout=layout, classes=classes, image_size=image_size)


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
    for name in ("DOE_1", "DOE_2"):
        pixels = np.stack([np.roll(GREY, shift) for shift in range(3)])
        make_dicom(pixels).save_as(folder / "dicom" / f"{name}.dcm")
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


# ------------------------------------------------------------------- pairs


def test_pairs_come_in_sorted_order_with_numbered_sequences(pairs: Path) -> None:
    frames = load(pairs)
    # Sorted: DOE_1_00, DOE_1_01, DOE_2_00, DOE_2_01, alone.
    assert frames.sequences.tolist() == [0, 0, 1, 1, 2]
    assert frames.annotated.tolist() == [[True, False]] * 5
    assert torch.equal(frames.masks[:, 0], torch.from_numpy(WIRE > 0).expand(5, 16, 16))
    assert int(frames.masks[:, 1].sum()) == 0
    assert frames.images[0, 0, 8, 8] == pytest.approx(8.5 / 16, abs=0.01)


def test_loading_twice_gives_the_same_digest(pairs: Path) -> None:
    assert load(pairs).digest() == load(pairs, layout="pairs").digest()


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
    expected = torch.linspace(0, 1, 256).reshape(16, 16)
    assert torch.allclose(load(tmp_path).images[0, 0], expected, atol=0.05)


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


def test_other_files_beside_the_images_are_left_alone(pairs: Path) -> None:
    (pairs / "images" / "._DOE_1_00.png").write_bytes(b"left by another system")
    (pairs / "images" / "notes.txt").write_text("DOE^JANE")
    assert len(load(pairs)) == 5


# ------------------------------------------------------------------- dicom


def test_frames_without_a_mask_are_left_out(dicom: Path) -> None:
    frames = load(dicom)
    assert frames.sequences.tolist() == [0, 0, 1, 1, 1]
    # Frames 0 and 2 of the first file, 0, 1 and 2 of the second.
    assert torch.equal(frames.images[:2], frames.images[[2, 4]])
    assert not torch.equal(frames.images[0], frames.images[1])


def test_dicom_files_may_lie_in_the_folder_itself(dicom: Path) -> None:
    expected = load(dicom).digest()
    for path in (dicom / "dicom").iterdir():
        path.rename(dicom / path.name)
    (dicom / "dicom").rmdir()
    assert load(dicom, layout="dicom").digest() == expected


def test_no_mask_for_any_frame_is_an_error(
    dicom: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in (dicom / "masks").iterdir():
        path.rename(path.with_name(f"other_{path.name}"))
    assert "none of the frames in 2 DICOM file(s)" in refused(dicom, capfd)


def test_a_damaged_file_is_named_by_its_number(
    dicom: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = dicom / "dicom" / "DOE_2.dcm"
    path.write_bytes(path.read_bytes()[:-300])
    message = refused(dicom, capfd)
    assert message.startswith("file 2 of 2 (sorted order)")
    assert "cannot be read as" in message


def test_a_file_that_is_no_dicom_is_named_by_its_number(
    dicom: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (dicom / "dicom" / "DOE_1.dcm").write_text("DOE^JANE")
    assert refused(dicom, capfd) == (
        "file 1 of 2 (sorted order) cannot be read as a DICOM image"
    )


def test_a_dicom_frame_whose_pixels_are_not_finite_is_refused(
    dicom: Path, make_dicom: MakeDicom, capfd: pytest.CaptureFixture[str]
) -> None:
    pixels = np.stack([GREY.astype(np.float32)] * 3)
    pixels[2, 0, 0] = np.nan
    dataset = make_dicom(pixels)
    dataset.FloatPixelData = pixels.tobytes()
    del dataset.PixelData
    dataset.save_as(dicom / "dicom" / "DOE_1.dcm")
    message = refused(dicom, capfd)
    assert message.startswith("file 1 of 2 (sorted order), frame 3 of 3")
    assert "not finite" in message


# ------------------------------------------------------------------ errors


def test_a_missing_folder_is_an_error_without_its_path(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "does not exist" in refused(tmp_path / "DOE_JANE", capfd)


def test_an_empty_folder_is_an_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "DOE_JANE").mkdir()
    assert "is it empty" in refused(tmp_path / "DOE_JANE", capfd)


def test_empty_subfolders_are_an_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "DOE_JANE" / "images").mkdir(parents=True)
    assert "images/ holds no" in refused(tmp_path / "DOE_JANE", capfd)


def test_two_layouts_in_one_folder_need_a_choice(
    pairs: Path, make_dicom: MakeDicom, capfd: pytest.CaptureFixture[str]
) -> None:
    make_dicom(GREY).save_as(pairs / "DOE.dcm")
    assert "set `layout`" in refused(pairs, capfd)
    assert len(load(pairs, layout="pairs")) == 5


@pytest.mark.parametrize("layout", ["pairs", "dicom"])
def test_a_declared_layout_must_be_there(
    layout: str,
    pairs: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (pairs / "images").rename(pairs / "elsewhere")
    assert f'layout "{layout}" needs' in refused(pairs, capfd, layout=layout)


def test_a_mask_of_another_size_gives_both_sizes(
    pairs: Path, write_image: WriteImage, capfd: pytest.CaptureFixture[str]
) -> None:
    write_image(pairs / "masks" / "DOE_2_00.png", np.zeros((10, 12), np.uint8))
    assert refused(pairs, capfd) == (
        "frame 3 of 5 (sorted order): the mask is 12x10 px, the image 16x16"
    )


def test_an_image_without_mask_is_an_error(
    pairs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (pairs / "masks" / "alone.png").unlink()
    assert refused(pairs, capfd) == (
        "frame 5 of 5 (sorted order): no mask of the same name in masks/"
    )


@pytest.mark.parametrize("kept", [0, 20, 100])
def test_a_truncated_image_is_named_by_its_number(
    kept: int, pairs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = pairs / "images" / "DOE_1_01.png"
    path.write_bytes(path.read_bytes()[:kept])
    assert refused(pairs, capfd) == (
        "frame 2 of 5 (sorted order) cannot be read as an image"
    )


def test_a_truncated_mask_is_named_by_its_number(
    pairs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (pairs / "masks" / "DOE_1_01.png").write_bytes(b"DOE^JANE")
    assert refused(pairs, capfd) == (
        "frame 2 of 5 (sorted order): the mask cannot be read as an image"
    )


def test_a_tiff_whose_pixels_are_not_finite_is_refused(
    tmp_path: Path, write_image: WriteImage, capfd: pytest.CaptureFixture[str]
) -> None:
    pixels = GREY.astype(np.float32)
    pixels[3, 3] = np.inf
    write_image(tmp_path / "images" / "DOE.tif", pixels)
    write_image(tmp_path / "masks" / "DOE.png", WIRE)
    message = refused(tmp_path, capfd)
    assert message.startswith("frame 1 of 1 (sorted order): ")
    assert "not finite" in message


def test_a_coloured_mask_is_refused(
    pairs: Path, write_image: WriteImage, capfd: pytest.CaptureFixture[str]
) -> None:
    write_image(pairs / "masks" / "alone.png", np.zeros((16, 16, 3), np.uint8))
    assert "3 channels, needs a single one" in refused(pairs, capfd)


def test_unexpected_mask_values_are_counted_not_shown(
    pairs: Path, write_image: WriteImage, capfd: pytest.CaptureFixture[str]
) -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[0, :4] = [1, 2, 3, 77]
    mask[1, :2] = [77, 99]
    write_image(pairs / "masks" / "DOE_1_00.png", mask)
    message = refused(pairs, capfd, classes=("catheter", "guidewire"))
    assert "2 unexpected value(s)" in message
    assert "77" not in message and "99" not in message


def test_images_that_would_share_a_mask_are_refused(
    pairs: Path, write_image: WriteImage, capfd: pytest.CaptureFixture[str]
) -> None:
    write_image(pairs / "images" / "alone.tif", GREY)
    assert "ambiguous" in refused(pairs, capfd)


@pytest.mark.parametrize("classes", [(), ("stent",), ("catheter", "catheter")])
def test_classes_nobody_knows_are_refused(
    classes: tuple[str, ...], pairs: Path
) -> None:
    with pytest.raises(DataError, match="catheter, guidewire"):
        load(pairs, classes=classes)


def test_an_unknown_layout_is_refused(pairs: Path) -> None:
    with pytest.raises(DataError, match="auto, pairs, dicom"):
        load(pairs, layout="nifti")


def test_a_file_system_error_does_not_show_the_path(
    pairs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert "cannot be opened" in refused(pairs, capfd)


# ---------------------------------------------------------------- real set


def test_the_real_pairs_are_58_frames_of_five_views(phantom_xa: Path) -> None:
    frames = load(phantom_xa, layout="pairs", image_size=128)
    assert torch.bincount(frames.sequences).tolist() == [12, 11, 10, 9, 16]
    share = frames.masks[:, 0].float().mean(dim=(1, 2))
    assert 0.02 < float(share.min()) and float(share.max()) < 0.12
    # Devices are dark on lighter ground.
    device = frames.masks[:, :1] > 0
    assert frames.images[device].mean() < frames.images[~device].mean() - 0.1
    split = split_by_sequence(frames, seed=0)
    assert len(split.train) + len(split.validation) + len(split.test) == 58


def test_the_real_dicom_frames_equal_their_exported_pairs(phantom_xa: Path) -> None:
    dicom = load(phantom_xa, layout="dicom", image_size=128)
    assert torch.bincount(dicom.sequences).tolist() == [12, 11]
    pairs = load(phantom_xa, layout="pairs", image_size=128)
    same = pairs.subset(pairs.sequences < 2)
    assert torch.allclose(dicom.images, same.images, atol=1e-5)
    assert torch.equal(dicom.masks, same.masks)


def test_two_real_dicom_files_are_too_few_to_split(phantom_xa: Path) -> None:
    dicom = load(phantom_xa, layout="dicom", image_size=64)
    with pytest.raises(DataError, match="got 2"):
        split_by_sequence(dicom, seed=0)


def test_the_real_folder_needs_a_layout(
    phantom_xa: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "set `layout`" in refused(phantom_xa, capfd)
