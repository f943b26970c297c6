"""A deployed hospital: every request is logged, and what is not allowed is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from clients.app import app as client_app
from clients.data.identity import SiteKey
from models.assembly import assemble_model
from server.rounds import run_federation
from strategies import messages
from strategies.audit import verify
from strategies.replies import failure_reason, reply_state
from strategies.settings import RunSettings, SettingValue
from strategies.wire import decode
from tests.clients.site_kit import write_site_file
from tests.federation import InProcessGrid

Config = dict[str, SettingValue]


@pytest.fixture
def small(run_config: Config) -> Config:
    """One step of everything on two frames of 32 px."""
    return {
        **run_config,
        "num-rounds": 1,
        "model.image-size": 32,
        "train.steps": 1,
        "train.batch-size": 2,
        "train.warmup-steps": 0,
        "fedefm.warmup-steps": 1,
        "fedefm.overseas-steps": 1,
        "fedefm.grid-size": 2,
        "mlflow": False,
    }


def ask(
    site_file: Path,
    config: Config,
    kind: str = messages.INTRODUCE,
    round_number: int = 1,
    *,
    run: int = 7,
    state: dict[str, torch.Tensor] | None = None,
    teachers: dict[str, ArrayRecord] | None = None,
) -> Message:
    """Send a request to a deployed hospital, as Flower would."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run, 5, 1
    arrays = None if state is None else messages.from_state(state)
    content = messages.pack_job(
        round_number=round_number, arrays=arrays, teachers=teachers or {}
    )
    node_config = {"site-file": str(site_file)}
    context = Context(run, 5, node_config, RecordDict(), config)
    request = Message(content, 5, kind)
    request.metadata.__dict__["_message_id"] = "abc"
    return client_app(request, context)


def fresh_state(config: Config) -> dict[str, torch.Tensor]:
    settings = RunSettings.from_run_config(config)
    return assemble_model(settings.model.recipe(settings.seed)).trainable_state()


def read_log(folder: Path) -> list[dict[str, Any]]:
    path = folder / "state" / "audit.jsonl"
    verify(path)
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_deployed_hospital_introduces_itself_and_keeps_its_files_in_state(
    tmp_path: Path, small: Config
) -> None:
    reply = ask(write_site_file(tmp_path), small)
    facts = reply.content.config_records[messages.CONFIG]
    assert (facts[messages.SITE], facts["num-sites"]) == ("hillside", 0)
    assert SiteKey.load_or_create(tmp_path / "state" / "site.key")
    assert str(tmp_path) not in str(dict(facts))
    assert [(one["direction"], one["phase"], one["run"]) for one in read_log(tmp_path)]


def test_what_came_and_what_left_is_in_the_log_with_its_fingerprint(
    tmp_path: Path, small: Config
) -> None:
    reply = ask(
        write_site_file(tmp_path), small, messages.TRAIN, state=fresh_state(small)
    )
    came, left = read_log(tmp_path)
    assert (came["direction"], left["direction"]) == ("in", "out")
    assert came["digest"] != left["digest"]
    assert len(left["digest"]) == 64
    arrays = reply.content.array_records[messages.ARRAYS]
    assert left["bytes"] == sum(len(array.data) for array in arrays.values())
    assert left["tensors"] == len(decode(arrays))
    assert (came["note"], left["note"]) == ("", "")


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        ({"strategies": ["fedavg"]}, "strategies"),
        ({"models": ["unet"]}, "models"),
        ({"settings": {"train.batch-size": {"max": 1}}}, "train.batch-size"),
    ],
)
def test_a_refusal_is_answered_and_logged_and_nothing_leaves(
    tmp_path: Path, small: Config, limits: dict[str, Any], word: str
) -> None:
    reply = ask(write_site_file(tmp_path, limits=limits), small)
    reason = failure_reason(reply)
    assert reason.startswith("Site 'hillside' refuses: ")
    assert word in reason
    came, left = read_log(tmp_path)
    assert came["note"] == left["note"] == reason
    assert (left["bytes"], left["tensors"], left["digest"]) == (0, 0, "")


def test_the_rounds_of_a_day_are_counted_over_runs_and_restarts(
    tmp_path: Path, small: Config
) -> None:
    site = write_site_file(tmp_path, limits={"max-rounds-per-day": 1})
    state = fresh_state(small)
    for kind in (messages.TRAIN, messages.EVALUATE):
        assert not ask(site, small, kind, 1, state=state).has_error()
    for run, number in ((7, 2), (8, 1)):
        reply = ask(site, small, messages.TRAIN, number, run=run, state=state)
        assert "max-rounds-per-day allows 1" in failure_reason(reply)
    assert not ask(site, small, messages.EVALUATE, 1, state=state).has_error()


