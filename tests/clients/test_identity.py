"""Pseudonyms that differ between sites, and the key behind them."""

import base64
import hashlib
import hmac
import os
import stat
import threading
from pathlib import Path

import pytest

from clients.data import identity
from clients.data.errors import DataError
from clients.data.identity import SiteKey, patient_token

KEY = SiteKey(bytes(range(32)))
OTHER = SiteKey(bytes(32))


def test_a_pseudonym_is_the_start_of_an_hmac_in_base32() -> None:
    expected = hmac.new(bytes(range(32)), b"patient\0DOE^JANE", hashlib.sha256)
    text = base64.b32encode(expected.digest()).decode()
    assert KEY.patient_id("DOE^JANE") == f"P-{text[:10]}"


def test_pseudonyms_differ_between_keys_names_and_purposes() -> None:
    assert KEY.patient_id("A") == SiteKey(bytes(range(32))).patient_id("A")
    ids = [
        *(key.patient_id(name)[2:] for key in (KEY, OTHER) for name in ("A", "B")),
        *(key.sequence_id(name)[2:] for key in (KEY, OTHER) for name in ("A", "B")),
    ]
    assert len(set(ids)) == 8
    assert KEY.sequence_id("A").startswith("S-")


def test_the_key_is_not_shown_by_its_own_text() -> None:
    assert repr(KEY) == "SiteKey()"


def test_names_that_are_no_text_have_a_pseudonym() -> None:
    broken = os.fsdecode(b"M\xfcller")
    assert KEY.patient_id(broken) != KEY.patient_id("Müller")
    assert patient_token(broken) != patient_token("Müller")


def test_the_token_is_the_start_of_sha_256_and_knows_no_key() -> None:
    digest = hashlib.sha256(b"DOE^JANE").hexdigest()
    assert patient_token("DOE^JANE") == int(digest[:16], 16) // 2
    assert 0 <= patient_token("") < 2**63


def test_a_new_key_is_private_and_stays_the_same(tmp_path: Path) -> None:
    path = tmp_path / "home" / "site.key"
    first = SiteKey.load_or_create(path)
    assert SiteKey.load_or_create(path) == first
    assert path.read_bytes() == first.secret and len(first.secret) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert SiteKey.load_or_create(tmp_path / "another.key") != first


def test_the_key_lies_where_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENDOFED_KEY", str(tmp_path / "my.key"))
    assert SiteKey.load_or_create().secret == (tmp_path / "my.key").read_bytes()


def test_without_the_variable_the_key_lies_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ENDOFED_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    made = SiteKey.load_or_create()
    assert (tmp_path / ".endofed" / "site.key").read_bytes() == made.secret


def test_all_who_create_the_key_at_once_get_the_same(tmp_path: Path) -> None:
    start, found = threading.Barrier(8), []

    def create() -> None:
        start.wait()
        found.append(SiteKey.load_or_create(tmp_path / "site.key").secret)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1


def test_a_key_that_is_still_being_written_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "site.key"
    path.touch(mode=0o600)
    monkeypatch.setattr(
        identity.time, "sleep", lambda _: path.write_bytes(bytes(range(32)))
    )
    assert SiteKey.load_or_create(path) == KEY


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_size_is_refused(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "WAIT_S", 0.0)
    path = tmp_path / "DOE.key"
    path.write_bytes(bytes(size))
    path.chmod(0o600)
    with pytest.raises(DataError, match=f"32 bytes, got {size}.*delete") as caught:
        SiteKey.load_or_create(path)
    assert "DOE" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_may_read_or_change_is_refused(
    mode: int, tmp_path: Path
) -> None:
    path = tmp_path / "DOE.key"
    SiteKey.load_or_create(path)
    path.chmod(mode)
    with pytest.raises(DataError, match="chmod 600") as caught:
        SiteKey.load_or_create(path)
    assert "DOE" not in str(caught.value)


def test_a_key_that_cannot_be_made_is_an_error_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "DOE").write_text("a file, no folder")
    with pytest.raises(DataError, match="ENDOFED_KEY") as caught:
        SiteKey.load_or_create(tmp_path / "DOE" / "site.key")
    assert "DOE" not in str(caught.value)
    assert caught.value.__suppress_context__
