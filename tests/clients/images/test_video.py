"""Videos come out frame by frame, each the one that was written."""

import pickle
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from clients.data.errors import DataError
from clients.images.video import VideoFile, looks_like_video

COUNT = 75
KINDS = (
    ("mp4", "mp4v"),
    ("mov", "mp4v"),
    ("mkv", "VP80"),
    ("avi", "MJPG"),
    ("avi", "FFV1"),
    ("avi", "MPG2"),  # with frames that depend on later ones
)

WriteVideo = Callable[..., Path]


def numbered(index: int) -> NDArray[np.uint8]:
    """Return a frame that shows its number in seven bright or dark squares."""
    frame = np.full((48, 128), 40, np.uint8)
    for bit in range(7):
        if index >> bit & 1:
            frame[8:40, 8 + 16 * bit : 20 + 16 * bit] = 220
    return frame


def number(frame: NDArray[np.number]) -> int:
    squares = [frame[12:36, 10 + 16 * b : 18 + 16 * b].mean() for b in range(7)]
    return sum(2**bit for bit, grey in enumerate(squares) if grey > 130)


@pytest.fixture
def write_video(tmp_path: Path) -> WriteVideo:
    """Return a writer of videos with numbered frames, 25 a second."""

    def write(suffix: str, codec: str, count: int = COUNT) -> Path:
        path = tmp_path / f"DOE_JANE.{suffix}"
        code = cv2.VideoWriter_fourcc(*codec)
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, 25, (128, 48))
        assert writer.isOpened()
        for index in range(count):
            writer.write(cv2.cvtColor(numbered(index), cv2.COLOR_GRAY2BGR))
        writer.release()
        return path

    return write


@pytest.mark.parametrize(("suffix", "codec"), KINDS)
def test_every_frame_is_the_one_that_was_written_in_any_order(
    suffix: str, codec: str, write_video: WriteVideo
) -> None:
    source = VideoFile(write_video(suffix, codec))
    assert source.facts.num_frames == COUNT
    assert (source.facts.height, source.facts.width) == (48, 128)
    assert source.facts.frame_time_ms == pytest.approx(40)
    assert source.identity is None
    shuffled = np.random.default_rng(0).permutation(COUNT).tolist()
    for index in [*shuffled, *range(COUNT), 7, 7, 6]:
        assert number(source.read_frame(index)) == index


def test_grey_values_survive_a_lossless_video(write_video: WriteVideo) -> None:
    found = VideoFile(write_video("avi", "FFV1")).read_frame(37)
    assert np.abs(found - numbered(37).astype(float)).max() <= 2


class Sloppy:
    """A capture that lands one frame late when it jumps, as some containers make it."""

    def __init__(self, *arguments: object) -> None:
        self.real = REAL_CAPTURE(*arguments)

    def set(self, name: int, value: float) -> bool:
        return self.real.set(name, value + 1)

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)


REAL_CAPTURE = cv2.VideoCapture


def test_a_jump_that_lands_elsewhere_is_noticed(
    write_video: WriteVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Sloppy)
    source = VideoFile(write_video("mp4", "mp4v"))
    for index in (60, 3, 74, 40, 41):
        assert number(source.read_frame(index)) == index


class Timeless(Sloppy):
    """A sloppy capture that does not know the times of its frames either."""

    def get(self, name: int) -> float:
        return 0.0 if name == cv2.CAP_PROP_POS_MSEC else self.real.get(name)


def test_frames_without_times_are_counted_from_the_start(
    write_video: WriteVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Timeless)
    source = VideoFile(write_video("mp4", "mp4v"))
    for index in (60, 3, 74):
        assert number(source.read_frame(index)) == index


def test_a_source_can_move_to_another_process(write_video: WriteVideo) -> None:
    source = VideoFile(write_video("mp4", "mp4v"))
    assert number(source.read_frame(50)) == 50
    moved = pickle.loads(pickle.dumps(source))
    assert number(moved.read_frame(51)) == 51
    assert number(source.read_frame(51)) == 51


@pytest.mark.parametrize(("suffix", "codec"), KINDS)
def test_a_video_cut_off_is_an_error_and_prints_nothing(
    suffix: str,
    codec: str,
    write_video: WriteVideo,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = write_video(suffix, codec)
    capfd.readouterr()
    stored = path.read_bytes()
    for length in (20, 300, len(stored) // 2):
        path.write_bytes(stored[:length])
        with pytest.raises(DataError, match=r"video|cut off"):
            VideoFile(path)
    assert capfd.readouterr() == ("", "")


def test_a_video_damaged_in_its_middle_is_an_error_or_still_in_order(
    write_video: WriteVideo, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_video("avi", "MJPG")
    capfd.readouterr()
    stored = bytearray(path.read_bytes())
    middle = len(stored) // 2
    stored[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(bytes(stored))
    with pytest.raises(DataError, match=r"says it has 75 frames but only \d+"):
        VideoFile(path)
    assert capfd.readouterr() == ("", "")


def test_a_play_list_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    path.write_text("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n")
    with pytest.raises(DataError, match="is no MP4, MOV, AVI or MKV video"):
        VideoFile(path)


@pytest.mark.parametrize("index", [-1, COUNT])
def test_a_frame_that_does_not_exist_is_refused(
    index: int, write_video: WriteVideo
) -> None:
    source = VideoFile(write_video("avi", "MJPG"))
    with pytest.raises(DataError, match=r"^has 75 frame\(s\)"):
        source.read_frame(index)


def test_other_files_do_not_look_like_a_video() -> None:
    for head in (b"", b"RIFF\0\0\0\0WAVE", b"\x89PNG\r\n\x1a\n", b"\0" * 12):
        assert not looks_like_video(head)
