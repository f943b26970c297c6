"""A provision and what may happen to it, without the command line."""

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from filelock import FileLock

from experiments.deployment import provision as provisioning
from experiments.deployment import provision_changes
from experiments.deployment.node_keys import make_node_key, read_public_key
from experiments.deployment.provision import provision
from experiments.deployment.provision_changes import (
    add_site,
    revoke_site,
    rotate_server,
    rotate_site,
)
from experiments.deployment.provision_state import ProvisionState, load_state
from strategies.settings import SettingsError

DAY = timedelta(days=1)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def certificate(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / name).read_bytes())


def fingerprint_of_kit(folder: Path, name: str) -> str:
    """What a hospital that unpacks the kit would prove itself with."""
    private = (folder / "sites" / name / "supernode.key").read_bytes()
    public = serialization.load_ssh_private_key(private, None).public_key()
    text = public.public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return read_public_key(text.decode()).fingerprint


def check_agreement(folder: Path) -> ProvisionState:
    """State, kits and the server's folder must tell one and the same story."""
    state = load_state(folder)
    assert load_state(folder / "server") == state
    public_keys = {
        path.stem: read_public_key(path.read_text()).public
        for path in (folder / "server" / "public-keys").iterdir()
    }
    assert public_keys == state.active_keys()
    names = sorted(state.active_keys())
    assert sorted(path.name for path in (folder / "sites").iterdir()) == names
    archives = sorted(path.name for path in (folder / "kits").glob("*.gz"))
    assert archives == [f"{name}.tar.gz" for name in names]
    for name in names:
        if not state.sites[name].own_key:
            assert fingerprint_of_kit(folder, name) == state.sites[name].fingerprint
    server = certificate(folder, "server/server.pem")
    assert int(state.server.serial, 16) == server.serial_number
    assert not list(folder.glob(".new-*"))
    return state


def test_state_kits_and_server_folder_agree(provisioned: Path, now: datetime) -> None:
    state = check_agreement(provisioned)
    assert list(state.sites) == ["hillside", "northgate"]
    assert state.server.expires == "2027-03-01T12:00:00Z"
    assert state.sites["hillside"].expires == state.authority.expires
    assert state.revoked_keys == ()
    assert (
        certificate(provisioned, "ca/ca.crt").not_valid_after_utc > now + 4 * 365 * DAY
    )
    for place in ("server", "sites/hillside", "sites/northgate"):
        trusted = certificate(provisioned, f"{place}/ca.crt")
        certificate(provisioned, "server/server.pem").verify_directly_issued_by(trusted)


def test_the_state_holds_no_secret(provisioned: Path) -> None:
    text = (provisioned / "state.json").read_text()
    assert "PRIVATE" not in text
    assert json.loads(text)["sites"]["hillside"]["own-key"] is False


def test_a_site_that_keeps_its_key_gets_a_kit_without_one(
    tmp_path: Path, federation_text: str, now: datetime
) -> None:
    own = make_node_key()
    text = federation_text.replace(
        'name = "northgate"', f'name = "northgate"\npublic-key = "{own.public} me@here"'
    )
    provision(text, tmp_path / "trial", now)
    state = check_agreement(tmp_path / "trial")
    assert state.sites["northgate"].own_key
    assert state.sites["northgate"].fingerprint == own.fingerprint
    folder = tmp_path / "trial" / "sites" / "northgate"
    assert not (folder / "supernode.key").exists()
    assert (folder / "supernode.pub").read_text() == f"{own.public} northgate\n"
    assert "supernode.key" not in (folder / "SHA256SUMS").read_text()
    assert "never left your site" in (folder / "READ_ME.txt").read_text()


def test_a_provision_is_never_written_over(
    provisioned: Path, federation_text: str, now: datetime
) -> None:
    before = contents(provisioned)
    with pytest.raises(SettingsError, match="exists and is not written over"):
        provision(federation_text, provisioned, now)
    assert contents(provisioned) == before


def test_an_empty_folder_may_be_taken_and_a_missing_parent_is_made(
    tmp_path: Path, federation_text: str, now: datetime
) -> None:
    (tmp_path / "empty").mkdir()
    provision(federation_text, tmp_path / "empty", now)
    provision(federation_text, tmp_path / "a" / "b", now)
    check_agreement(tmp_path / "empty")
    check_agreement(tmp_path / "a" / "b")


