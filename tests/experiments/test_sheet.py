"""A sheet that people can look at, and that tells nothing it should not."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageColor

from clients.data.errors import DataError
from clients.data.simulator import simulate_sequence
from experiments.commands.data_sheet import sheet_command
from experiments.overlays import CLASS_COLOURS
from experiments.sheet import REAL_COLOUR, draw_sheet

SIZE = 48


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def holds(picture: np.ndarray, colour: str) -> bool:
    return bool((picture == ImageColor.getrgb(colour)).all(axis=2).any())


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """A folder of three sequences whose names nobody should read."""
    folder = tmp_path / "MARKER-hospital"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for name in ("DOE_00", "DOE_01", "ROE_00", "POE_00"):
        grey = np.full((60, 80), 120, np.uint8)
        mask = np.zeros_like(grey)
        grey[20:24], mask[20:24] = 30, 255
        for kind, image in (("images", grey), ("masks", mask)):
            encoded = cv2.imencode(".png", image)[1].tobytes()
            (folder / kind / f"{name}.png").write_bytes(encoded)
    return folder


def test_every_domain_is_a_row_with_its_frames(tmp_path: Path) -> None:
    output = tmp_path / "new folder" / "sheet.png"
    found = draw_sheet(output, size=SIZE, domains=("phantom", "random-1"))
    assert found == output
    picture = pixels(output)
    one_row = pixels(draw_sheet(tmp_path / "one.png", size=SIZE, domains=("phantom",)))
    assert picture.shape[1] == one_row.shape[1] and picture.shape[1] > 8 * SIZE
    assert picture.shape[0] - one_row.shape[0] == pytest.approx(SIZE, abs=10)
    for colour in CLASS_COLOURS.values():
        assert holds(picture, colour)
    assert not holds(picture, REAL_COLOUR)


def test_a_frame_is_shown_as_it_was_simulated(tmp_path: Path) -> None:
    picture = pixels(draw_sheet(tmp_path / "a.png", size=SIZE, domains=("animal",)))
    frame = simulate_sequence(
        "animal", patient=0, frames=1, image_size=SIZE, seed=0
    ).images[0]
    height, width = picture.shape[:2]
    rows = np.arange(height - SIZE - 12, height - SIZE + 1)
    best = min(
        np.abs(picture[row : row + SIZE, x : x + SIZE, 0] - 255 * frame).mean()
        for row in rows
        for x in range(0, width - SIZE)
    )
    assert best < 2  # grey levels; the picture has fewer of them


def test_the_same_arguments_give_the_same_picture(tmp_path: Path) -> None:
    first, again, other = (
        draw_sheet(
            tmp_path / name, size=SIZE, seed=seed, domains=("human",)
        ).read_bytes()
        for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2))
    )
    assert first == again != other


def test_real_frames_stand_beside_with_their_masks(tmp_path: Path, real: Path) -> None:
    output = draw_sheet(
        tmp_path / "sheet.png", real=[real], size=SIZE, domains=("phantom",)
    )
    picture = pixels(output)
    assert holds(picture, REAL_COLOUR)
    # Three sequences of one frame each: one row, two columns a frame.
    alone = pixels(draw_sheet(tmp_path / "b.png", size=SIZE, domains=("phantom",)))
    assert picture.shape[0] - alone.shape[0] == pytest.approx(SIZE, abs=10)


def test_a_sheet_names_no_file(tmp_path: Path, real: Path) -> None:
    output = draw_sheet(tmp_path / "s.png", real=[real], size=SIZE, domains=())
    for marker in (b"DOE", b"MARKER", b"ROE"):
        assert marker not in output.read_bytes()


def test_the_command_warns_when_patients_are_shown(
    tmp_path: Path, real: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet_command(tmp_path / "a.png", size=SIZE, domains="phantom")
    assert capsys.readouterr().err == ""
    sheet_command(tmp_path / "b.png", real=[real], size=SIZE, domains="phantom, ")
    assert "must not leave the site" in capsys.readouterr().err
    assert (tmp_path / "b.png").is_file()


@pytest.mark.parametrize("part", ["", "images"])
def test_a_folder_without_frames_is_refused_by_its_number(
    tmp_path: Path, part: str
) -> None:
    folder = tmp_path / "MARKER"
    (folder / part).mkdir(parents=True)
    with pytest.raises(DataError, match=r"Folder 1 of real frames") as caught:
        draw_sheet(tmp_path / "s.png", real=[folder], size=SIZE)
    assert "MARKER" not in str(caught.value)


def test_an_unknown_domain_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="The domain must be one of"):
        draw_sheet(tmp_path / "s.png", size=SIZE, domains=("robot",))
