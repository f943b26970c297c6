"""Every decision of FedEFM, played by real hospitals on tiny frames."""

from pathlib import Path

import pytest
import torch

from clients.app import app as client_app
from server.checkpoints import load_foundation
from server.journal import read_events
from server.rounds import run_federation
from strategies.settings import SettingValue
from tests.federation import InProcessGrid

Config = dict[str, SettingValue]


def play(config: Config) -> tuple[list[str], dict[str, torch.Tensor]]:
    """Return the phases of round 1 and the foundation model."""
    folder = run_federation(InProcessGrid(client_app, config, 2), config)
    events = read_events(folder / "metrics.jsonl")
    phases = [event for event in events if event["event"] == "phase"]
    assert all(not event["failed"] for event in phases)
    state, _ = load_foundation(folder / "checkpoints" / "foundation.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in state.values())
    return [event["phase"] for event in phases if event["round"] == 1][:-1], state


@pytest.mark.parametrize(
    ("changes", "phases"),
    [
        ({"fedefm.teachers": "none"}, ["local", "evaluate"]),
        ({"fedefm.teachers": "global"}, ["distil", "evaluate"]),
        (
            {"fedefm.teachers": "neighbour", "fedefm.feedback": "neighbours"},
            ["distil", "evaluate"],
        ),
        (
            {"fedefm.teach-on": "host", "fedefm.accumulate": "students+experts"},
            ["overseas", "local", "evaluate"],
        ),
        (
            {"fedefm.teach-on": "proxy", "fedefm.proxy-steps": 1},
            ["local", "proxy", "evaluate"],
        ),
        (
            {
                "fedefm.score": "common",
                "fedefm.prototypes": 2,
                "fedefm.weight-per": "sample",
                "fedefm.edge-weight": "softmax",
                "fedefm.diagonal": True,
            },
            ["prototypes", "overseas", "distil", "evaluate"],
        ),
        (
            {
                "fedefm.preset": "paper",
                "fedefm.diagonal": True,
                "fedefm.tap": "image_encoder.blocks.0",
                "fedefm.solver": "sinkhorn",
                "fedefm.distil-classes": "unannotated",
                "wire": "bfloat16",
            },
            ["overseas", "distil", "evaluate"],
        ),
        (
            {
                "fedefm.topology": "mst",
                "fedefm.underlay": "gaia",
                "model.training": "lora-decoder",
                "fedefm.emd-gradient": "full",
            },
            ["overseas", "distil", "evaluate"],
        ),
        (
            {"fedefm.topology": "edges", "fedefm.edges": "human-site > phantom-site"},
            ["overseas", "distil", "evaluate"],
        ),
    ],
)
def test_each_decision_is_a_setting_that_runs(
    changes: Config, phases: list[str], tiny_run: Config
) -> None:
    found, _ = play({**tiny_run, **changes})
    assert found == phases


def test_a_narrow_wire_changes_little_and_tells_how_much(
    tiny_run: Config, tmp_path: Path
) -> None:
    _, exact = play({**tiny_run, "output": str(tmp_path / "exact")})
    _, rounded = play(
        {**tiny_run, "output": str(tmp_path / "rounded"), "wire": "float16"}
    )
    wrong = sum(float((exact[name] - rounded[name]).square().sum()) for name in exact)
    norm = sum(float(exact[name].square().sum()) for name in exact)
    assert 0 < (wrong / norm) ** 0.5 < 0.01
    rounds = [
        event
        for event in read_events(tmp_path / "rounded" / "metrics.jsonl")
        if event["event"] == "round"
    ]
    assert all(1e-5 < event["global"]["comm/wire_error"] < 1e-3 for event in rounds)


def test_what_does_not_fit_the_network_is_told_by_its_setting(tiny_run: Config) -> None:
    with pytest.raises(RuntimeError, match="The tap is"):
        play({**tiny_run, "fedefm.tap": "nowhere"})
    with pytest.raises(ValueError, match="teacher>student"):
        play(
            {
                **tiny_run,
                "output": tiny_run["output"] + "-2",
                "fedefm.topology": "edges",
                "fedefm.edges": "human-site phantom-site",
            }
        )
    result = Path(str(tiny_run["output"]) + "-2") / "result.json"
    assert "teacher>student" in result.read_text()