def test_what_fails_half_way_leaves_nothing_behind(
    tmp_path: Path,
    federation_text: str,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(provisioning, "pack_kit", full_disk)
    with pytest.raises(SettingsError, match="No space left on device"):
        provision(federation_text, tmp_path / "trial", now)
    assert list(tmp_path.iterdir()) == []


def test_rotating_a_site_makes_a_new_key_and_lists_the_old_one(
    provisioned: Path, now: datetime
) -> None:
    before = load_state(provisioned).sites
    untouched = contents(provisioned / "sites" / "northgate")
    rotate_site(provisioned, "hillside", "", now + DAY)
    state = check_agreement(provisioned)
    assert state.sites["hillside"].fingerprint != before["hillside"].fingerprint
    assert state.sites["hillside"].created == "2026-03-02T12:00:00Z"
    (revoked,) = state.revoked_keys
    assert revoked.public_key == before["hillside"].public_key
    assert (revoked.site, revoked.reason) == ("hillside", "rotated")
    assert contents(provisioned / "sites" / "northgate") == untouched


def test_rotating_the_server_keeps_the_authority_and_every_kit(
    provisioned: Path, now: datetime
) -> None:
    kits = contents(provisioned / "kits")
    old = certificate(provisioned, "server/server.pem")
    key = (provisioned / "server" / "server.key").read_bytes()
    rotate_server(provisioned, now + 300 * DAY)
    state = check_agreement(provisioned)
    new = certificate(provisioned, "server/server.pem")
    assert new.serial_number != old.serial_number
    assert new.not_valid_after_utc == now + 665 * DAY
    assert (provisioned / "server" / "server.key").read_bytes() != key
    assert (provisioned / "server" / "server.key").stat().st_mode & 0o777 == 0o600
    new.verify_directly_issued_by(certificate(provisioned, "sites/hillside/ca.crt"))
    assert contents(provisioned / "kits") == kits
    assert state.revoked_keys == ()


def test_a_name_that_is_added_to_the_file_gets_into_the_next_certificate(
    provisioned: Path, now: datetime
) -> None:
    path = provisioned / "federation.toml"
    path.write_text(path.read_text().replace('["10.0.0.5"]', '["10.0.0.6"]'))
    state = rotate_server(provisioned, now)
    assert "10.0.0.6" in state.server.names
    assert "10.0.0.5" not in state.server.names


def test_the_server_cannot_be_renewed_once_the_authority_has_expired(
    provisioned: Path, now: datetime
) -> None:
    before = contents(provisioned)
    with pytest.raises(SettingsError, match="authority has expired"):
        rotate_server(provisioned, now + 6 * 365 * DAY)
    assert contents(provisioned) == before


def test_a_revoked_site_loses_key_kit_and_archive(
    provisioned: Path, now: datetime
) -> None:
    key = load_state(provisioned).sites["northgate"].public_key
    revoke_site(provisioned, "northgate", now + DAY)
    state = check_agreement(provisioned)
    assert state.sites["northgate"].status == "revoked"
    assert list(state.active_keys()) == ["hillside"]
    assert [one.public_key for one in state.revoked_keys] == [key]
    assert not [name for name in contents(provisioned) if "northgate" in name]


def test_a_new_site_gets_its_kit_and_a_table_in_the_file(
    provisioned: Path, now: datetime
) -> None:
    add_site(provisioned, "harbour", "", now + DAY)
    own = make_node_key()
    add_site(provisioned, "island", own.public + " comment", now + DAY)
    state = check_agreement(provisioned)
    assert list(state.sites) == ["harbour", "hillside", "island", "northgate"]
    assert state.sites["island"].fingerprint == own.fingerprint
    assert (provisioned / "federation.toml").read_text().count("[[site]]") == 4


def test_a_new_site_is_made_as_its_table_in_the_file_says(
    provisioned: Path, now: datetime
) -> None:
    with (provisioned / "federation.toml").open("a") as stream:
        stream.write('\n[[site]]\nname = "harbour"\ncpus = 7\n')
    add_site(provisioned, "harbour", "", now)
    assert "cpus = 7" in (provisioned / "sites" / "harbour" / "site.toml").read_text()
    assert (provisioned / "federation.toml").read_text().count('"harbour"') == 1


def test_a_revoked_site_comes_back_with_another_key_only(
    provisioned: Path, now: datetime
) -> None:
    old = load_state(provisioned).sites["northgate"].public_key
    revoke_site(provisioned, "northgate", now)
    with pytest.raises(SettingsError, match="is or was that of 'northgate'"):
        add_site(provisioned, "northgate", old, now)
    add_site(provisioned, "northgate", "", now + DAY)
    state = check_agreement(provisioned)
    assert state.sites["northgate"].status == "active"
    assert state.sites["northgate"].public_key != old
    assert len(state.revoked_keys) == 1


def test_a_site_that_makes_its_keys_must_send_the_new_one(
    provisioned: Path, now: datetime
) -> None:
    add_site(provisioned, "island", make_node_key().public, now)
    with pytest.raises(SettingsError, match="Ask it for the public half"):
        rotate_site(provisioned, "island", "", now)
    new = make_node_key()
    rotate_site(provisioned, "island", new.public, now)
    assert check_agreement(provisioned).sites["island"].fingerprint == new.fingerprint


Change = Callable[[Path, datetime], object]
WRONG: dict[str, tuple[Change, str]] = {
    "rotate nobody": (lambda f, t: rotate_site(f, "hill", "", t), "no site 'hill'"),
    "revoke nobody": (lambda f, t: revoke_site(f, "hill", t), "only hillside, north"),
    "add twice": (
        lambda f, t: add_site(f, "hillside", "", t),
        "an active site already",
    ),
    "add in capitals": (lambda f, t: add_site(f, "HillSide", "", t), "capitals only"),
    "add outside": (lambda f, t: add_site(f, "../x", "", t), "must be 1 to 40 letters"),
    "add no key": (lambda f, t: add_site(f, "x", "ssh-rsa A", t), "must be one line"),
    "key of another": (
        lambda f, t: add_site(f, "x", load_state(f).sites["hillside"].public_key, t),
        "is or was that of 'hillside'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_change_that_cannot_be_made_changes_nothing(
    provisioned: Path, now: datetime, case: str
) -> None:
    change, said = WRONG[case]
    before = contents(provisioned)
    with pytest.raises(SettingsError, match=re.escape(said)):
        change(provisioned, now)
    assert contents(provisioned) == before


def test_a_site_is_revoked_once(provisioned: Path, now: datetime) -> None:
    revoke_site(provisioned, "hillside", now)
    for change in (
        lambda: revoke_site(provisioned, "hillside", now),
        lambda: rotate_site(provisioned, "hillside", "", now),
    ):
        with pytest.raises(SettingsError, match="is revoked"):
            change()
    check_agreement(provisioned)


def test_who_was_cut_off_rotates_again(
    provisioned: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = load_state(provisioned).sites["hillside"].public_key
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", cut_off)
        rotate_site(provisioned, "hillside", "", now)
    # The old key is out from the first moment on, whatever else was reached.
    assert old in {one.public_key for one in load_state(provisioned).revoked_keys}
    rotate_site(provisioned, "hillside", "", now)
    state = check_agreement(provisioned)
    assert old in {one.public_key for one in state.revoked_keys}


def cut_off(*_: object) -> None:
    raise KeyboardInterrupt


def test_two_changes_at_once_do_not_mix(
    provisioned: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provision_changes, "LOCK_TIMEOUT_S", 0.05)
    with (
        FileLock(provisioned / provision_changes.LOCK_FILE),
        pytest.raises(SettingsError, match="Another command is changing"),
    ):
        revoke_site(provisioned, "hillside", now)
    assert load_state(provisioned).sites["hillside"].status == "active"


def test_the_servers_folder_alone_can_be_read_but_not_changed(
    provisioned: Path, now: datetime
) -> None:
    assert load_state(provisioned / "server").name == "trial"
    with pytest.raises(SettingsError, match="not a whole provision"):
        revoke_site(provisioned / "server", "hillside", now)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"version": 2}', '{"version": 1, "name": 3}']
)
def test_a_damaged_state_is_told_in_words(provisioned: Path, text: str) -> None:
    (provisioned / "state.json").write_text(text)
    with pytest.raises(SettingsError, match="damaged or of another version"):
        load_state(provisioned)


def test_a_folder_that_is_no_provision_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no provisioned federation"):
        load_state(tmp_path)
