"""Prepared once, whoever asks and whatever happens meanwhile.

Processes are real ones, and die by SIGKILL.
"""

import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from clients.data import cache
from clients.data.cache_layout import bytes_needed
from clients.data.cache_room import Usage, clear, usage
from clients.data.errors import DataError
from clients.data.store import PreparedFrame, StoredFrames

ROOT = Path(__file__).resolve().parents[2]
SIZE, PLENTY = 8, 10**8

PROCESS = """
import sys, time
from pathlib import Path
import numpy as np
from clients.data import cache
from clients.data.store import PreparedFrame

folder, gate, log, stop_at = map(Path, sys.argv[1:])

def task(number):
    def prepare():
        with open(log, "a") as stream:
            stream.write(f"{number}\\n")
        if number == int(stop_at.name):
            time.sleep(60)
        time.sleep(0.01)
        return PreparedFrame(
            np.full((8, 8), number / 100, np.float32), np.zeros((1, 8, 8), np.uint8),
            np.array([True]), np.ones((8, 8), np.bool_), number, number)
    return prepare

print("ready", flush=True)
while not gate.exists():
    time.sleep(0.005)
frames = cache.load_or_build(folder, "key", [task(n) for n in range(20)],
                             size=8, num_classes=1, limit_bytes=10**8)
print(frames.digest(), flush=True)
sys.stdin.read()  # holds the frames until it is told to end
"""


class Builder(NamedTuple):
    """Builds entries of flat frames and counts the calls of their tasks."""

    folder: Path
    calls: list[int]

    def __call__(
        self, key: str = "key", count: int = 3, limit: int = PLENTY
    ) -> StoredFrames:
        return self.run([self.task(number) for number in range(count)], key, limit)

    def run(
        self, tasks: list[cache.Task], key: str = "key", limit: int = PLENTY
    ) -> StoredFrames:
        return cache.load_or_build(
            self.folder, key, tasks, size=SIZE, num_classes=1, limit_bytes=limit
        )

    def task(self, number: int) -> cache.Task:
        def prepare() -> PreparedFrame:
            self.calls.append(number)
            return flat(number)

        return prepare

    def names(self) -> list[str]:
        """What lies in the folder, but for locks."""
        found = (path.name for path in self.folder.iterdir())
        return sorted(name for name in found if not name.endswith(".lock"))


def flat(number: int) -> PreparedFrame:
    return PreparedFrame(
        image=np.full((SIZE, SIZE), number % 100 / 100, np.float32),
        masks=np.zeros((1, SIZE, SIZE), np.uint8),
        annotated=np.array([True]),
        valid=np.ones((SIZE, SIZE), np.bool_),
        sequence=number,
        patient=number,
    )


@pytest.fixture
def build(tmp_path: Path) -> Builder:
    return Builder(tmp_path / "cache", [])


