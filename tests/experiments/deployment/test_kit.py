"""A kit as a hospital unpacks and reads it."""

import os
import re
import shutil
import stat
import subprocess
import tarfile
import tomllib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from clients.site_file import SiteFile
from experiments.deployment import kit
from experiments.deployment.kit import make_folder, pack_kit, toml_value, write_file
from experiments.deployment.provision import provision
from strategies.settings import SettingsError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):o}"


def unpacked(archive: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    subprocess.run(["tar", "-xzf", str(archive), "-C", str(folder)], check=True)
    return folder / archive.name.removesuffix(".tar.gz")


def start(folder: Path, script: str, **environment: str) -> tuple[int, str]:
    """Run a script of a kit with only these programs in reach."""
    programs = folder.parent / "bin"
    programs.mkdir()
    for name in ("sh", "sed", "grep", "chmod", "dirname", "sha256sum"):
        (programs / name).symlink_to(shutil.which(name) or name)
    write_file(programs / "id", b"#!/bin/sh\necho ${AS:-1234}\n", 0o755)
    if environment.pop("docker", ""):
        docker = programs / "docker"
        docker.write_text('#!/bin/sh\necho "docker $* as $ENDOFED_UID"\n')
        docker.chmod(0o755)
    done = subprocess.run(
        [f"./{script}"],
        cwd=folder,
        env={"PATH": str(programs), **environment},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def test_keys_and_folders_are_for_their_owner_only_whatever_the_umask(
    open_umask: None, provisioned: Path
) -> None:
    folders = [provisioned, *(p for p in provisioned.rglob("*") if p.is_dir())]
    assert {mode(path) for path in folders} == {"700"}
    keys = list(provisioned.rglob("*.key"))
    assert len(keys) == 4  # authority, server, two sites
    archives = list((provisioned / "kits").glob("*.tar.gz"))
    assert {mode(path) for path in [*keys, *archives]} == {"600"}
    scripts = list(provisioned.rglob("*.sh"))
    assert len(scripts) == 5
    assert {mode(path) for path in scripts} == {"755"}


def test_the_site_reads_its_own_file(provisioned: Path) -> None:
    site = SiteFile.read(provisioned / "sites" / "hillside" / "site.toml")
    assert (site.federation.name, site.name) == ("trial", "hillside")
    assert site.federation.address == "fl.example.org:8000"
    assert site.spec.classes == ("catheter",)
    assert site.limits.max_rounds_per_day == 200
    assert site.limits.settings["train.steps"].most == 100
    assert not site.limits.approves("0" * 64)
    other = SiteFile.read(provisioned / "sites" / "northgate" / "site.toml")
    assert (other.limits.min_patients, site.limits.min_patients) == (5, 3)


def test_the_file_with_every_comment_taken_for_a_setting_is_still_a_site_file(
    provisioned: Path,
) -> None:
    path = provisioned / "sites" / "northgate" / "site.toml"
    text, count = re.subn(r"(?m)^# ([a-z-]+ = \S)", r"\1", path.read_text())
    assert count == 3
    path.write_text(text)
    assert SiteFile.read(path).limits.models == ("sam-tiny", "fga-net-small")


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum")
def test_sha256sum_accepts_the_checksums_and_finds_a_change(
    provisioned: Path, tmp_path: Path
) -> None:
    command = ["sha256sum", "-c", "--strict"]
    archive = provisioned / "kits" / "hillside.tar.gz"
    checked = subprocess.run([*command, f"{archive.name}.sha256"], cwd=archive.parent)
    assert checked.returncode == 0
    folder = unpacked(archive, tmp_path / "site")
    said = subprocess.run(
        [*command, "SHA256SUMS"], cwd=folder, capture_output=True, text=True
    )
    assert said.returncode == 0
    files = {path.name for path in folder.iterdir()} - {"SHA256SUMS"}
    assert {line.split(":")[0] for line in said.stdout.splitlines()} == files
    with (folder / "ca.crt").open("a") as stream:
        stream.write(" ")
    assert subprocess.run([*command, "SHA256SUMS"], cwd=folder).returncode == 1


def test_an_archive_names_no_owner_and_no_time_and_keeps_the_modes(
    provisioned: Path, tmp_path: Path
) -> None:
    with tarfile.open(provisioned / "kits" / "hillside.tar.gz") as tar:
        entries = tar.getmembers()
    assert {(e.uid, e.gid, e.uname, e.gname) for e in entries} == {(0, 0, "", "")}
    assert len({entry.mtime for entry in entries}) == 1
    assert all(entry.isfile() or entry.name == "hillside" for entry in entries)
    folder = unpacked(provisioned / "kits" / "hillside.tar.gz", tmp_path / "site")
    for path in (provisioned / "sites" / "hillside").iterdir():
        assert mode(folder / path.name) == mode(path)
        assert (folder / path.name).read_bytes() == path.read_bytes()


def test_equal_kits_give_equal_archives(provisioned: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy" / "hillside"
    shutil.copytree(provisioned / "sites" / "hillside", folder)
    for number, path in enumerate(folder.iterdir()):
        os.utime(path, (number, number))
    pack_kit(folder, tmp_path / "hillside.tar.gz")
    before = (provisioned / "kits" / "hillside.tar.gz").read_bytes()
    assert (tmp_path / "hillside.tar.gz").read_bytes() == before


def test_no_kit_holds_a_key_of_somebody_else(provisioned: Path) -> None:
    secrets = {path: path.read_bytes() for path in provisioned.rglob("*.key")}
    for folder in (provisioned / "sites").iterdir():
        for path in folder.iterdir():
            held = {name for name, key in secrets.items() if key in path.read_bytes()}
            assert held <= {folder / "supernode.key"}


def test_start_says_what_is_missing_and_then_calls_docker(provisioned: Path) -> None:
    folder = provisioned / "sites" / "hillside"
    code, said = start(folder, "start.sh", docker="yes")
    assert code == 1
    assert "ENDOFED_DATA= in kit.env" in said
    shutil.rmtree(folder.parent / "bin")
    text = (folder / "kit.env").read_text()
    text = text.replace("ENDOFED_DATA=", f"ENDOFED_DATA={folder}")
    (folder / "kit.env").write_text(text)
    (folder / "supernode.key").chmod(0o644)
    code, said = start(folder, "start.sh", docker="yes")
    assert code == 0, said
    assert "up --detach supernode as 1234" in said
    assert mode(folder / "supernode.key") == "600"


def test_start_without_a_key_or_without_docker_says_what_to_do(
    provisioned: Path,
) -> None:
    folder = provisioned / "sites" / "hillside"
    code, said = start(folder, "start.sh", ENDOFED_DATA=str(folder))
    assert code == 1
    assert "endofed site start --kit ." in said
    shutil.rmtree(folder.parent / "bin")
    (folder / "supernode.key").unlink()
    code, said = start(folder, "start.sh", docker="yes")
    assert code == 1
    assert "supernode.key is missing" in said


def test_no_container_is_started_as_root_but_as_who_called_sudo(
    provisioned: Path,
) -> None:
    folder = provisioned / "server"
    code, said = start(folder, "start.sh", docker="yes", AS="0")
    assert code == 1
    assert "must not run as root" in said
    shutil.rmtree(folder.parent / "bin")
    sudo = {"AS": "0", "SUDO_UID": "1001", "SUDO_GID": "1001"}
    code, said = start(folder, "start.sh", docker="yes", **sudo)
    assert code == 0, said
    assert "--file compose.server.yaml up --detach as 1001" in said


def test_check_lets_the_site_change_its_own_files_and_no_other(
    provisioned: Path,
) -> None:
    folder = provisioned / "sites" / "hillside"
    for name in ("kit.env", "site.toml"):
        with (folder / name).open("a") as stream:
            stream.write("# ours\n")
    code, said = start(folder, "check.sh", docker="yes")
    assert code == 0, said
    assert "supernode site check --kit /kit" in said
    shutil.rmtree(folder.parent / "bin")
    with (folder / "compose.site.yaml").open("a") as stream:
        stream.write("# theirs\n")
    code, said = start(folder, "check.sh", docker="yes")
    assert code == 1
    assert "not what was sent" in said


def test_the_compose_files_of_this_repository_get_all_that_they_ask_for(
    provisioned: Path,
) -> None:
    for name, folder, env in (
        (kit.SITE_COMPOSE, "sites/hillside", "kit.env"),
        (kit.SERVER_COMPOSE, "server", "federation.env"),
    ):
        asked = (ROOT / "docker" / name).read_text().split("${")[1:]
        needed = {one.split(":?")[0] for one in asked if ":?" in one.split("}")[0]}
        lines = (provisioned / folder / env).read_text().splitlines()
        assert needed <= {line.split("=")[0] for line in lines}


def test_without_the_compose_files_it_is_said_what_is_missing(
    tmp_path: Path,
    federation_text: str,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kit, "COMPOSE_FOLDER", tmp_path)
    with pytest.raises(SettingsError, match=r"compose\.server\.yaml is missing"):
        provision(federation_text, tmp_path / "out", now)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "value",
    [
        True,
        3,
        1e-05,
        'a "b" \\ \n \x7f é',
        ["a", 1.5],
        {"max": 3, "a b": {"c.d": [1]}},
        {},
        [],
    ],
)
def test_every_value_is_read_back_from_toml_as_it_was(value: object) -> None:
    text = toml_value(value)
    assert "\n" not in text
    assert tomllib.loads(f"v = {text}") == {"v": value}


def test_a_file_that_exists_is_never_written_over(tmp_path: Path) -> None:
    make_folder(tmp_path / "new")
    write_file(tmp_path / "new" / "file", b"first", 0o600)
    with pytest.raises(FileExistsError):
        write_file(tmp_path / "new" / "file", b"second", 0o600)
    assert (tmp_path / "new" / "file").read_bytes() == b"first"
