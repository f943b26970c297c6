"""Federations inside one process, kept and opened again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from experiments.run_config import resolve_run_config
from experiments.simulation import SimulationRequest, simulate
from experiments.study.jobs import forget_models
from experiments.study.training import (
    Trained,
    curve_of,
    run_config_of,
    train,
)
from models.assembly import assemble_model
from models.weights import load_weights
from server.rounds import TooFewSites
from strategies.federation_state import equal_states
from tests.experiments.study.tiny import SILOS, dotted, job_of, row

LOCAL = row("local", fedefm__teachers="none", fedefm__feedback="none")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Trained]]:
    """Local models, trained once for several tests."""
    folder = tmp_path_factory.mktemp("local")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("server.rounds.draw_all", lambda *_, **__: [])
        yield folder, train(job_of(folder, LOCAL), folder / "training")


def test_theta_and_the_silos_models_are_kept(kept: tuple[Path, Trained]) -> None:
    _, trained = kept
    assert tuple(trained.silos) == SILOS
    assert trained.theta is not None
    for name, mean in trained.theta.items():
        if mean.is_floating_point():  # eq. (13): Theta is the mean of the silos
            silos = torch.stack([one[name].double() for one in trained.silos.values()])
            torch.testing.assert_close(mean.double(), silos.mean(0), atol=1e-6, rtol=0)
    assert [site.name for site in trained.sites] == list(SILOS)


def test_the_curve_is_cumulative_and_ends_with_the_cost(
    kept: tuple[Path, Trained],
) -> None:
    _, trained = kept
    assert [point["round"] for point in trained.curve] == [0, 1]
    first, last = trained.curve
    assert [first["steps"], last["steps"]] == [1, 2]
    assert 0 < first["bytes"] < last["bytes"] == trained.cost["bytes"]
    assert 0 < first["seconds"] < last["seconds"] == trained.cost["seconds"]
    # Down and up, for every silo and round: the tensors of one model.
    assert trained.theta is not None
    size = sum(one.numel() * one.element_size() for one in trained.theta.values())
    assert last["bytes"] == pytest.approx(2 * 2 * 2 * size, rel=0.02)


def test_what_was_trained_is_opened_and_not_trained_again(
    kept: tuple[Path, Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, trained = kept
    monkeypatch.setattr("server.rounds.run_federation", None)
    again = train(job_of(folder, LOCAL), folder / "training")
    assert trained.theta is not None
    assert again.theta is not None
    assert equal_states(again.theta, trained.theta)
    assert all(equal_states(again.silos[one], trained.silos[one]) for one in SILOS)
    assert (again.curve, again.cost) == (trained.curve, trained.cost)


def test_the_run_folder_keeps_its_events_and_no_second_copy_of_models(
    kept: tuple[Path, Trained],
) -> None:
    folder, _ = kept
    run = folder / "training" / "run"
    assert (run / "metrics.jsonl").exists()
    assert not (run / "checkpoints").exists()
    assert not (run / "mlflow.db").exists()


def test_forgotten_models_leave_the_numbers_and_are_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path, {"name": "none", "group": "g", "kind": "untrained"})
    folder = tmp_path / "training"
    train(job, folder)
    forget_models(folder)
    assert [path.name for path in folder.iterdir()] == ["trained.json"]
    monkeypatch.setattr(
        "experiments.study.pooled.train_pooled", lambda *_: pytest.fail("as it should")
    )
    with pytest.raises(pytest.fail.Exception, match="as it should"):
        train(job, folder)


def test_an_untrained_row_has_the_weights_of_the_seed_and_costs_nothing(
    tmp_path: Path,
) -> None:
    job = job_of(tmp_path, {"name": "none", "group": "g", "kind": "untrained"})
    trained = train(job, tmp_path / "training")
    initial = assemble_model(trained.settings.model.recipe(0)).trainable_state()
    assert trained.theta is not None
    assert equal_states(trained.theta, initial)
    assert trained.cost["rounds"] == trained.cost["bytes"] == 0
    assert [point["round"] for point in trained.curve] == [0]


def test_a_silo_that_fails_fails_the_training_with_its_reason(tmp_path: Path) -> None:
    job = job_of(
        tmp_path, row("A", strategy="fedavg", train__learning_rate=1e30, num_rounds=2)
    )
    with pytest.raises(TooFewSites, match="training did not diverge"):
        train(job, tmp_path / "training")


def test_bytes_and_seconds_of_measuring_are_left_out() -> None:
    def phase(name: str, up: int, down: int) -> dict[str, Any]:
        return {"event": "phase", "phase": name, "bytes_up": up, "bytes_down": down}

    def end(number: int, dice: float | None) -> dict[str, Any]:
        return {"event": "round", "round": number, "global": {"val/dice": dice}}

    events = [
        {"event": "start"},
        phase("local", 1, 2),
        phase("evaluate", 100, 100),
        end(0, None),
        phase("overseas", 3, 4),
        phase("distil", 5, 6),
        end(1, 0.25),
        phase("evaluate", 100, 100),
    ]
    assert curve_of(events, {0: 1.5, 1: 2.0}) == [
        {"round": 0, "dice": None, "bytes": 3, "seconds": 1.5},
        {"round": 1, "dice": 0.25, "bytes": 21, "seconds": 3.5},
    ]


@pytest.mark.simulation
def test_the_bits_are_those_of_a_simulation(tmp_path: Path) -> None:
    settings = {"num_rounds": 1, "fedefm__topology": "complete"}
    job = job_of(tmp_path, row("A", **settings))
    here = train(job, tmp_path / "training")

    run = tmp_path / "run"
    config = resolve_run_config(output=run)
    config |= {**run_config_of(job, str(run)), **dotted(settings)}
    outcome = simulate(
        SimulationRequest(config, num_sites=2, workers=2), console=Console(quiet=True)
    )
    assert outcome.status == "completed"
    there = load_weights(run / "checkpoints" / "foundation.safetensors")
    assert here.theta is not None
    assert equal_states({name: there[name] for name in here.theta}, here.theta)
