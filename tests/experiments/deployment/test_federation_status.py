"""Who is online, and what the sites said of themselves."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from clients.versions import software_versions
from experiments import cli
from experiments.commands import federation as federation_cli
from experiments.deployment.federation_status import (
    needs_a_look,
    read_introductions,
    site_statuses,
    status_table,
)
from experiments.deployment.provision_changes import revoke_site
from experiments.deployment.provision_state import load_state
from experiments.deployment.registration import Node
from experiments.superlink import SuperLinkError

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FACTS = {
    "frames-train": 40,
    "frames-validation": 10,
    "frames-test": 12,
    "num-patients": 7,
    "version-flwr": "1.41.0",
    "version-torch": "2.13.0",
    "version-endofed": "0.1.0",
    "domain": "real",
}


def node(status: str, minutes_ago: float | None = None) -> Node:
    seen = None if minutes_ago is None else NOON - timedelta(minutes=minutes_ago)
    return Node(1, "SHA256:x", status, last_seen=seen)


def rows(folder: Path, nodes: dict[str, Node], facts: dict[str, Any]) -> list[Any]:
    return site_statuses(load_state(folder), nodes, facts, NOON)


def test_each_site_is_online_away_or_unknown_to_the_server(provisioned: Path) -> None:
    nodes = {"hillside": node("offline", 150)}
    first, second = rows(provisioned, nodes, {})
    assert (first.name, first.connection) == ("hillside", "offline")
    assert first.last_seen == "2026-03-01 09:30 UTC (2 h ago)"
    assert (second.connection, second.last_seen) == ("not registered", "")
    [online, _] = rows(provisioned, {"hillside": node("online", 60)}, {})
    assert online.last_seen == "now"


def test_versions_and_counts_are_those_of_the_last_run(
    provisioned: Path, tmp_path: Path
) -> None:
    for number, name in enumerate(("old", "new", "broken")):
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        facts = {"hillside": {**FACTS, "num-patients": number}}
        text = "{" if name == "broken" else json.dumps(facts)
        (run / "sites.json").write_text(text)
        os.utime(run / "sites.json", (number, number))
    run, introductions = read_introductions(tmp_path / "runs")
    assert run == "new"
    first, second = rows(provisioned, {}, introductions)
    assert first.counts == {"patients": 1, "train": 40, "validation": 10, "test": 12}
    assert first.versions["flwr"] == "1.41.0"
    assert (second.counts, second.versions) == ({}, {})
    assert read_introductions(tmp_path / "nowhere") == ("", {})


def test_a_site_says_which_software_it_runs() -> None:
    assert set(software_versions()) == {key for key in FACTS if "version-" in key}
    assert software_versions()["version-flwr"].startswith("1.41")


def test_the_table_shows_numbers_and_says_from_which_run(provisioned: Path) -> None:
    console = Console(record=True, width=130)
    statuses = rows(provisioned, {"hillside": node("online")}, {"hillside": FACTS})
    console.print(status_table(statuses, "20260301-1200"))
    shown = console.export_text()
    line = next(one for one in shown.splitlines() if "hillside" in one)
    assert line.split()[1:] == ("online now 0.1.0 1.41.0 2.13.0 7 40 / 10 / 12".split())
    assert "20260301-1200" in shown


def test_what_a_person_should_do_is_said(provisioned: Path) -> None:
    both = {"hillside": node("online"), "northgate": node("online")}
    facts = {"hillside": FACTS, "northgate": {**FACTS, "version-flwr": "1.40.0"}}
    assert needs_a_look(rows(provisioned, both, {})) == []
    assert "different versions" in needs_a_look(rows(provisioned, both, facts))[0]
    [missing, away] = needs_a_look(
        rows(provisioned, {"hillside": node("registered")}, {})
    )
    assert "northgate" in missing
    assert "hillside" in away
    revoke_site(provisioned, "northgate", NOON)
    [urgent] = needs_a_look(rows(provisioned, both, {}))
    assert "Revoked, but still admitted: northgate" in urgent


def test_the_command_ends_with_one_while_somebody_is_missing(
    provisioned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = load_state(provisioned)
    nodes = [
        Node(number, site.fingerprint, "online")
        for number, site in enumerate(state.sites.values(), start=1)
    ]
    monkeypatch.setattr(federation_cli, "list_nodes", lambda centre: nodes)
    arguments = ["federation", "status", str(provisioned), "--state", str(tmp_path)]
    assert CliRunner().invoke(cli.app, arguments).exit_code == 0
    nodes.pop()
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 1
    assert "Not registered: northgate" in result.output


def test_a_server_that_is_away_is_one_message_and_exit_code_one(
    provisioned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: object) -> list[Node]:
        raise SuperLinkError("It does not answer.")

    monkeypatch.setattr(federation_cli, "list_nodes", away)
    for verb in ("status", "register"):
        arguments = ["federation", verb, str(provisioned), "--state", str(tmp_path)]
        result = CliRunner().invoke(cli.app, arguments)
        assert (result.exit_code, "does not answer" in result.output) == (1, True)
        assert "Traceback" not in result.output


def test_start_becomes_flowers_program_with_what_it_was_told(
    provisioned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(federation_cli, "become", lambda *both: seen.append(both))
    monkeypatch.setenv("ENDOFED_HOST", "0.0.0.0")
    arguments = ["federation", "start", str(provisioned), "--state", str(tmp_path)]
    assert CliRunner().invoke(cli.app, arguments).exit_code == 0
    CliRunner().invoke(cli.app, [*arguments, "--port", "9000", "--host", "127.0.0.1"])
    (first, environment), (second, _) = seen
    assert first[first.index("--host") + 1] == "0.0.0.0"
    assert first[first.index("--port") + 1] == "8000"  # as provisioned
    assert second[second.index("--port") + 1] == "9000"
    assert environment["FLWR_HOME"] == str(tmp_path / "flower")
