import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from clients.data.errors import DataError
from experiments.prediction.stream import Arrival, Mailbox, receive, run_stream
from experiments.prediction.stream_sources import (
    parse_size,
    pipe_frames,
    played_frames,
)
from tests.experiments.prediction.scenes import MakeXa


class Clock:
    """Time that passes only when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def frame(value: int) -> np.ndarray:
    return np.full((2, 3), value, np.uint8)


def test_a_slow_network_gets_the_newest_frame_and_the_others_are_dropped() -> None:
    clock = Clock()
    mailbox = Mailbox(clock)
    mailbox.put(frame(1))
    seen = []

    def slow(arrival: Arrival) -> None:
        """While a frame is predicted, for 0.5 s, three more come, the last at 0.4."""
        seen.append((arrival.number, int(arrival.pixels[0, 0])))
        if len(seen) == 3:
            mailbox.close()
        for passed in (0.2, 0.1, 0.1):
            clock.now += passed
            mailbox.put(frame(mailbox.received + 1))
        clock.now += 0.1

    report = run_stream(mailbox, slow, clock=clock)
    assert seen == [(1, 1), (4, 4), (7, 7)]
    assert (report.received, report.dropped) == (7, 4)
    # The first came at 0 and was done at 0.5; the others waited for 0.1 before.
    assert report.latencies_s == pytest.approx([0.5, 0.6, 0.6])
    assert report.percentiles_ms()["p50"] == pytest.approx(600)
    assert report.percentiles_ms()["max"] == pytest.approx(600)


def test_a_limit_ends_the_stream_and_what_waits_then_counts_as_dropped() -> None:
    mailbox = Mailbox()

    def handle(arrival: Arrival) -> None:
        mailbox.put(frame(0))

    mailbox.put(frame(0))
    report = run_stream(mailbox, handle, limit=2)
    assert (report.received, len(report.latencies_s), report.dropped) == (3, 2, 1)
    assert not mailbox.put(frame(0))


def test_ctrl_c_ends_the_stream_but_not_the_report() -> None:
    mailbox = Mailbox()

    def handle(arrival: Arrival) -> None:
        if arrival.number == 2:
            raise KeyboardInterrupt
        mailbox.put(frame(0))

    mailbox.put(frame(0))
    report = run_stream(mailbox, handle)
    assert (report.received, len(report.latencies_s), report.dropped) == (2, 1, 1)


def test_a_pipe_is_read_to_its_end_and_every_frame_is_accounted_for() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (20, 8, 6), np.uint8)
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb", buffering=0) as stream:
            content = frames.tobytes()
            for start in range(0, len(content), 31):  # never a whole frame
                stream.write(content[start : start + 31])

    threading.Thread(target=write, daemon=True).start()
    mailbox, seen = Mailbox(), []
    with open(reading, "rb", buffering=0) as stream:
        thread = receive(pipe_frames(stream, 8, 6), mailbox)
        report = run_stream(mailbox, seen.append)
        thread.join()
    assert report.received == 20
    assert len(seen) + report.dropped == 20
    assert seen[-1].number == 20  # the newest is never dropped
    for arrival in seen:
        assert np.array_equal(arrival.pixels, frames[arrival.number - 1])
    assert report.failure == ""


def test_a_stream_that_ends_within_a_frame_keeps_what_was_predicted() -> None:
    mailbox, seen = Mailbox(), []
    receive(pipe_frames(io.BytesIO(bytes(10)), 2, 3), mailbox).join()
    report = run_stream(mailbox, seen.append)
    assert "ended within a frame" in report.failure
    assert len(report.latencies_s) == 1


def test_a_file_is_played_at_its_own_rate(tmp_path: Path, make_xa: MakeXa) -> None:
    path = tmp_path / "a.dcm"
    frames = np.arange(5 * 6, dtype=np.uint8).reshape(5, 2, 3)
    make_xa(frames, FrameTime=40).save_as(path)
    clock, waits = Clock(), []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock.now += seconds

    for index, pixels in enumerate(played_frames(path, clock=clock, sleep=sleep)):
        assert np.array_equal(pixels, frames[index])
        clock.now += {1: 0.1}.get(index, 0.011)  # the second takes longer than a frame
    # Due at 0, 40, 80, 120, 160 ms; from the third on, at 140, all come late.
    assert waits == pytest.approx([0.029])


@pytest.mark.parametrize("text", ["", "512", "ax3", "0x4", "12x"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(DataError):
        parse_size(text)


def test_a_size_is_width_before_height() -> None:
    assert parse_size("640x480") == (480, 640)
