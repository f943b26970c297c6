"""What the server writes down of a round, with numbers worked out by hand."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message

from strategies import messages
from strategies.audit import verify
from strategies.replies import error_reply, pack_reply
from strategies.settings import RunSettings
from tests.federation import WORKS
from tests.server.small_hospitals import Recorded, play

DISTILLED = {
    "alpha": {
        messages.LOSS: 2.0,
        "score:alpha": 0.99,
        **{"score:beta": 0.9, "weight:beta": 0.6, "gap:beta": 1e-9},
        **{"score:gamma": 0.7, "weight:gamma": 0.4, "gap:gamma": 3e-9},
        **{"teacher-loss:beta": 3.0, "teacher-loss:gamma": 5.0},
    },
    "beta": {
        messages.LOSS: 4.0,
        "score:beta": 0.95,
        **{"score:alpha": 0.8, "weight:alpha": 1.0, "gap:alpha": 2e-9},
        "teacher-loss:alpha": 1.0,
    },
}


@pytest.fixture
def recorded(tmp_path: Path, run_settings: RunSettings) -> Recorded:
    return play(
        tmp_path / "run", run_settings, distilled=DISTILLED, topology="complete"
    )


def test_means_over_teachers_leave_the_controls_out(recorded: Recorded) -> None:
    overall = recorded.rounds()[1]["global"]
    assert overall["emd/score"] == pytest.approx((0.9 + 0.7 + 0.8) / 3)
    assert overall["emd/weight"] == pytest.approx((0.6 + 0.4 + 1.0) / 3)
    assert overall["emd/diagonal"] == pytest.approx((0.99 + 0.95) / 2)
    assert overall["emd/gap_max"] == 3e-9


def test_teachers_stand_beside_the_students_they_taught(recorded: Recorded) -> None:
    event = recorded.rounds()[1]
    assert event["global"]["teacher/loss"] == pytest.approx((3 + 5 + 1) / 3)
    assert event["global"]["student/loss"] == (2 + 4) / 2  # gamma had no teacher
    assert event["sites"]["alpha"]["teacher/loss"] == 4
    assert event["sites"]["alpha"]["student/loss"] == 2
    assert "student/loss" not in event["sites"]["gamma"]
    assert event["sites"]["beta"]["emd/diagonal"] == 0.95
    assert "teacher/loss" not in recorded.rounds()[0]["global"]


def test_an_edge_says_all_of_itself_in_the_journal(recorded: Recorded) -> None:
    edges = {(e["student"], e["teacher"]): e for e in recorded.rounds()[1]["edges"]}
    edge = dict(edges["alpha", "gamma"])
    assert edge.pop("num_bytes") > 0
    assert edge == {
        "student": "alpha",
        "teacher": "gamma",
        "score": 0.7,
        "weight": 0.4,
        "gap": 3e-9,
        "teacher_loss": 5.0,
        "is_control": False,
    }
    control = edges["alpha", "alpha"]
    assert control["is_control"]
    assert control["weight"] is None
    assert control["num_bytes"] == 0  # it was trained at home


def test_predictions_of_unknown_classes_are_told_by_site_and_together(
    recorded: Recorded,
) -> None:
    event = recorded.rounds()[1]
    for metrics in (event["sites"]["alpha"], event["global"]):
        assert metrics["val/unannotated/catheter/predicted_frames"] == 0.5
        assert metrics["val/unannotated/catheter/predicted_pixels"] == 0.1
        assert "val/unannotated/guidewire/frames" not in metrics
    assert event["sites"]["alpha"]["val/unannotated/catheter/frames"] == 2
    assert event["global"]["val/unannotated/catheter/frames"] == 3 * 2


def test_the_log_names_every_score_and_the_diagonal(
    tmp_path: Path, run_settings: RunSettings, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="server.recorder"):
        play(tmp_path / "run", run_settings, distilled=DISTILLED, topology="complete")
    lines = [record.getMessage() for record in caplog.records]
    assert (
        "Round 1: alpha learns from beta 0.900 (0.60), gamma 0.700 (0.40); "
        "itself 0.990" in lines
    )


def test_silos_that_part_are_warned_of_once(
    tmp_path: Path, run_settings: RunSettings, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="server.recorder"):
        run = play(
            tmp_path / "run",
            run_settings,
            topology="ring",
            feedback="none",
            teachers="none",
            num_rounds=5,
        )
    # After k rounds the silos are k + 1 times 0, 1 and 2 above their start, so the
    # distance grows and grows; it has grown in rounds 1, 2 and 3.
    distances = [one["global"]["drift/consensus_distance"] for one in run.rounds()]
    assert distances == sorted(distances)
    assert distances[3] > 1.05 * distances[2]
    told = [one["round"] for one in run.rounds() if one["warnings"]]
    assert told == [3]
    assert run.rounds()[3]["global"]["drift/growing_rounds"] == 3
    [warning] = [
        r.getMessage() for r in caplog.records if "part from" in r.getMessage()
    ]
    assert warning == f"Round 3: {run.rounds()[3]['warnings'][0]}"


def test_teachers_of_the_accumulated_model_are_told_of_too(
    tmp_path: Path, run_settings: RunSettings
) -> None:
    recorder = play(tmp_path / "run", run_settings, num_rounds=0)
    [request] = recorder.phases[0].requests[:1]
    numbers: dict[str, Any] = {"loss": 1.0, "score:beta": 0.5, "weight:beta": 0.25}
    reply = Message(pack_reply("alpha", numbers), reply_to=request.message)
    recorder.phases[0].phase = "proxy"
    recorder.reply_arrived(recorder.phases[0], "alpha", reply)
    record = recorder.finish(1)
    assert record is not None
    assert record.sites["alpha"] == {
        "proxy/loss": 1.0,
        "proxy/beta/score": 0.5,
        "proxy/beta/weight": 0.25,
    }
    assert record.edges == ()


def test_what_a_site_refused_is_in_the_audit_log_in_its_own_words(
    tmp_path: Path, run_settings: RunSettings
) -> None:
    words = "Site 'beta' refuses: max-rounds-per-day allows 1"

    def refuse(message: Message) -> Message | str:
        is_distil = message.metadata.message_type == messages.DISTIL
        return error_reply(message, words) if is_distil else WORKS

    recorded = play(
        tmp_path / "run", run_settings, distilled=DISTILLED, faults={1: refuse}
    )
    path = recorded.journal.folder / "audit.jsonl"
    verify(path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    [line] = [line for line in lines if line["note"]]
    assert line["note"] == words
    assert (line["site"], line["phase"], line["direction"], line["bytes"]) == (
        *("beta", "distil", "out"),
        0,
    )