def limit_for(build: Builder, *, to_remove: int) -> int:
    """The limit at which one more entry of three frames makes so many others go."""
    entries = usage(build.folder)
    kept = entries.num_bytes * (1 - to_remove / max(entries.num_entries, 1))
    return int(kept) + bytes_needed(3, size=SIZE, num_classes=1)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Return a starter of processes that want the entry `key`."""
    started, paths = [], (tmp_path / "gate", tmp_path / "log")

    def begin(folder: Path, *, stop_at: int = -1) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", PROCESS, folder, *paths, str(stop_at)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def set_used(build: Builder, key: str, seconds: int) -> None:
    os.utime(build.folder / key / "used", (seconds, seconds))


def test_frames_keep_the_order_of_their_tasks_without_those_left_out(
    build: Builder,
) -> None:
    tasks = [build.task(number) for number in range(30)]
    tasks[4] = tasks[17] = lambda: None
    frames = build.run(tasks)
    kept = [number for number in range(30) if number not in (4, 17)]
    assert frames.sequences.tolist() == kept
    shown = frames.subset(torch.arange(28)).images[:, 0, 0, 0]
    assert shown.tolist() == pytest.approx([number / 100 for number in kept], abs=1e-5)


def test_the_second_time_no_task_is_called(build: Builder) -> None:
    first = build().digest()
    assert sorted(build.calls) == [0, 1, 2]
    assert build().digest() == first
    assert len(build.calls) == 3


def test_another_key_is_another_entry(build: Builder) -> None:
    assert len(build("one", 2)) == 2
    assert len(build("two", 3)) == 3
    assert len(build("one", 9)) == 2  # what a key stands for is the caller's promise
    assert build.names() == ["one", "two"]


def test_of_two_processes_that_want_an_entry_one_builds_it(
    build: Builder, start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    both = [start(build.folder), start(build.folder)]
    assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
    (tmp_path / "gate").touch()
    digests = {process.stdout.readline() for process in both}
    called = (tmp_path / "log").read_text().split()
    assert sorted(map(int, called)) == list(range(20))
    assert digests == {build(count=20).digest() + "\n"}
    assert build.calls == []


def test_a_killed_builder_leaves_no_entry_and_the_next_one_builds_it(
    build: Builder, start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    (tmp_path / "gate").touch()
    builder = start(build.folder, stop_at=15)
    log = tmp_path / "log"
    while not (log.exists() and "15" in log.read_text().split()):
        time.sleep(0.01)
    builder.kill()
    builder.wait()
    assert build.names() == ["key.partial"]
    assert len(build(count=20)) == 20
    assert sorted(build.calls) == list(range(20))
    assert build.names() == ["key"]


def test_an_entry_belongs_to_a_process_until_it_dies(
    build: Builder, start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    (tmp_path / "gate").touch()
    holder = start(build.folder)
    lines = [holder.stdout.readline(), holder.stdout.readline()]
    assert len(lines[1].strip()) == 64
    assert clear(build.folder).num_entries == 1
    holder.kill()
    holder.wait()
    assert clear(build.folder) == Usage(0, 0)
    assert build.names() == []


def test_of_two_threads_the_second_builds_what_the_first_failed_to(
    build: Builder,
) -> None:
    is_first_inside = threading.Event()

    def fail() -> PreparedFrame:
        is_first_inside.set()
        time.sleep(0.05)
        raise DataError("Frame 1 is damaged.")

    with ThreadPoolExecutor(2) as pool:
        failing = pool.submit(build.run, [fail])
        assert is_first_inside.wait(10)
        frames = pool.submit(build).result()
        assert str(failing.exception()) == "Frame 1 is damaged."
    assert len(frames) == 3


def test_what_dead_builders_of_any_key_left_is_swept(build: Builder) -> None:
    for name in ("key.partial", "old.partial", "older.removed"):
        (build.folder / name).mkdir(parents=True)
        (build.folder / name / "images.npy").write_bytes(b"x" * 100)
        (build.folder / name / "of an older version").touch()
    (build.folder / "oldest.lock").touch()
    build()
    assert build.names() == ["key"]
    assert not (build.folder / "oldest.lock").exists()
    assert not (build.folder / "key" / "of an older version").exists()


@pytest.mark.parametrize("kind", [DataError, KeyError, KeyboardInterrupt])
def test_the_error_of_a_task_comes_through_and_leaves_nothing(
    build: Builder, kind: type[BaseException]
) -> None:
    error = kind("said by the task")

    def fail() -> PreparedFrame:
        raise error

    tasks = [build.task(number) for number in range(200)]
    with pytest.raises(kind) as caught:
        build.run([*tasks[:5], fail, *tasks[5:]])
    assert caught.value is error
    assert len(build.calls) < 100  # the rest was not even begun
    assert build.names() == []
    assert len(build()) == 3


def test_few_frames_are_prepared_ahead_of_a_slow_one(build: Builder) -> None:
    ahead: list[int] = []

    def slow() -> PreparedFrame:
        threading.Event().wait(0.2)  # never set
        ahead.extend(build.calls)
        return flat(0)

    build.run([slow, *(build.task(number) for number in range(1, 100))])
    assert len(ahead) <= 2 * cache.MAX_THREADS


def test_the_least_recently_used_entry_makes_room(build: Builder) -> None:
    for number, key in enumerate("abc"):
        build(key)
        set_used(build, key, 1000 + number)
    build("a")  # now the latest
    build("d", limit=limit_for(build, to_remove=1))
    assert build.names() == ["a", "c", "d"]


def test_no_more_goes_than_has_to(build: Builder) -> None:
    for key in "abc":
        build(key)
    build("d", limit=limit_for(build, to_remove=0))
    assert build.names() == ["a", "b", "c", "d"]


def test_an_entry_in_use_is_never_removed(build: Builder) -> None:
    held = build("a")
    set_used(build, "a", 1000)
    build("b")
    build("c", limit=limit_for(build, to_remove=1))
    assert build.names() == ["a", "c"]
    assert float(held.subset(torch.tensor([2])).images.max()) > 0


def test_if_too_much_is_in_use_nothing_is_removed(build: Builder) -> None:
    held = [build("a"), build("b")]
    build("c")
    build.calls.clear()
    with pytest.raises(DataError, match="in use") as caught:
        build("d", limit=limit_for(build, to_remove=2))
    assert "$ENDOFED_CACHE_GB" in str(caught.value)
    assert build.names() == ["a", "b", "c"]
    assert build.calls == []
    assert len(held) == 2


def test_an_entry_larger_than_the_limit_is_refused_before_any_work(
    build: Builder,
) -> None:
    build("a")
    build.calls.clear()
    with pytest.raises(DataError) as caught:
        build("b", limit=bytes_needed(3, size=SIZE, num_classes=1) - 1)
    assert "$ENDOFED_CACHE_GB" in str(caught.value)
    assert "data.frame-size" in str(caught.value)
    assert build.names() == ["a"]
    assert build.calls == []


def test_a_disk_that_is_nearly_full_is_noticed_before_any_work(
    build: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = shutil.disk_usage(ROOT)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: few)
    with pytest.raises(DataError, match=r"0\.00 GiB are free"):
        build()
    assert build.calls == []


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """The kernel refuses to write beyond this, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_meanwhile_is_one_clear_error(build: Builder) -> None:
    with pytest.raises(DataError, match="disk of the frame cache is full"):
        with largest_file(30_000):
            build(count=1000)
    assert build.names() == []
    assert len(build(count=1000)) == 1000


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def claim_more_frames(path: Path) -> None:
    path.write_text(path.read_text().replace('"frames": 3', '"frames": 4'))


