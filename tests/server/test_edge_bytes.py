"""What teachers cost: added up by hand, and against the bytes of the phases."""

from pathlib import Path

import pytest
import torch
from flwr.app import Message

from server.packing import count_bytes
from strategies import messages
from strategies.replies import pack_reply
from strategies.settings import RunSettings
from tests.server.small_hospitals import WEIGHTS, Recorded, play

MODEL = count_bytes(
    messages.pack_job(round_number=0, arrays=messages.from_state(WEIGHTS))
)
FOUR = ("alpha", "beta", "delta", "gamma")


def edge_bytes(recorder: Recorded, number: int = 1) -> dict[tuple[str, str], int]:
    [event] = [one for one in recorder.rounds() if one["round"] == number]
    return {
        (edge["student"], edge["teacher"]): edge["num_bytes"] for edge in event["edges"]
    }


def phase_bytes(recorder: Recorded, number: int = 1) -> int:
    return sum(
        one.bytes_up + one.bytes_down
        for one in recorder.phases
        if one.round_number == number and one.phase in ("overseas", "distil")
    )


def other_bytes(recorder: Recorded) -> int:
    return phase_bytes(recorder) - sum(edge_bytes(recorder).values())


def test_an_edge_costs_a_journey_there_and_back_and_a_lesson(
    tmp_path: Path, run_settings: RunSettings
) -> None:
    run = play(tmp_path / "run", run_settings, topology="ring", feedback="none")
    assert edge_bytes(run) == {
        ("alpha", "gamma"): 3 * MODEL,
        ("beta", "alpha"): 3 * MODEL,
        ("gamma", "beta"): 3 * MODEL,
    }
    assert other_bytes(run) == 3 * 2 * MODEL  # the students' own, there and back


def test_a_copy_for_everybody_is_shared_among_its_students(
    tmp_path: Path, run_settings: RunSettings
) -> None:
    run = play(tmp_path / "run", run_settings, topology="complete", feedback="mean")
    # Three copies there and back, each for two students; six teachers in requests.
    assert set(edge_bytes(run).values()) == {MODEL + MODEL}
    assert len(edge_bytes(run)) == 6
    assert other_bytes(run) == 3 * 2 * MODEL


def test_what_cannot_be_shared_evenly_still_adds_up(
    tmp_path: Path, run_settings: RunSettings
) -> None:
    run = play(
        tmp_path / "run", run_settings, sites=FOUR, topology="complete", feedback="mean"
    )
    each, left = divmod(2 * MODEL, 3)
    assert left  # else this test shows nothing
    assert edge_bytes(run)["alpha", "beta"] == each + 1 + MODEL
    assert edge_bytes(run)["gamma", "beta"] == each + MODEL
    assert other_bytes(run) == 4 * 2 * MODEL


def test_a_host_that_stays_silent_costs_its_students_what_was_sent(
    tmp_path: Path, run_settings: RunSettings
) -> None:
    def silent(message: Message) -> Message | str | None:
        is_overseas = message.metadata.message_type == messages.OVERSEAS
        return None if is_overseas else "works"

    ring = play(
        tmp_path / "ring",
        run_settings,
        topology="ring",
        feedback="none",
        faults={1: silent},
    )
    assert edge_bytes(ring)["gamma", "beta"] == MODEL
    [edge] = [one for one in ring.rounds()[1]["edges"] if one["teacher"] == "beta"]
    assert edge["score"] is None
    assert other_bytes(ring) == 3 * 2 * MODEL

    full = play(
        tmp_path / "full",
        run_settings,
        topology="complete",
        feedback="mean",
        faults={1: silent},
    )
    # Nobody got beta's copy: it is no edge's.
    assert all(host != "beta" for _, host in edge_bytes(full))
    assert other_bytes(full) == 3 * 2 * MODEL + MODEL


def test_a_refused_reply_is_paid_for_but_by_no_edge(
    tmp_path: Path, run_settings: RunSettings
) -> None:
    def wrong(message: Message) -> Message | str | None:
        if message.metadata.message_type != messages.OVERSEAS:
            return "works"
        state = {"w": torch.zeros(64)}
        owner = messages.unpack_owner(message)
        content = pack_reply("beta", {}, state=state, owner=owner)
        return Message(content, reply_to=message)

    run = play(
        tmp_path / "run",
        run_settings,
        topology="ring",
        feedback="none",
        faults={1: wrong},
    )
    refused = count_bytes(pack_reply("", {}, state={"w": torch.zeros(64)}))
    assert edge_bytes(run)["gamma", "beta"] == MODEL
    assert other_bytes(run) == 3 * 2 * MODEL + refused


def test_neighbours_that_teach_as_they_are_cost_the_lesson_only(
    tmp_path: Path, run_settings: RunSettings
) -> None:
    run = play(
        tmp_path / "run", run_settings, topology="complete", teachers="neighbour"
    )
    assert set(edge_bytes(run).values()) == {MODEL}
    assert other_bytes(run) == 3 * 2 * MODEL


@pytest.mark.parametrize("feedback", ["none", "mean"])
def test_the_total_of_all_edges_is_told_for_the_round(
    tmp_path: Path, run_settings: RunSettings, feedback: str
) -> None:
    run = play(tmp_path / "run", run_settings, topology="complete", feedback=feedback)
    warm_up, first = run.rounds()
    assert "comm/bytes_edges" not in warm_up["global"]
    assert first["global"]["comm/bytes_edges"] == sum(edge_bytes(run).values())
