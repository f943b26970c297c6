import json
import math
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from server.journal import (
    Journal,
    RunFolderError,
    public_settings,
    read_events,
    to_jsonable,
    write_json,
)
from server.records import EdgeRecord, PhaseRecord, ResultRecord, RoundRecord

NOW = datetime(2026, 11, 21, 13, 5, 1)


def make_journal(folder: Path, **settings: str) -> Journal:
    return Journal.create(str(folder), {"strategy": "fedefm", **settings}, NOW)


def make_round(number: int, dice: float | None = 0.5) -> RoundRecord:
    return RoundRecord(
        round=number,
        seconds=9.5,
        sites={"a": {"val/dice": dice}},
        overall={"val/dice": dice},
        edges=(EdgeRecord("a", "b", 0.93, 0.5, 2e-9, 0.7, 300),),
        failed={"c": "overseas: timeout"},
        warnings=("they part",),
    )


def test_without_output_the_folder_is_named_after_the_time_and_the_strategy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    first = Journal.create("", {"strategy": "fedefm"}, NOW)
    second = Journal.create("", {"strategy": "fedefm"}, NOW)
    runs = tmp_path / "endofed-runs"
    assert first.folder == runs / "20261121-130501-fedefm"
    assert second.folder == runs / "20261121-130501-fedefm-2"


def test_a_new_run_folder_has_its_subfolders_and_settings(tmp_path: Path) -> None:
    journal = make_journal(tmp_path / "deep" / "run", seed="3")
    assert journal.folder == tmp_path / "deep" / "run"
    folders = {path.name for path in journal.folder.iterdir() if path.is_dir()}
    assert folders == {"checkpoints", "figures", "mlartifacts", "flower"}
    settings = json.loads((journal.folder / "settings.json").read_text())
    assert settings == {"seed": "3", "strategy": "fedefm"}


def test_a_relative_path_is_refused_without_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunFolderError, match="server runs elsewhere"):
        Journal.create("runs/mine", {}, NOW)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["result.json", "metrics.jsonl"])
