"""The matrix of every silo's model on every silo's frames, after whole small runs."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Message
from matplotlib.image import imread

from clients.app import app as client_app
from experiments.report.page import make_page
from experiments.report.reading import read_run
from models.metrics import SegmentationCounts
from models.weights import weights_digest
from server.cross_site import CrossSite
from server.cross_site_figure import draw_cross_site
from server.journal import read_events
from server.rounds import run_federation
from server.state_files import kept_silos, save_silo
from strategies import messages
from strategies.audit import verify
from strategies.evaluation import Evaluation
from strategies.replies import error_reply
from strategies.settings import SettingValue
from tests.experiments.report_run import text_of
from tests.federation import InProcessGrid

Config = dict[str, SettingValue]
SITES = ["human-site", "phantom-site"]


@pytest.fixture
def asked_for(tiny_run: Config) -> Config:
    # The first introduction of a process takes longer on a busy machine.
    return {**tiny_run, "evaluation.cross-site": True, "join-timeout-s": 30.0}


def play(config: Config) -> tuple[Path, InProcessGrid]:
    grid = InProcessGrid(client_app, config, 2)
    return run_federation(grid, config), grid


def read(folder: Path, name: str = "cross_site.json") -> dict[str, Any]:
    return json.loads((folder / name).read_text())


def asked_to_test(grid: InProcessGrid) -> list[Message]:
    """Return the requests to measure test frames."""
    return [
        message
        for message in grid.sent
        if message.metadata.message_type == messages.EVALUATE
        and messages.unpack_split(message) == "test"
    ]


def test_every_silos_own_model_meets_every_silos_test_frames(asked_for: Config) -> None:
    folder, grid = play(asked_for)
    found = read(folder)
    assert found["metric"] == "dice"
    assert found["values"].keys() == set(SITES)
    for row in (*found["values"].values(), found["foundation"]):
        assert row.keys() == set(SITES)
        assert all(0 <= value <= 1 for value in row.values())
    result = read(folder, "result.json")["test"]
    assert found["foundation"] == {s: result[s]["test/dice"] for s in SITES}
    # What was sent is what the run has kept: Theta first, then a silo after another.
    sent = [
        weights_digest(messages.to_state(one.content.array_records[messages.ARRAYS]))
        for one in asked_to_test(grid)
    ]
    kept = {name: weights_digest(state) for name, state in kept_silos(folder)}
    assert sent[2:] == [kept[site] for site in SITES for _ in SITES]
    assert kept[SITES[0]] != kept[SITES[1]]
    assert sent[0] not in kept.values()


def test_the_means_at_home_and_abroad_are_those_of_the_matrix(
    asked_for: Config,
) -> None:
    found = read(play(asked_for)[0])
    one, two = SITES
    values = found["values"]
    home = (values[one][one] + values[two][two]) / 2
    abroad = (values[one][two] + values[two][one]) / 2
    assert found["summary"]["home"] == pytest.approx(home)
    assert found["summary"]["abroad"] == pytest.approx(abroad)


def test_the_matrix_is_a_table_a_picture_a_page_and_in_the_audit_log(
    asked_for: Config,
) -> None:
    folder, _ = play(asked_for)
    with (folder / "cross_site.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["kind"] for row in rows] == ["silo"] * 4 + ["foundation"] * 2
    values = read(folder)["values"]
    for row in rows[:4]:
        assert float(row["dice"]) == values[row["model"]][row["hospital"]]
        assert int(row["frames"]) > 0
    assert imread(folder / "figures" / "cross_site.png").std() > 0.05
    text = text_of(make_page(read_run(folder)))
    assert "Models on each other's data" in text
    assert "Θ, accumulated" in text
    assert "at home and" in text
    assert verify(folder / "audit.jsonl") > 0


def test_it_is_measured_only_when_asked_for(asked_for: Config) -> None:
    folder, grid = play({**asked_for, "evaluation.cross-site": False})
    assert len(asked_to_test(grid)) == 2
    assert not list(folder.rglob("cross_site*"))


def test_fedavg_has_no_models_of_silos_and_says_so(
    asked_for: Config, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING"):
        folder, _ = play({**asked_for, "strategy": "fedavg"})
    assert read(folder, "result.json")["status"] == "completed"
    assert not (folder / "cross_site.json").exists()
    assert "Set strategy to fedefm" in caplog.text


def test_a_site_that_falls_silent_leaves_a_gap_and_is_not_asked_again(
    asked_for: Config,
) -> None:
    grid = InProcessGrid(client_app, asked_for, 2)
    answer, seen = grid._answer, []

    def fail_late(message: Message) -> Message | None:
        if message in asked_to_test(grid) and message.metadata.dst_node_id == 999:
            seen.append(message)
            if len(seen) == 2:  # Theta was the first
                return error_reply(message, "The disk is full.")
        return answer(message)

    grid._answer = fail_late  # type: ignore[method-assign]
    folder = run_federation(grid, asked_for)
    assert read(folder, "result.json")["status"] == "completed"
    assert read(folder, "result.json")["sites"] == SITES
    found = read(folder)["values"]
    assert [list(found[site]) for site in SITES] == [SITES[:1], SITES[:1]]
    assert len(seen) == 2
    failed = [
        e["failed"] for e in read_events(folder / "metrics.jsonl") if "failed" in e
    ]
    assert {SITES[1]: "The disk is full."} in failed


def test_a_damaged_model_costs_the_matrix_and_not_the_run(
    asked_for: Config, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(folder: Path, silo: str, number: int, state: Any) -> None:  # noqa: ANN401
        save_silo(folder, silo, number, state).write_bytes(b"half")

    monkeypatch.setattr("server.rounds.save_silo", damage)
    with caplog.at_level("WARNING"):
        folder, _ = play(asked_for)
    assert read(folder, "result.json")["status"] == "completed"
    assert "cross-site matrix" in caplog.text
    assert str(folder) not in caplog.text


def test_kept_models_come_back_by_their_names(tmp_path: Path) -> None:
    state = {"w": torch.zeros(2)}
    for name in ("b/ä", "a"):
        save_silo(tmp_path, name, 3, state)
    assert [name for name, _ in kept_silos(tmp_path)] == ["a", "b/ä"]
    assert list(kept_silos(tmp_path / "none")) == []


def test_where_nothing_could_be_scored_the_matrix_is_empty_and_is_drawn(
    tmp_path: Path,
) -> None:
    nothing = Evaluation(1, 0.5, SegmentationCounts.zero())
    matrix = CrossSite({"a": {"a": nothing}}, {"a": nothing})
    assert matrix.values() == {"a": {"a": None}}
    assert matrix.summary() == {"home": None, "abroad": None, "foundation": None}
    path = draw_cross_site(matrix.values(), {"a": None}, tmp_path / "one.png")
    assert path.stat().st_size > 1000
