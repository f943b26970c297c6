"""Listing folders that no tidy person made."""

import os
import socket
from pathlib import Path

import pytest

from clients.data.catalogue import Severity
from clients.data.listing import Listing, list_files


def names(listing: Listing) -> list[str]:
    return [file.relative.as_posix() for file in listing.files]


def plant(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(path.encode())


def test_files_of_all_depths_come_in_sorted_order(tmp_path: Path) -> None:
    plant(tmp_path, "b/c/d.png", "b.png", "a.png", "b/a.png", "B.png")
    found = list_files(tmp_path)
    assert names(found) == ["B.png", "a.png", "b/a.png", "b/c/d.png", "b.png"]
    assert found.files[1].size == 5
    assert found.files[1].path.read_bytes() == b"a.png"
    assert found.problems(Severity.ERROR) == []


def test_what_is_hidden_or_left_behind_is_passed_over(tmp_path: Path) -> None:
    plant(tmp_path, "._a.png", ".hidden/a.png", "Thumbs.db", "__MACOSX/a.png")
    plant(tmp_path, "DICOMDIR", "cache/CACHEDIR.TAG", "cache/a.npy", "a.png")
    assert names(list_files(tmp_path)) == ["a.png"]


def test_a_link_to_the_folder_above_is_a_circle_and_does_not_hang(
    tmp_path: Path,
) -> None:
    plant(tmp_path, "images/a.png")
    (tmp_path / "images" / "again").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    found = list_files(tmp_path)
    assert names(found) == ["images/a.png"]
    (problem,) = found.problems(Severity.ERROR)
    assert problem.severity is Severity.WARNING
    assert problem.what.startswith("2 link(s) lead back")


def test_a_folder_is_read_once_and_by_its_own_name(tmp_path: Path) -> None:
    plant(tmp_path, "z/a.png")
    (tmp_path / "first").symlink_to(tmp_path / "z")
    found = list_files(tmp_path)
    assert names(found) == ["z/a.png"] and found.repeated == 1


def test_links_to_files_and_folders_elsewhere_are_followed(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    plant(elsewhere, "p1/a.png", "b.png")
    (tmp_path / "patient").symlink_to(elsewhere / "p1")
    (tmp_path / "b.png").symlink_to(elsewhere / "b.png")
    assert names(list_files(tmp_path)) == ["b.png", "patient/a.png"]


def test_a_link_to_nothing_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    found = list_files(tmp_path)
    assert names(found) == []
    (problem,) = found.problems(Severity.ERROR)
    assert problem.severity is Severity.ERROR and "lead to nothing" in problem.what


def test_pipes_and_sockets_are_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "b.png"))
        assert names(list_files(tmp_path)) == []


def test_names_in_other_alphabets_and_in_no_alphabet_are_listed(
    tmp_path: Path,
) -> None:
    plant(tmp_path, "影像/Müller_01.png")
    broken = os.path.join(os.fsencode(tmp_path), b"M\xfcller.png")
    with open(broken, "wb") as stream:
        stream.write(b"x")
    found = list_files(tmp_path)
    assert [os.fsencode(file.relative) for file in found.files] == [
        b"M\xfcller.png",
        "影像/Müller_01.png".encode(),
    ]


def test_a_closed_folder_is_counted(tmp_path: Path) -> None:
    plant(tmp_path, "closed/a.png", "b.png")
    (tmp_path / "closed").chmod(0)
    if os.access(tmp_path / "closed", os.R_OK):
        pytest.skip("nothing is closed to this user (root?); see the next test")
    try:
        found = list_files(tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert names(found) == ["b.png"] and found.closed == 1


def test_a_folder_that_the_system_refuses_to_open_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path, "DOE/a.png", "b.png")
    scan = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "DOE":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = list_files(tmp_path)
    assert names(found) == ["b.png"]
    (problem,) = found.problems(Severity.WARNING)
    assert problem.severity is Severity.WARNING
    assert "1 file(s) or folder(s) may not be opened" in problem.what
    assert "DOE" not in problem.what
