"""A SuperNode is started from a kit that nobody has to write into."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.common.config import parse_config_args

from clients.data.errors import DataError
from clients.site_file import SiteFile
from experiments.deployment import fab_gate
from experiments.deployment.supernode import (
    run_supernode,
    site_environment,
    supernode_command,
)
from tests.clients.site_kit import write_site_file


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    kit = tmp_path / "kit"
    write_site_file(kit, machine={"state": str(tmp_path / "state")})
    (kit / "ca.crt").write_text("certificate")
    (kit / "supernode.key").touch(0o600)
    return kit


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """Put a program into the place of Flower's that notes how it was started."""
    started: list[list[str]] = []
    environment = dict(os.environ)

    def flower_supernode() -> None:
        started.append(list(sys.argv))
        sys.exit(1)

    monkeypatch.setattr(fab_gate, "require_known_flower", lambda: None)
    monkeypatch.setattr(fab_gate.program, "flower_supernode", flower_supernode)
    yield started
    os.environ.clear()
    os.environ.update(environment)


def test_flower_is_told_where_to_connect_and_where_its_site_file_is(kit: Path) -> None:
    command = supernode_command(kit, SiteFile.read(kit / "site.toml"), 4321, "process")
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--superlink"] == "fl.example.org:8000"
    assert (options["--host"], options["--port"]) == ("127.0.0.1", "4321")
    assert options["--isolation"] == "process"
    assert "--insecure" not in command
    assert parse_config_args([options["--node-config"]]) == {
        "site-file": str(kit / "site.toml")
    }


@pytest.mark.parametrize("folder", ["the kit", "k=v", "ü"])
def test_a_kit_may_have_any_usual_path(kit: Path, folder: str) -> None:
    moved = kit.rename(kit.parent / folder)
    command = supernode_command(
        moved, SiteFile.read(moved / "site.toml"), 1, "subprocess"
    )
    config = parse_config_args([command[command.index("--node-config") + 1]])
    assert config == {"site-file": str(moved / "site.toml")}


def test_a_path_that_flower_cannot_be_given_is_refused(kit: Path) -> None:
    moved = kit.rename(kit.parent / 'a"b')
    with pytest.raises(DataError, match="without quotes"):
        run_supernode(moved)


def test_flowers_exit_code_is_handed_on_and_its_arguments_are_taken_back(
    kit: Path, started: list[list[str]]
) -> None:
    before = list(sys.argv)
    assert run_supernode(kit, port=4321, arguments=["--max-retries", "2"]) == 1
    assert sys.argv == before
    assert started[0][-2:] == ["--max-retries", "2"]
    assert os.environ["FLWR_TELEMETRY_ENABLED"] == "0"


def test_all_that_is_written_goes_into_the_state_folder(
    kit: Path, started: list[list[str]], tmp_path: Path
) -> None:
    before = sorted(path.name for path in kit.iterdir())
    for file in kit.iterdir():
        file.chmod(0o400)
    kit.chmod(0o500)
    run_supernode(kit)
    kit.chmod(0o700)
    assert sorted(path.name for path in kit.iterdir()) == before
    state = str(tmp_path / "state")
    for name in ("FLWR_HOME", "ENDOFED_KEY", "ENDOFED_CACHE", "XDG_CACHE_HOME"):
        assert os.environ[name].startswith(state)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_flowers_programs_are_found_beside_this_python() -> None:
    first = site_environment(Path("/state"))["PATH"].split(os.pathsep)[0]
    assert (Path(first) / "flower-superexec").exists()


@pytest.mark.parametrize("name", ["ca.crt", "supernode.key"])
def test_an_incomplete_kit_is_said_so(kit: Path, name: str) -> None:
    (kit / name).unlink()
    with pytest.raises(DataError, match=f"The kit lacks {name}") as caught:
        run_supernode(kit)
    assert str(kit) not in str(caught.value)


def test_a_key_that_others_may_read_is_not_used(kit: Path) -> None:
    (kit / "supernode.key").chmod(0o644)
    with pytest.raises(DataError, match="chmod 600"):
        run_supernode(kit)


def test_a_state_folder_that_cannot_be_made_is_said_before_connecting(
    kit: Path, tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(DataError, match="`state`"):
        run_supernode(kit)


@pytest.mark.parametrize(
    ("apps", "words"), [(["any"], "whatever code"), ([], "No app is approved yet")]
)
def test_a_site_that_approved_everything_or_nothing_is_told_at_the_start(
    kit: Path,
    started: list[list[str]],
    caplog: pytest.LogCaptureFixture,
    apps: list[str],
    words: str,
) -> None:
    write_site_file(
        kit,
        machine={"state": str(kit.parent / "state")},
        limits={"apps": apps},
    )
    with caplog.at_level("WARNING", logger="flwr"):
        run_supernode(kit)
    assert words in caplog.text


def test_with_a_flower_that_the_gate_does_not_know_nothing_starts(
    kit: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise fab_gate.GateError("another version")

    monkeypatch.setattr(fab_gate, "require_known_flower", refuse)
    assert run_supernode(kit) == 1
    assert not started