def test_a_folder_that_holds_a_run_is_left_as_it_was(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(RunFolderError, match=name):
        make_journal(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "precious"


def test_a_folder_with_other_files_is_used(tmp_path: Path) -> None:
    (tmp_path / "flower").mkdir()
    (tmp_path / "flower" / "superlink.log").write_text("kept")
    make_journal(tmp_path)
    assert (tmp_path / "flower" / "superlink.log").read_text() == "kept"


def test_an_unwritable_place_is_named_as_such_but_not_by_its_path(
    tmp_path: Path,
) -> None:
    (tmp_path / "secret-file").write_text("")
    with pytest.raises(RunFolderError, match="may write") as caught:
        make_journal(tmp_path / "secret-file" / "run")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_settings_keep_no_path_of_the_machine() -> None:
    settings = {
        "output": "/home/alice/run",
        "sites": "/home/alice/sites.toml",
        "model.weights": "/home/alice/sam.safetensors",
        "reader": "C:\\alice\\x",
        "strategy": "fedefm",
        "train.learning-rate": 1e-3,
    }
    assert public_settings(settings) == {
        "sites": "custom",
        "model.weights": "custom",
        "reader": "custom",
        "strategy": "fedefm",
        "train.learning-rate": 1e-3,
    }
    assert public_settings({"sites": ""}) == {"sites": "default"}


def test_events_are_the_lines_of_the_contract(tmp_path: Path) -> None:
    make_journal(tmp_path)
    journal = Journal(tmp_path, clock=lambda: 12.5)
    journal.started("fedefm", 1, ("a", "b"))
    journal.phase(PhaseRecord(1, "overseas", 3.1, ("a",), {"b": "late"}, 10, 20))
    journal.round(make_round(1))
    journal.tracking_failed()
    journal.ended("failed", "too few sites")
    assert read_events(journal.events_path) == [
        {
            "event": "start",
            "time": 12.5,
            "strategy": "fedefm",
            "num_rounds": 1,
            "sites": ["a", "b"],
        },
        {
            "event": "phase",
            "time": 12.5,
            "round": 1,
            "phase": "overseas",
            "seconds": 3.1,
            "replied": ["a"],
            "failed": {"b": "late"},
            "bytes_up": 10,
            "bytes_down": 20,
        },
        {
            "event": "round",
            "time": 12.5,
            "round": 1,
            "seconds": 9.5,
            "sites": {"a": {"val/dice": 0.5}},
            "global": {"val/dice": 0.5},
            "edges": [
                {
                    "student": "a",
                    "teacher": "b",
                    "score": 0.93,
                    "weight": 0.5,
                    "gap": 2e-9,
                    "teacher_loss": 0.7,
                    "num_bytes": 300,
                    "is_control": False,
                }
            ],
            "failed": {"c": "overseas: timeout"},
            "warnings": ["they part"],
        },
        {"event": "tracking", "time": 12.5, "tracking": "failed"},
        {"event": "end", "time": 12.5, "status": "failed", "reason": "too few sites"},
    ]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_a_number_that_is_none_is_written_as_null(tmp_path: Path, bad: float) -> None:
    journal = make_journal(tmp_path)
    journal.round(make_round(0, dice=bad))
    text = journal.events_path.read_text()
    assert '"val/dice": null' in text
    assert "NaN" not in text
    assert "Infinity" not in text


def test_numpy_numbers_become_plain_numbers_and_tensors_are_refused() -> None:
    found = to_jsonable({"a": np.float32(0.5), "b": np.int64(3), "c": True})
    assert found == {"a": 0.5, "b": 3, "c": True}
    assert [type(value) for value in found.values()] == [float, int, bool]
    with pytest.raises(TypeError, match="ndarray"):
        to_jsonable(np.zeros(2))


def test_a_line_break_in_a_reason_does_not_break_the_line(tmp_path: Path) -> None:
    journal = make_journal(tmp_path)
    journal.ended("failed", "first\nsecond\u2028third")
    assert read_events(journal.events_path)[0]["reason"] == "first\nsecond\u2028third"
    assert journal.events_path.read_bytes().count(b"\n") == 1


def test_a_file_cut_anywhere_gives_all_its_whole_lines(tmp_path: Path) -> None:
    journal = make_journal(tmp_path)
    journal.ended("completed", "é")
    journal.ended("completed", "ü")
    whole = journal.events_path.read_bytes()
    first_line = whole.index(b"\n") + 1
    for length in range(first_line, len(whole) + 1):
        journal.events_path.write_bytes(whole[:length])
        reasons = [event["reason"] for event in read_events(journal.events_path)]
        assert reasons == (["é"] if length < len(whole) - 1 else ["é", "ü"])


def test_a_broken_line_in_the_middle_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"event": "start"}\n{"eve\n{"event": "end"}\n')
    with pytest.raises(ValueError, match="Line 2"):
        read_events(path)


def test_a_run_that_has_not_begun_has_no_events(tmp_path: Path) -> None:
    assert read_events(tmp_path / "metrics.jsonl") == []


def test_the_result_has_the_keys_of_the_contract(tmp_path: Path) -> None:
    journal = make_journal(tmp_path)
    journal.result(
        ResultRecord(
            status="completed",
            rounds=8,
            sites=("a",),
            missing=("c",),
            test={"a": {"test/dice": 0.5}},
            overall={"test/dice": math.nan},
            emd={"mean": 0.9, "diagonal": None},
            checkpoint="checkpoints/foundation.safetensors",
        )
    )
    assert json.loads((tmp_path / "result.json").read_text()) == {
        "status": "completed",
        "rounds": 8,
        "sites": ["a"],
        "missing": ["c"],
        "test": {"a": {"test/dice": 0.5}},
        "global": {"test/dice": None},
        "emd": {"mean": 0.9, "diagonal": None},
        "checkpoint": "checkpoints/foundation.safetensors",
        "reason": "",
        "too_few_sites": False,
    }


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = write_json(tmp_path / "sites.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": 2, "b": object()})
    assert json.loads(path.read_text()) == {"a": 1}


@pytest.mark.parametrize("name", ["../x.json", "/tmp/x.json", "a/b.json"])
def test_files_stay_in_the_run_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="plain name"):
        make_journal(tmp_path / "run").write_json(name, {})
    with pytest.raises(ValueError, match="plain name"):
        make_journal(tmp_path / "other").write_text(name, "")


def test_a_text_is_written_as_it_is(tmp_path: Path) -> None:
    path = make_journal(tmp_path / "run").write_text("x.csv", "a,b\n1,–\n")
    assert path.read_bytes() == "a,b\n1,–\n".encode()