def test_too_few_patients_are_refused_by_the_site(
    tmp_path: Path, small: Config
) -> None:
    reply = ask(write_site_file(tmp_path, limits={"min-patients": 4}), small)
    assert "At least 4 patients are needed" in failure_reason(reply)
    assert "min-patients" in read_log(tmp_path)[1]["note"]


def test_a_training_is_given_up_at_the_sites_own_deadline(
    tmp_path: Path, small: Config
) -> None:
    site = write_site_file(tmp_path, limits={"max-seconds-per-phase": 1e-6})
    reply = ask(site, small, messages.TRAIN, state=fresh_state(small))
    assert "training reached 0 of 1 steps" in failure_reason(reply)


def test_a_sites_own_norm_bounds_what_leaves(tmp_path: Path, small: Config) -> None:
    received = fresh_state(small)
    site = write_site_file(tmp_path, privacy={"clip-norm": 1e-3})
    reply = ask(site, small, messages.TRAIN, state=received)
    left = reply_state(reply)
    change = torch.cat([(left[name] - received[name]).reshape(-1) for name in left])
    assert 0 < change.norm().item() < 1.01e-3


@pytest.mark.parametrize(
    ("frames", "is_bound"), [("hospital", True), ("simulated", False)]
)
def test_the_norm_bounds_what_a_sites_own_frames_taught_and_nothing_else(
    tmp_path: Path, small: Config, frames: str, is_bound: bool
) -> None:
    received = fresh_state(small)
    site = write_site_file(tmp_path, privacy={"clip-norm": 1e-3})
    told = {
        **small,
        "fedefm.teach-on": "proxy",
        "fedefm.proxy-frames": frames,
        "fedefm.proxy-steps": 1,
    }
    teachers = {"lakeview": messages.from_state(fresh_state({**small, "seed": 9}))}
    reply = ask(site, told, messages.PROXY, state=received, teachers=teachers)
    left = reply_state(reply)
    change = torch.cat([(left[name] - received[name]).reshape(-1) for name in left])
    assert (0 < change.norm().item() < 1.01e-3) == is_bound


def test_nothing_is_answered_when_somebody_changed_the_log(
    tmp_path: Path, small: Config
) -> None:
    site = write_site_file(tmp_path)
    ask(site, small)
    path = tmp_path / "state" / "audit.jsonl"
    path.write_text(path.read_text().replace('"round": 1', '"round": 2'))
    reason = failure_reason(ask(site, small))
    assert "Line 2 of the audit log does not follow" in reason


def test_mistakes_of_a_site_file_are_told_without_its_path(
    tmp_path: Path, small: Config
) -> None:
    site = write_site_file(tmp_path / "MARKER", machine={"device": "tpu"})
    reason = failure_reason(ask(site, small))
    assert "device must be one of auto, cpu, cuda" in reason
    assert "MARKER" not in reason


def test_an_unknown_failure_is_logged_without_its_text(
    tmp_path: Path, small: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("cannot open /archive/DOE^JANE/001.dcm")

    monkeypatch.setattr("clients.app.train_on_labels", fail)
    state = fresh_state(small)
    reply = ask(write_site_file(tmp_path), small, messages.TRAIN, state=state)
    note = read_log(tmp_path)[1]["note"]
    assert note.startswith("Unexpected OSError")
    assert "DOE" not in note + failure_reason(reply)


class DeployedGrid(InProcessGrid):
    """A federation whose hospitals each have a site file."""

    def __init__(self, config: Config, site_files: list[Path]) -> None:
        super().__init__(client_app, config, len(site_files))
        for context, path in zip(self.contexts.values(), site_files, strict=True):
            context.node_config = {"site-file": str(path)}


def test_a_refusal_is_in_the_logs_of_both_ends_and_the_run_goes_on(
    tmp_path: Path, small: Config
) -> None:
    limits = {"hillside": {}, "lakeview": {}, "northgate": {"models": ["unet"]}}
    files = [
        write_site_file(tmp_path / name, site={"name": name}, limits=own)
        for name, own in limits.items()
    ]
    config = {
        **small,
        "output": str(tmp_path / "run"),
        "min-sites": 2,
        "join-timeout-s": 60.0,
        "strategy": "fedavg",
    }
    folder = run_federation(DeployedGrid(config, files), config)
    lines = [json.loads(one) for one in (folder / "audit.jsonl").open()]
    refused = [one for one in lines if one["note"]]
    assert len(refused) == 1
    assert refused[0]["note"] == read_log(tmp_path / "northgate")[1]["note"]
    assert "Site 'northgate' refuses: models allows unet" in refused[0]["note"]
    # What trained is told alike by the server and by the site.
    own = [
        (one["phase"], one["direction"], one["bytes"], one["digest"])
        for one in read_log(tmp_path / "hillside")
        if one["phase"] != "introduce"
    ]
    theirs = [
        (one["phase"], one["direction"], one["bytes"], one["digest"])
        for one in lines
        if one["site"] == "hillside"
    ]
    assert own
    assert sorted(own) == sorted(theirs)
