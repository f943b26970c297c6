"""`endofed site …` as a person at a hospital meets it."""

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from clients.data.errors import DataError
from clients.site_dry_run import Leaving
from clients.site_file import SiteFile
from experiments.commands import site as site_cli
from experiments.deployment.approval import with_apps
from experiments.deployment.checks.finding import Finding
from experiments.deployment.checks.key import check_key
from experiments.deployment.fab_gate import GateError
from experiments.deployment.node_keys import read_public_key
from tests.experiments.deployment.site_trial import make_kit

DIGEST, OTHER = "ab" * 32, "cd" * 32
LIMITS = """
[limits]  # what we allow
# apps are digests
apps = [  # none yet
]
models = ["sam-tiny"]

[limits.settings]
"train.steps" = { max = 9 }
"""


def call(*arguments: str) -> Result:
    return CliRunner().invoke(site_cli.site_app, list(arguments))


def test_a_site_makes_its_own_pair_and_shows_only_the_public_half(
    tmp_path: Path,
) -> None:
    kit = tmp_path / "new" / "kit"
    result = call("key", "--kit", str(kit))
    assert result.exit_code == 0
    key = kit / "supernode.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    public = read_public_key((kit / "supernode.pub").read_text())
    assert public.public in result.output.replace("\n", " ")
    assert public.fingerprint in result.output
    assert "PRIVATE" not in result.output
    assert check_key(key, kit / "supernode.pub").level == "ok"


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    kit = make_kit(tmp_path, 8000)
    before = (kit / "supernode.key").read_bytes()
    assert call("key", "--kit", str(kit)).exit_code == 2
    assert (kit / "supernode.key").read_bytes() == before
    (kit / "supernode.key").unlink()  # its private half lies elsewhere
    assert call("key", "--kit", str(kit)).exit_code == 2
    assert not (kit / "supernode.key").exists()


def test_an_approval_changes_one_list_and_keeps_what_a_person_wrote(
    tmp_path: Path,
) -> None:
    kit = make_kit(tmp_path, 8000)
    path = kit / "site.toml"
    head = path.read_text().split("[limits]")[0]
    path.write_text(head.rstrip() + "\n" + LIMITS)
    path.chmod(0o640)
    assert call("approve", DIGEST.upper(), "--kit", str(kit)).exit_code == 0
    assert SiteFile.read(path).limits.apps == (DIGEST,)
    changed = path.read_text()
    assert "# what we allow" in changed
    assert "# apps are digests" in changed
    assert SiteFile.read(path).limits.settings["train.steps"].most == 9
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    again = call("approve", DIGEST, "--kit", str(kit))
    assert (again.exit_code, path.read_text()) == (0, changed)
    assert "already" in again.output
    assert call("approve", OTHER, "--kit", str(kit)).exit_code == 0
    assert SiteFile.read(path).limits.apps == (DIGEST, OTHER)
    assert [one.name for one in tmp_path.iterdir() if one.name[0] == "."] == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[a]\nb = 1\n", f'[a]\nb = 1\n\n[limits]\napps = ["{DIGEST}"]\n'),
        ("[limits]\nmodels = []\n", f'[limits]\napps = ["{DIGEST}"]\nmodels = []\n'),
        (
            "[other]\napps = []\n[limits]\napps = [] # c\n",
            f'[other]\napps = []\n[limits]\napps = ["{DIGEST}"] # c\n',
        ),
    ],
)
def test_the_list_is_made_where_it_is_missing(text: str, wanted: str) -> None:
    assert with_apps(text, [DIGEST]) == wanted


def test_what_is_no_digest_or_stands_elsewhere_leaves_the_file_as_it_was(
    tmp_path: Path,
) -> None:
    kit = make_kit(tmp_path, 8000)
    path = kit / "site.toml"
    before = path.read_text()
    for wrong in ("any", "abc", DIGEST + "00"):
        assert call("approve", wrong, "--kit", str(kit)).exit_code == 2
    inline = before.split("[limits]")[0]
    unusual = "limits = { apps = [] }\n" + inline
    path.write_text(unusual)
    assert call("approve", DIGEST, "--kit", str(kit)).exit_code == 2
    assert path.read_text() == unusual


def test_where_any_app_may_run_there_is_nothing_to_approve(tmp_path: Path) -> None:
    kit = make_kit(tmp_path, 8000)  # whose apps are ["any"]
    before = (kit / "site.toml").read_text()
    result = call("approve", DIGEST, "--kit", str(kit))
    assert result.exit_code == 2
    assert "apps = []" in result.output.replace("\n", " ")
    assert (kit / "site.toml").read_text() == before


def test_a_check_ends_with_one_if_something_failed_and_leaves_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = make_kit(tmp_path, 8000)
    found = [Finding("DNS", "ok", "Fine."), Finding("key", "warning", "Hm.")]
    monkeypatch.setattr(site_cli, "run_checks", lambda kit, quick: iter(found))
    assert call("check", "--kit", str(kit)).exit_code == 0
    assert (kit / "state" / "site-check.json").exists()
    found.append(Finding("port", "failed", "Shut.", "Open it."))
    result = call("check", "--quick", "--kit", str(kit))
    assert result.exit_code == 1
    assert "Failed: port." in result.output
    assert "Open it." in result.output
    told = call("check", "--json", "--kit", str(kit))
    assert (told.exit_code, json.loads(told.stdout)["failed"]) == (1, 1)


def test_a_kit_without_its_site_file_is_a_usage_error(tmp_path: Path) -> None:
    for command in ("check", "start"):
        result = call(command, "--kit", str(tmp_path))
        assert result.exit_code == 2
        assert str(tmp_path) not in result.output


def test_start_ends_as_the_supernode_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Path, int]] = []

    def run(kit: Path, *, port: int) -> int:
        seen.append((kit, port))
        return 1

    monkeypatch.setattr(site_cli, "run_supernode", run)
    monkeypatch.delenv("ENDOFED_RUNTIME_PORT", raising=False)
    assert call("start", "--kit", str(tmp_path)).exit_code == 1
    monkeypatch.setenv("ENDOFED_RUNTIME_PORT", "9094")
    call("start", "--kit", str(tmp_path))
    assert seen == [(tmp_path, 0), (tmp_path, 9094)]


@pytest.mark.parametrize("error", [GateError("another Flower"), DataError("no key")])
def test_start_says_in_one_line_why_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def run(kit: Path, *, port: int) -> int:
        raise error

    monkeypatch.setattr(site_cli, "run_supernode", run)
    result = call("start", "--kit", str(tmp_path))
    assert result.exit_code == 2
    assert str(error) in result.output


def test_a_dry_run_sums_up_tensors_and_names_every_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        Leaving("local", "arrays", "encoder.weight", (8, 4), "float32", 128),
        Leaving("local", "arrays", "encoder.bias", (8,), "float32", 32),
        Leaving("local", "metrics", "loss", (), "float", 8),
        Leaving("local", "metrics", "num-examples", (), "int", 8),
    ]
    monkeypatch.setattr(
        "clients.site_dry_run.what_would_leave", lambda path, config: rows
    )
    kit = make_kit(tmp_path, 8000)
    result = call("dry-run", "--kit", str(kit), "--set", "num-rounds=2")
    assert result.exit_code == 0
    assert "loss, num-examples" in result.output
    assert "160" in result.output  # bytes of both tensors
    assert "encoder.bias" not in result.output
    shown = call("dry-run", "--kit", str(kit), "--all").output
    assert "encoder.bias [8]" in shown
