"""After which rounds the hospitals measure: `evaluation.every-rounds`."""

import pytest

from clients.app import app as client_app
from server.journal import read_events
from server.rounds import run_federation
from strategies.evaluation_settings import EvaluationSettings
from strategies.settings import SettingValue
from tests.federation import InProcessGrid


def test_the_last_round_is_due_and_every_nth() -> None:
    third = EvaluationSettings("overlap", 3, False)
    assert [n for n in range(8) if third.is_due(n, last=7)] == [0, 3, 6, 7]
    every = EvaluationSettings("overlap", 1, False)
    assert all(every.is_due(n, last=7) for n in range(8))
    assert EvaluationSettings("overlap", 0, False).problems() == [
        "evaluation.every-rounds must be at least 1, got 0"
    ]


@pytest.mark.parametrize(
    ("strategy", "measured"),
    [
        ("fedefm", [0, 2, 3]),
        *((name, [2, 3]) for name in ("fedavg", "fedprox", "fedavgm", "fedadam")),
        ("relay", [2, 3]),
    ],
)
def test_every_strategy_measures_when_it_is_due(
    tiny_run: dict[str, SettingValue], strategy: str, measured: list[int]
) -> None:
    config = {
        **tiny_run,
        "strategy": strategy,
        "num-rounds": 3,
        "rival.server-learning-rate": 0.1,
        "evaluation.every-rounds": 2,
    }
    folder = run_federation(InProcessGrid(client_app, config, 2), config)
    rounds = [
        event
        for event in read_events(folder / "metrics.jsonl")
        if event["event"] == "round"
    ]
    found = [one["round"] for one in rounds if "val/dice" in one["global"]]
    assert found == measured
    assert all(one["global"]["train/loss"] is not None for one in rounds)
    assert (folder / "figures" / "curves.png").stat().st_size > 1000
    assert (folder / "result.json").exists()
