"""A federation as it should be: what it trains, what it refuses, who watches it."""

import sqlite3
from pathlib import Path

import pytest
import torch

from models.registry import build_model
from server.checkpoints import load_foundation
from tests.deployment.federation import Federation, Site
from tests.deployment.table import Table
from tests.deployment.watched import Watched

pytestmark = pytest.mark.deployment

MLFLOW_FILES = {"mlflow.db", "mlruns", "mlartifacts"}


def test_what_a_site_does_not_allow_is_refused_and_named_at_both_ends(
    federation: Federation, table: Table
) -> None:
    """First of all, so that an app that ran would have left its files."""
    stranger, strict = (federation.sites[name] for name in ("harbour", "lakeside"))
    other_app, limit = ["0" * 64], {"train.steps": {"max": 1}}
    with (
        table.case("unapproved app, forbidden setting: the run", "exit code 3") as row,
        stranger.edited(lambda document: document["limits"].update(apps=other_app)),
        strict.edited(lambda document: document["limits"].update(settings=limit)),
    ):
        run = federation.run("refused")
        code = run.wait()
        reason = run.result()["reason"]
        assert code == 3, run.said()[-600:]
        row.saw(f"exit code {code}", "1 of 3 sites can take part")
    notes = [entry["note"] for entry in run.audit() if entry["note"]]
    with table.case("app that a site did not approve", "refused, named") as row:
        wanted = "Site 'harbour' refuses: apps"
        assert wanted in reason
        assert any(wanted in note for note in notes)
        assert any(wanted in note for note in notes_of(stranger))
        # Not even unpacked, as it is where it was approved.
        unpacked = Path("flower") / "apps"
        assert (federation.sites["hillside"].state / unpacked).exists()
        assert not (stranger.state / unpacked).exists()
        row.saw("in the audit logs of both ends, never unpacked")
    with table.case("setting that a site does not allow", "refused, named") as row:
        wanted = "Site 'lakeside' refuses: "
        assert wanted in reason
        assert "train.steps" in reason
        for log in (notes, notes_of(strict)):
            assert any(wanted in note and "train.steps" in note for note in log)
        row.saw("train.steps, in the audit logs of both ends")
    assert notes_of(federation.sites["hillside"]) == []


def notes_of(site: Site) -> list[str]:
    return [entry["note"] for entry in site.audit() if entry["note"]]


def test_three_hospitals_train_and_all_leave_their_mark(
    federation: Federation, fedefm: Watched
) -> None:
    path = fedefm.run.folder / "checkpoints" / "foundation.safetensors"
    state, _ = load_foundation(path)
    start = build_model("sam-tiny", image_size=64, seed=0).state_dict()
    assert any(not torch.equal(state[name], start[name]) for name in state)
    for site in federation.sites.values():
        left = [e for e in site.audit() if e["direction"] == "out" and e["digest"]]
        assert {entry["phase"] for entry in left} >= {"local", "overseas", "distil"}
        # Both ends have the same fingerprints of what left the site.
        ours = {entry["digest"] for entry in left}
        theirs = {
            entry["digest"]
            for entry in fedefm.run.audit()
            if (entry["site"], entry["direction"]) == (site.name, "out")
        }
        assert ours == theirs - {""}


def test_mlflow_is_at_the_centre_only(
    federation: Federation, fedefm: Watched, table: Table
) -> None:
    with table.case("MLflow", "at the centre, nothing of it at a site") as row:
        with sqlite3.connect(fedefm.run.folder / "mlflow.db") as database:
            (count,) = database.execute("select count(*) from metrics").fetchone()
        assert count > 0
        for site in federation.sites.values():
            for folder in (site.state, site.home, site.kit):
                found = {path.name for path in folder.rglob("ml*")} & MLFLOW_FILES
                assert not found, f"{site.name}: {found}"
        assert any("flwr-clientapp" in one for one in fedefm.commands)
        assert not any("mlflow" in one for one in fedefm.commands)
        row.saw(f"{count} numbers in its database", "no file, no process at the sites")
