"""Federations in which a hospital has no labels, inside one process, at 32 px."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from clients import app as app_module
from clients import hospital, sources
from clients.app import app as client_app
from clients.data.frames import FrameSet
from clients.data.simulator import simulate_frames
from clients.prototypes import find_prototypes
from clients.proxies import distil_on_proxies
from models.weights import weights_digest
from server import rounds
from server.checkpoints import load_foundation
from server.journal import read_events
from server.rounds import run_federation
from strategies.settings import SettingValue
from tests.federation import InProcessGrid

Config = dict[str, SettingValue]

SITE = """
[[site]]
name = "{name}"
{sources}
"""
SOURCE = 'domain = "{domain}"\npatients = 4\nframes-per-patient = 1\n'
LABELLED = SITE.format(name="north", sources=SOURCE.format(domain="human"))
BARE = SITE.format(
    name="bare", sources=SOURCE.format(domain="phantom") + 'labels = "none"\n'
)
MIXED = SITE.format(
    name="mixed",
    sources=f"[[site.source]]\n{SOURCE.format(domain='animal')}"
    f"[[site.source]]\n{SOURCE.format(domain='random-3')}" + 'labels = "none"\n',
)


@pytest.fixture
def config(tiny_run: Config) -> Config:
    """A labelled hospital and one without labels, and next to no adaptation."""
    Path(str(tiny_run["sites"])).write_text(LABELLED + BARE)
    return {
        **tiny_run,
        "adapt.source-frames": 4,
        "adapt.coarse-epochs": 1,
        "adapt.coarse-network": "sam",
        "adapt.training": "full",
        "adapt.cleaning": "none",
        "adapt.threshold": 0.01,  # what next to no training predicts is all but empty
        "adapt.background": "none",
        "train.steps": 2,
        "fedefm.warmup-steps": 2,
        "evaluation.cross-site": True,
    }


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes longest; one test draws them."""
    monkeypatch.setattr(rounds, "draw_all", lambda *_, **__: [])


def run(config: Config, folder: Path, num_sites: int = 2) -> Path:
    told = {**config, "output": str(folder)}
    return run_federation(InProcessGrid(client_app, told, num_sites), told)


def digest(folder: Path) -> str:
    state, _ = load_foundation(folder / "checkpoints" / "foundation.safetensors")
    return weights_digest(state)


def read(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / name).read_text())


def test_a_hospital_without_labels_trains_and_shows_no_score(
    config: Config, tmp_path: Path
) -> None:
    folder = run(config, tmp_path / "run")
    result = read(folder, "result.json")
    assert result["status"] == "completed"
    assert set(result["test"]) == {"bare", "north"}
    assert set(result["test"]["bare"].values()) == {None}
    assert result["test"]["north"]["test/dice"] == result["global"]["test/dice"]
    ends = [e for e in read_events(folder / "metrics.jsonl") if e["event"] == "round"]
    for event in ends:
        own = event["sites"]["bare"]
        assert own["train/loss"] > 0
        assert own["val/loss"] is own["val/dice"] is None
    # It teaches and is taught.
    pairs = {(edge["student"], edge["teacher"]) for edge in ends[-1]["edges"]}
    assert pairs == {("bare", "north"), ("north", "bare")}
    rows = list(csv.DictReader((folder / "test_metrics.csv").open()))
    bare = [
        row for row in rows if row["hospital"] == "bare" and row["metric"] == "dice"
    ]
    assert [row["catheter.image"] for row in bare] == [""]
    assert (folder / "figures" / "curves.png").stat().st_size > 1000
    matrix = read(folder, "cross_site.json")["values"]
    assert matrix["bare"]["bare"] is None and matrix["bare"]["north"] is not None


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("strategy", ["fedefm", "fedavg"])
def test_its_truth_influences_nothing_and_a_run_can_be_repeated(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    config["strategy"] = strategy
    config["evaluation.cross-site"] = False
    first = digest(run(config, tmp_path / "first"))

    def lie(domain: str, **numbers: int) -> FrameSet:
        frames = simulate_frames(domain, **numbers)
        if domain != "phantom":
            return frames
        noise = torch.randint(0, 2, frames.masks.shape, dtype=torch.uint8)
        return replace(frames, masks=noise)

    # Another cache as well: nothing of the first run is left.
    monkeypatch.setenv("ENDOFED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "simulate_frames", lie)
    hospital.read_split.cache_clear()
    hospital._read_labels.cache_clear()
    try:
        assert digest(run(config, tmp_path / "second")) == first
    finally:
        hospital.read_split.cache_clear()
        hospital._read_labels.cache_clear()


@pytest.mark.usefixtures("no_figures")
def test_labelled_mixed_and_unlabelled_hospitals_work_together(
    config: Config, tmp_path: Path
) -> None:
    Path(str(config["sites"])).write_text(LABELLED + BARE + MIXED)
    folder = run(
        {**config, "fedefm.diagonal": True, "fedefm.teach-on": "host"},
        tmp_path / "run",
        num_sites=3,
    )
    result = read(folder, "result.json")
    assert result["status"] == "completed"
    assert result["test"]["mixed"]["test/dice"] is not None
    assert result["test"]["bare"]["test/dice"] is None


@pytest.mark.usefixtures("no_figures")
def test_all_teach_on_the_frames_that_a_hospital_has_not_labelled(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(str(config["sites"])).write_text(LABELLED + MIXED)
    teach = Mock(wraps=distil_on_proxies)
    cluster = Mock(wraps=find_prototypes)
    monkeypatch.setattr(app_module, "distil_on_proxies", teach)
    monkeypatch.setattr(app_module, "find_prototypes", cluster)
    gate = {
        "teach-on": "proxy",
        "proxy-frames": "hospital",
        "proxy-site": "mixed",
        "proxy-steps": 1,
        "edge-weight": "softmax",
        "weight-per": "sample",
        "score": "standardised",
        "prototypes": 2,
        "grid-size": 2,
    }
    told = {f"fedefm.{key}": value for key, value in gate.items()}
    folder = run({**config, **told}, tmp_path / "run")
    assert read(folder, "result.json")["status"] == "completed"
    lent = [call.kwargs["frames"] for call in teach.call_args_list]
    assert lent
    assert not any(bool(frames.annotated.any()) for frames in lent)
    # What stands for a site are the frames that its model has learned from.
    stood_for = [call.args[1] for call in cluster.call_args_list]
    assert stood_for
    assert all(bool(frames.annotated.all()) for frames in stood_for)


@pytest.mark.usefixtures("no_figures")
def test_a_network_that_is_no_sam_learns_without_labels_too(
    config: Config, tmp_path: Path
) -> None:
    changes = {
        "model.name": "unet",
        "strategy": "fedavg",
        "adapt.coarse-network": "prompt-layers",
        "adapt.training": "lora",
        "evaluation.cross-site": False,
    }
    result = read(run({**config, **changes}, tmp_path / "run"), "result.json")
    assert result["status"] == "completed"
    assert result["test"]["bare"]["test/dice"] is None


@pytest.mark.usefixtures("no_figures")
def test_a_site_that_gets_no_pseudo_label_says_what_to_do(
    config: Config, tmp_path: Path
) -> None:
    changes = {"adapt.cleaning": "dbscan", "adapt.min-cluster": 1e6, "min-sites": 1}
    folder = run({**config, **changes}, tmp_path / "run")
    ends = [e for e in read_events(folder / "metrics.jsonl") if e["event"] == "round"]
    assert "Hospital 'bare'" in str(ends[0]["failed"])
    assert "adapt." in str(ends[0]["failed"])