def claim_another_format(path: Path) -> None:
    path.write_text(path.read_text().replace('"format": 1', '"format": 0'))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("images.npy", cut),
        ("images.npy", Path.unlink),
        ("labels.npy", cut),
        ("sequences.npy", change_a_byte),
        ("patients.npy", change_a_byte),
        ("annotated.npy", change_a_byte),
        ("digests.npy", change_a_byte),
        ("index.json", cut),
        ("index.json", Path.unlink),
        ("index.json", claim_more_frames),
        ("index.json", claim_another_format),
        ("used", Path.unlink),
    ],
)
def test_a_damaged_entry_is_built_again(
    build: Builder, name: str, damage: Callable[[Path], None]
) -> None:
    digest = build().digest()
    damage(build.folder / "key" / name)
    build.calls.clear()
    assert build().digest() == digest
    assert sorted(build.calls) == [0, 1, 2]
    assert build().digest() == digest
    assert len(build.calls) == 3


def test_nobody_else_can_enter_what_the_cache_makes(build: Builder) -> None:
    build()
    for path in (build.folder, build.folder / "key"):
        assert path.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_was_there_keeps_its_permissions(build: Builder) -> None:
    build.folder.mkdir(mode=0o755)
    build()
    assert build.folder.stat().st_mode & 0o777 == 0o755
    assert (build.folder / "key").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("key", ["", "..", "a/b", "a.partial", "ä", "a" * 129, "a\n"])
def test_a_key_that_is_no_digest_is_refused(build: Builder, key: str) -> None:
    with pytest.raises(DataError, match="key"):
        build(key)
    assert not build.folder.exists()


@pytest.mark.parametrize("tasks", [[], [lambda: None, lambda: None]])
def test_an_entry_without_a_frame_is_an_error(
    build: Builder, tasks: list[cache.Task]
) -> None:
    with pytest.raises(DataError, match="No frame is left"):
        build.run(tasks)
    assert build.names() == []


def test_a_place_that_cannot_be_used_is_not_named(tmp_path: Path) -> None:
    (tmp_path / "DOE_JANE").touch()  # a file where a folder should be
    folder = tmp_path / "DOE_JANE" / "cache"
    for act in (Builder(folder, []), lambda: StoredFrames.open(folder / "key")):
        with pytest.raises(DataError) as caught:
            act()
        assert "JANE" not in str(caught.value)


def test_usage_counts_entries_and_bytes(build: Builder) -> None:
    assert usage(build.folder) == Usage(0, 0)
    build("a")
    build("b")
    on_disk = sum(
        path.stat().st_size for path in build.folder.glob("*/*") if path.is_file()
    )
    assert usage(build.folder) == Usage(2, on_disk)


def test_clearing_leaves_what_is_not_the_caches_own(build: Builder) -> None:
    build()
    for name in ("notes", "notes.removed.txt"):
        (build.folder / name).mkdir()
        (build.folder / name / "file").touch()
    (build.folder / "letter.txt").touch()
    assert clear(build.folder) == Usage(0, 0)
    assert build.names() == ["letter.txt", "notes", "notes.removed.txt"]
    assert clear(build.folder / "nowhere") == Usage(0, 0)
