"""Files that are no documents end in one sentence, whatever they are."""

import errno
from pathlib import Path

import pytest

from clients.annotations import documents
from clients.annotations.documents import image_stem, read_json, whole_number
from clients.data.errors import DataError

BYTES = {
    "nothing": b"",
    "half an object": b'{"SECRET": [1, 2',
    "no text": bytes(range(256)),
    "text in an unknown encoding": '{"SECRET": "ü"}'.encode("latin-1"),
    "nested without end": b'{"SECRET":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a number without end": b'{"SECRET": ' + b"9" * 10_000 + b"}",
    "two objects": b"{}{}",
}


@pytest.mark.parametrize("stored", BYTES.values(), ids=BYTES.keys())
def test_what_is_no_json_is_refused_without_a_quote(
    tmp_path: Path, stored: bytes
) -> None:
    path = tmp_path / "SECRET.json"
    path.write_bytes(stored)

    with pytest.raises(DataError, match="no valid JSON") as caught:
        read_json(path)

    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_what_cannot_be_opened_says_so_without_its_path(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(DataError, match="cannot be opened") as caught:
        read_json(tmp_path / name)

    assert str(tmp_path) not in str(caught.value)


def test_a_file_that_may_not_be_read_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    path.write_text("{}")

    def refuse(path: Path) -> bytes:  # root, as in a container, may read everything
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)

    with pytest.raises(DataError, match="this program's user may read it") as caught:
        read_json(path)

    assert str(tmp_path) not in str(caught.value)


def test_a_file_that_would_fill_the_memory_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as stream:  # sparse: takes no space on disk
        stream.truncate(documents.MAX_BYTES + 1)

    with pytest.raises(DataError, match="at most 1 GiB"):
        read_json(path)


@pytest.mark.parametrize("value, number", [("7", 7), (7, 7), (7.0, 7), (" 7.0 ", 7)])
def test_whole_numbers_may_be_written_in_several_ways(
    value: object, number: int
) -> None:
    assert whole_number(value, "a number") == number


@pytest.mark.parametrize("value", [None, "x", "", 7.5, "nan", 10**400, True, [7]])
def test_other_values_are_no_whole_numbers(value: object) -> None:
    with pytest.raises(DataError, match="a number must be a whole number"):
        whole_number(value, "a number")


@pytest.mark.parametrize(
    "name, stem",
    [
        ("a.png", "a"),
        ("/x/y/a.b.dcm", "a.b"),
        ("C:\\x\\ä ö.PNG", "ä ö"),
        ("../a", "a"),
        ("", ""),
    ],
)
def test_the_stem_is_that_of_the_image_file(name: str, stem: str) -> None:
    assert image_stem(name) == stem
