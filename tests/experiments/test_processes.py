"""Real processes, tiny ones: what carries the marker ends, nothing else does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from experiments import processes
from experiments.processes import ProcessFamily

SLEEP = "import time; time.sleep(60)"
ORPHAN = (  # starts a session of its own, as Ray and Flower do, and leaves it alone
    "import subprocess, sys; subprocess.Popen([sys.executable, '-c', "
    "'import time; time.sleep(60)'], start_new_session=True)"
)
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('ready', flush=True); time.sleep(60)"
)


@pytest.fixture
def family() -> Iterator[ProcessFamily]:
    family = ProcessFamily.new()
    yield family
    family.stop(0.1)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def start_member(
    family: ProcessFamily, code: str, log: Path
) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, **family.environment}
    return processes.start([sys.executable, "-c", code], environment, log)


def wait_for_members(family: ProcessFamily, count: int) -> list[psutil.Process]:
    given_up_at = time.monotonic() + 10
    while len(family.members()) != count and time.monotonic() < given_up_at:
        time.sleep(0.05)
    return family.members()


def test_a_process_that_lost_its_parent_is_found_and_ended(
    family: ProcessFamily, log: Path
) -> None:
    parent = start_member(family, ORPHAN, log)
    assert parent.wait(10) == 0
    (orphan,) = wait_for_members(family, 1)
    assert orphan.pid != parent.pid
    assert family.stop(5.0) == 0
    assert not orphan.is_running()
    assert family.members() == []


def test_a_process_that_ignores_the_request_to_end_is_killed(
    family: ProcessFamily, log: Path
) -> None:
    stubborn = start_member(family, STUBBORN, log)
    while not log.read_text():
        time.sleep(0.05)
    assert family.stop(0.3) == 0
    assert stubborn.poll() is not None
    assert stubborn.returncode in (-signal.SIGKILL, 0)  # 0: psutil has reaped it


def test_a_process_without_the_marker_is_left_alone(
    family: ProcessFamily, log: Path
) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", SLEEP])
    other_family = ProcessFamily.new()
    other = start_member(other_family, SLEEP, log)
    start_member(family, SLEEP, log)
    try:
        assert len(wait_for_members(family, 1)) == 1
        assert family.stop(5.0) == 0
        assert stranger.poll() is None
        assert other.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
        other_family.stop(5.0)


def test_a_child_that_hides_its_environment_is_a_member_through_its_parent(
    family: ProcessFamily, log: Path
) -> None:
    hides = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', "
        "'import time; time.sleep(60)'], env={}); time.sleep(60)"
    )
    parent = start_member(family, hides, log)
    members = wait_for_members(family, 2)
    assert members[0].pid == parent.pid
    parent.kill()
    parent.wait()
    assert [process.pid for process in family.members()] == [members[1].pid]
    assert family.stop(5.0) == 0


def test_a_dead_child_that_nobody_has_collected_is_no_member(
    family: ProcessFamily, log: Path
) -> None:
    process = start_member(family, "pass", log)
    given_up_at = time.monotonic() + 10
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < given_up_at
        time.sleep(0.05)
    assert family.members() == []
    process.wait()


def test_only_chosen_carriers_found_a_family_and_their_children_belong_to_it(
    log: Path,
) -> None:
    marked = ProcessFamily.new()
    picky = ProcessFamily(
        processes.MARKER,
        marked.environment[processes.MARKER],
        lambda process: "-u" in process.cmdline(),
    )
    environment = {**os.environ, **marked.environment}
    chosen = processes.start([sys.executable, "-u", "-c", SLEEP], environment, log)
    start_member(marked, SLEEP, log)
    try:
        assert len(wait_for_members(marked, 2)) == 2
        assert [process.pid for process in picky.members()] == [chosen.pid]
    finally:
        marked.stop(5.0)


def test_the_memory_of_a_family_holds_what_a_member_holds(
    family: ProcessFamily, log: Path
) -> None:
    holds = "import time; data = b'x' * (64 * 2**20); print(1, flush=True); "
    assert family.memory_mib() == 0.0
    start_member(family, holds + "time.sleep(60)", log)
    while not log.read_text():
        time.sleep(0.05)
    assert 64 < family.memory_mib() < 128


def test_a_program_is_known_by_the_file_name_of_its_script(
    family: ProcessFamily, log: Path, tmp_path: Path
) -> None:
    script = tmp_path / "flwr-simulation"
    script.write_text(SLEEP)
    environment = {**os.environ, **family.environment}
    assert not family.has_program("flwr-simulation")
    processes.start([sys.executable, str(script)], environment, log)
    wait_for_members(family, 1)
    given_up_at = time.monotonic() + 10
    while not family.has_program("flwr-simulation"):
        assert time.monotonic() < given_up_at
        time.sleep(0.05)
    assert not family.has_program("flwr")


def test_a_started_program_is_out_of_reach_of_ctrl_c_and_writes_to_its_log(
    family: ProcessFamily, log: Path
) -> None:
    log.write_text("before\n")
    process = start_member(
        family, "import sys; print(1); print(2, file=sys.stderr)", log
    )
    assert process.wait(10) == 0
    assert sorted(log.read_text().split()) == ["1", "2", "before"]
    sleeper = start_member(family, SLEEP, log)
    assert os.getpgid(sleeper.pid) != os.getpgid(0)


def test_a_program_that_takes_too_long_is_killed() -> None:
    started = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        processes.run([sys.executable, "-c", SLEEP], os.environ, timeout_s=0.2)
    assert time.monotonic() - started < 5


def test_output_and_exit_code_of_a_program_come_back() -> None:
    code = "import sys; print('yes'); sys.exit(3)"
    done = processes.run([sys.executable, "-c", code], os.environ, timeout_s=10)
    assert (done.stdout.strip(), done.returncode) == ("yes", 3)
