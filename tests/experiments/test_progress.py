import json
from pathlib import Path
from typing import Any

import pytest

from experiments.progress import EventTail, RunView

START = {"event": "start", "num_rounds": 4, "strategy": "fedefm", "sites": ["a", "b"]}


def round_event(number: int, **values: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"event": "round", "round": number, "time": 100.0, "seconds": 10.0, **values}


def view_of(*events: dict[str, Any]) -> RunView:
    view = RunView()
    for event in events:
        view.apply(event)
    return view


def test_a_file_that_does_not_exist_yet_has_no_events(tmp_path: Path) -> None:
    tail = EventTail(tmp_path / "metrics.jsonl")
    assert tail.read() == []
    (tmp_path / "metrics.jsonl").write_text('{"event": "start"}\n')
    assert tail.read() == [{"event": "start"}]


def test_a_line_counts_once_and_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = EventTail(path)
    path.write_text('{"round": 1}\n{"rou')
    assert tail.read() == [{"round": 1}]
    assert tail.read() == []
    path.write_text('{"round": 1}\n{"round": 2}\n')
    assert tail.read() == [{"round": 2}]


def test_a_line_that_is_no_object_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'oops\n[1]\n\xff\xfe\n{"round": 3}\n')
    assert EventTail(path).read() == [{"round": 3}]


def test_sites_are_known_from_the_start_and_their_numbers_from_a_round() -> None:
    numbers = {"train/loss": 0.61, "val/dice": 0.4}
    view = view_of(START, round_event(0, sites={"a": numbers}))
    assert list(view.sites) == ["a", "b"]
    assert (view.sites["a"].train_loss, view.sites["a"].val_dice) == (0.61, 0.4)
    assert view.sites["a"].answered
    assert not view.sites["b"].answered
    assert view.num_rounds == 4


def test_missing_numbers_are_unknown_not_zero() -> None:
    view = view_of(START, round_event(1, sites={"a": {"train/loss": None}}))
    assert view.sites["a"].train_loss is None
    assert view.sites["a"].val_dice is None


def test_a_failure_is_shown_until_a_round_without_it() -> None:
    view = view_of(
        START,
        {"event": "phase", "round": 1, "phase": "local", "failed": {"b": "no memory"}},
    )
    assert view.sites["b"].failure == "no memory"
    view.apply(round_event(1, failed={"b": "local: no memory"}))
    assert view.sites["b"].failure == "local: no memory"
    view.apply(round_event(2))
    assert view.sites["b"].failure == ""


def test_the_emd_score_is_the_mean_of_the_known_ones() -> None:
    edges = [{"score": 0.9}, {"score": None}, {"score": 0.7}]
    view = view_of(START, round_event(1, edges=edges))
    assert view.emd_score == pytest.approx(0.8)
    assert view_of(START, round_event(1, edges=[])).emd_score is None


def test_the_time_left_is_counted_in_rounds_after_the_warm_up() -> None:
    view = view_of(START, round_event(0, seconds=60.0))
    assert view.seconds_left(now=100.0) is None
    view.apply(round_event(1, seconds=8.0))
    view.apply(round_event(2, seconds=12.0))
    # Two rounds of ten seconds are left, three seconds of them have passed.
    assert view.seconds_left(now=103.0) == pytest.approx(17.0)
    assert view.seconds_left(now=1000.0) == 0.0
    view.apply(round_event(4, seconds=10.0))
    assert view.seconds_left(now=103.0) is None


def test_the_end_and_a_silent_tracker_are_noticed() -> None:
    view = view_of(START, {"event": "tracking", "tracking": "failed"})
    assert "MLflow" in view.note
    assert not view.ended
    view.apply({"event": "end", "status": "failed", "reason": "too few"})
    assert view.ended
    assert view.last_step == "too few"


@pytest.mark.parametrize(
    "nonsense",
    [
        {},
        {"event": "unheard of"},
        {"event": "start", "num_rounds": "many"},
        {"event": "round", "round": 1, "sites": ["a"]},
        {"event": "round", "round": {}, "edges": 7},
        {"event": "phase", "failed": 3},
    ],
)
def test_an_event_that_makes_no_sense_stops_nothing(nonsense: dict[str, Any]) -> None:
    view = view_of(START, nonsense, round_event(2))
    assert view.finished_round == 2
    assert json.loads(json.dumps(sorted(view.sites))) == ["a", "b"]
