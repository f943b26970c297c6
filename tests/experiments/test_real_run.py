"""The real apps through `flwr run`: half a minute each, so few of them."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from experiments.run_config import PROJECT_FOLDER, resolve_run_config, sites_of
from experiments.simulation import SimulationOutcome, SimulationRequest, simulate
from models.registry import build_model
from server.checkpoints import load_foundation

SMOKE = PROJECT_FOLDER / "experiments" / "configs" / "smoke.toml"
SITES = """
[[site]]
name = "one"
domain = "human"
patients = 4
frames-per-patient = 1

[[site]]
name = "two"
domain = "phantom"
patients = 4
frames-per-patient = 1
"""


def run(
    folder: Path, sites: str, *overrides: str, workers: int = 2
) -> SimulationOutcome:
    folder.mkdir()
    (folder / "sites.toml").write_text(sites)
    config = resolve_run_config(
        config=SMOKE,
        overrides=["mlflow=false", "join-timeout-s=60", *overrides],
        sites=folder / "sites.toml",
        output=folder / "run",
    )
    request = SimulationRequest(
        config, num_sites=len(sites_of(config)), workers=workers, deadline_s=150
    )
    return simulate(request, console=Console(file=io.StringIO()))


def card_of(outcome: SimulationOutcome) -> dict[str, Any]:
    path = outcome.run_folder / "checkpoints" / "foundation.json"
    return json.loads(path.read_text())


@pytest.mark.simulation
def test_training_with_one_or_two_workers_gives_the_same_bits(tmp_path: Path) -> None:
    outcomes = [
        run(tmp_path / f"workers-{workers}", SITES, workers=workers)
        for workers in (1, 2)
    ]
    for outcome in outcomes:
        assert (outcome.exit_code, outcome.reason) == (0, "")
        assert outcome.result is not None
        assert outcome.result["sites"] == ["one", "two"]
    first, second = (card_of(outcome) for outcome in outcomes)
    assert first["weights-digest"] == second["weights-digest"]
    assert first["metrics"] == second["metrics"]
    # The weights are not those that everybody started from.
    state, _ = load_foundation(
        outcomes[0].run_folder / outcomes[0].result["checkpoint"]
    )
    start = build_model("sam-tiny", image_size=64, seed=0).trainable_state()
    assert state.keys() == start.keys()
    assert any(not torch.equal(state[name], start[name]) for name in state)


@pytest.mark.simulation
def test_a_hospital_that_cannot_read_its_data_ends_the_run_with_its_reason(
    tmp_path: Path,
) -> None:
    broken = SITES + '\n[[site]]\nname = "ward"\nfolder = "DOE^JANE"\n'
    outcome = run(tmp_path / "broken", broken)
    assert outcome.status == "failed"
    assert outcome.exit_code == 3
    assert "Hospital 'ward': The data folder" in outcome.reason
    for path in outcome.run_folder.rglob("*"):
        if path.is_file():
            assert b"DOE^JANE" not in path.read_bytes(), path.name
