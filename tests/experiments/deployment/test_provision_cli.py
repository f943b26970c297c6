"""`endofed provision …` as the engineer at the centre meets it."""

from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from experiments.commands import provision as provision_cli
from experiments.commands.provision import provision_app
from experiments.deployment.node_keys import make_node_key
from experiments.deployment.provision_state import load_state
from tests.experiments.deployment.conftest import NOW

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def at_now(monkeypatch: pytest.MonkeyPatch) -> None:
    travel(monkeypatch, 0)


def travel(monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    monkeypatch.setattr(provision_cli, "_now", lambda: NOW + days * DAY)


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(provision_app, list(map(str, arguments)))


@pytest.fixture
def file(tmp_path: Path, federation_text: str) -> Path:
    path = tmp_path / "federation.toml"
    path.write_text(federation_text)
    return path


@pytest.mark.parametrize("word", [[], ["create"]])
def test_a_file_is_enough_and_create_may_be_said(
    file: Path, tmp_path: Path, word: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*word, file)
    assert result.exit_code == 0, result.output
    fingerprint = load_state(tmp_path / "trial").sites["hillside"].fingerprint
    assert fingerprint in result.stdout
    assert "trial/kits" in result.stdout


def test_options_may_stand_before_the_file(file: Path, tmp_path: Path) -> None:
    result = call("--output", tmp_path / "out", file)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "state.json").is_file()


def test_help_names_every_subcommand() -> None:
    said = call("--help").output
    for word in ("create", "status", "rotate", "revoke", "add"):
        assert word in said


def test_all_mistakes_of_a_file_come_at_once_with_exit_code_2(
    file: Path, tmp_path: Path
) -> None:
    file.write_text(file.read_text().replace("hillside", "a b") + "gpu = 1\n")
    result = call(file, "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert "site 1: name must be" in result.stderr
    assert "[limits]: unknown key 'gpu'" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [("nowhere.toml",), ("status", "nowhere"), ("revoke", "nowhere", "hillside")],
)
def test_what_is_not_there_gives_exit_code_2(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert result.exit_code == 2
    assert "nowhere" in result.stderr
    assert not isinstance(result.exception, OSError)


def test_status_shows_every_site_and_the_days_that_are_left(provisioned: Path) -> None:
    assert call("revoke", provisioned, "northgate").exit_code == 0
    result = call("status", provisioned)
    assert result.exit_code == 0
    rows = {
        line.split()[0]: line.split()
        for line in result.stdout.splitlines()
        if line.split()
    }
    state = load_state(provisioned)
    for name, status in (("hillside", "active"), ("northgate", "revoked")):
        fingerprint = state.sites[name].fingerprint
        assert rows[name] == [name, status, fingerprint, "centre", "2026-03-01"]
    assert rows["server"][-1] == "365"
    assert rows["authority"][-1] == str(5 * 365)
    (key,) = state.revoked_keys
    assert f"revoked 2026-03-01: {key.fingerprint} of northgate" in result.stdout


@pytest.mark.parametrize(
    ("days", "code", "server", "authority"),
    [
        (335, 0, "", ""),
        (336, 0, "expires soon: rotate server", ""),
        (366, 1, "expired: rotate server", ""),
        (5 * 365 - 1, 1, "expired", "expires soon: a new provision"),
        (5 * 365 + 1, 1, "expired", "expired: a new provision"),
    ],
)
def test_status_warns_in_time_and_fails_once_something_has_expired(
    provisioned: Path,
    monkeypatch: pytest.MonkeyPatch,
    days: int,
    code: int,
    server: str,
    authority: str,
) -> None:
    travel(monkeypatch, days)
    result = call("status", provisioned)
    assert result.exit_code == code
    lines = {
        line.split()[0]: line for line in result.stdout.splitlines() if line.split()
    }
    for name, remark in (("server", server), ("authority", authority)):
        assert remark in lines[name]
        assert ("expire" in lines[name]) == bool(remark)


def test_rotating_the_server_ends_the_warning(
    provisioned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    travel(monkeypatch, 366)
    assert call("status", provisioned).exit_code == 1
    result = call("rotate", provisioned, "server")
    assert result.exit_code == 0, result.output
    assert "until 2028-03-01" in result.stdout
    assert call("status", provisioned).exit_code == 0


def test_a_site_joins_and_changes_with_its_own_key(
    provisioned: Path, tmp_path: Path
) -> None:
    path = tmp_path / "supernode.key.pub"
    first, second = make_node_key(), make_node_key()
    path.write_text(f"{first.public} somebody@somewhere\n")
    added = call("add", provisioned, "island", "--public-key", path)
    assert added.exit_code == 0, added.output
    assert first.fingerprint in added.stdout
    assert "kits/island.tar.gz" in added.stdout
    path.write_text(f"{second.public} somebody@somewhere\n")
    rotated = call("rotate", provisioned, "island", "--public-key", path)
    assert rotated.exit_code == 0, rotated.output
    said = call("status", provisioned).stdout
    assert f"rotated 2026-03-01: {first.fingerprint} of island" in said
    assert second.fingerprint in said
    assert "somebody" not in (provisioned / "federation.toml").read_text()


def test_a_public_key_does_not_go_with_the_server(
    provisioned: Path, tmp_path: Path
) -> None:
    (tmp_path / "key.pub").write_text(make_node_key().public)
    result = call("rotate", provisioned, "server", "--public-key", tmp_path / "key.pub")
    assert result.exit_code == 2
    assert "goes with a site" in " ".join(result.stderr.split())


def test_no_private_key_is_ever_printed(provisioned: Path, file: Path) -> None:
    private = provisioned / "sites" / "hillside" / "supernode.key"
    lines = private.read_text().splitlines()
    said = call("add", provisioned, "island", "--public-key", private).output
    for command in (("status", provisioned), ("rotate", provisioned, "hillside")):
        said += call(*command).output
    assert "must not leave" in said
    assert not [line for line in lines[1:-1] if line in said]
