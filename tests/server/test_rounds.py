"""Whole federations inside one process: real apps, tiny frames, a few seconds."""

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from flwr.app import Message

from clients.app import app as client_app
from experiments.run_config import default_run_config
from server.attendance import TooFewSites
from server.checkpoints import load_foundation
from server.journal import read_events
from server.rounds import run_federation
from server.state_files import load_federation
from strategies import messages
from strategies.replies import error_reply, reply_metrics
from strategies.settings import SettingsError, SettingValue
from tests.federation import WORKS, Fault, InProcessGrid

Config = dict[str, SettingValue]


def tiny_in(folder: Path) -> Config:
    """Two rounds of next to nothing on three small hospitals."""
    sites = folder / "sites.toml"
    sites.write_text(
        "\n".join(
            f'[[site]]\nname = "{domain}-site"\ndomain = "{domain}"\n'
            "patients = 4\nframes-per-patient = 1\n"
            for domain in ("human", "phantom", "simulation")
        )
    )
    return {
        **default_run_config(),
        "output": str(folder / "run"),
        "sites": str(sites),
        "num-rounds": 2,
        "model.image-size": 32,
        "train.steps": 2,
        "train.batch-size": 2,
        "train.warmup-steps": 0,
        "fedefm.warmup-steps": 2,
        "fedefm.overseas-steps": 1,
        "fedefm.grid-size": 2,
        "join-timeout-s": 30.0,
        "phase-timeout-s": 30.0,
        "mlflow": False,
    }


@pytest.fixture
def tiny(tmp_path: Path) -> Config:
    return tiny_in(tmp_path)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of one finished run, for those who only look at it."""
    return run(tiny_in(tmp_path_factory.mktemp("played")))


def run(config: Config, faults: dict[int, Fault] | None = None) -> Path:
    return run_federation(InProcessGrid(client_app, config, 3, faults=faults), config)


def read(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / name).read_text())


def digest_of(folder: Path) -> str:
    return str(read(folder / "checkpoints", "foundation.json")["weights-digest"])


SITES = ["human-site", "phantom-site", "simulation-site"]


def test_a_federation_leaves_everything_a_user_needs(played: Path) -> None:
    result = read(played, "result.json")
    assert result["status"] == "completed"
    assert result["sites"] == SITES
    assert result["missing"] == []
    assert result["test"].keys() == set(SITES)
    for scores in [*result["test"].values(), result["global"]]:
        assert 0 <= scores["test/dice"] <= 1
    state, card = load_foundation(played / result["checkpoint"])
    assert all(torch.isfinite(tensor).all() for tensor in state.values())
    assert card["domains"] == ["human", "phantom", "simulation"]
    for name in ("curves", "edges", "topology"):
        assert (played / "figures" / f"{name}.png").stat().st_size > 1000


def test_every_round_is_recorded_with_its_edges_on_the_ring(played: Path) -> None:
    events = read_events(played / "metrics.jsonl")
    kinds = [
        event.get("phase", event["event"])
        for event in events
        if event["event"] != "tracking"
    ]
    federated = ["overseas", "distil", "evaluate", "round"]
    assert kinds == [
        "start",
        *("local", "evaluate", "round"),
        *federated,
        *federated,
        "evaluate",
        "end",
    ]
    rounds = [event for event in events if event["event"] == "round"]
    assert [event["round"] for event in rounds] == [0, 1, 2]
    assert rounds[0]["edges"] == []
    taught = [(edge["student"], edge["teacher"]) for edge in rounds[1]["edges"]]
    assert taught == [(SITES[0], SITES[2]), (SITES[1], SITES[0]), (SITES[2], SITES[1])]
    assert all(-1 <= edge["score"] <= 1 for edge in rounds[2]["edges"])
    assert rounds[1]["global"]["drift/consensus_distance"] > 0
    assert rounds[1]["sites"].keys() == set(SITES)


def test_training_changes_the_weights(played: Path, tiny: Config) -> None:
    state, _ = load_foundation(played / "checkpoints" / "foundation.safetensors")
    shorter = run({**tiny, "num-rounds": 1})
    other, _ = load_foundation(shorter / "checkpoints" / "foundation.safetensors")
    assert any(not torch.equal(state[name], other[name]) for name in state)


def test_the_same_seed_gives_the_same_bits(
    played: Path, tiny: Config, tmp_path: Path
) -> None:
    again = run({**tiny, "output": str(tmp_path / "again")})
    other = run({**tiny, "output": str(tmp_path / "other"), "seed": 1})
    assert digest_of(played) == digest_of(again) != digest_of(other)


def test_the_same_seed_of_fedavg_gives_the_same_bits(
    tiny: Config, tmp_path: Path
) -> None:
    one, again = (
        run({**tiny, "output": str(tmp_path / name), "strategy": "fedavg"})
        for name in ("one", "again")
    )
    assert digest_of(one) == digest_of(again)


def test_fedavg_is_flowers_own_mean_weighted_by_frames(tiny: Config) -> None:
    seen: list[Message] = []
    config = {**tiny, "strategy": "fedavg", "num-rounds": 1}
    grid = InProcessGrid(client_app, config, 3)
    answer = grid._answer
    grid._answer = lambda message: seen.append(reply := answer(message)) or reply  # type: ignore[method-assign,func-returns-value]
    folder = run_federation(grid, config)
    trained = [r for r in seen if messages.METRICS in r.content.metric_records]
    trained = [r for r in trained if r.content.array_records]
    states = [messages.to_state(r.content.array_records["arrays"]) for r in trained]
    counts = [reply_metrics(r)["num-examples"] for r in trained]
    theta, _ = load_foundation(folder / "checkpoints" / "foundation.safetensors")
    name = "mask_decoder.mask_tokens.weight"
    expected = sum(s[name] * n for s, n in zip(states, counts, strict=True))
    torch.testing.assert_close(theta[name], expected / sum(counts))


def failing(message_type: str) -> dict[int, Fault]:
    """The second hospital answers until it is asked for one kind of work."""

    def fault(message: Message) -> Message | str:
        if message.metadata.message_type == message_type:
            return error_reply(message, "The disk is full.")
        return WORKS

    return {1: fault}


def test_one_failing_hospital_stops_the_run_and_is_named(tiny: Config) -> None:
    words = "2 of 3 hospitals.*round 1, phase overseas.*phantom-site: The disk is full"
    with pytest.raises(TooFewSites, match=words):
        run(tiny, failing(messages.OVERSEAS))
    folder = Path(str(tiny["output"]))
    result = read(folder, "result.json")
    assert result["status"] == "failed"
    assert result["too_few_sites"]
    assert "phantom-site: The disk is full" in result["reason"]
    # What was computed before stays: the warm-up and its model.
    assert result["rounds"] == 1
    assert load_federation(folder).round_number == 0
    assert read_events(folder / "metrics.jsonl")[-1]["status"] == "failed"


def test_what_was_finished_is_kept_where_rounds_seldom_are(tiny: Config) -> None:
    def fault(message: Message) -> Message | str:
        if message.metadata.message_type == messages.OVERSEAS:
            if messages.unpack_round(message) == 2:
                return error_reply(message, "The disk is full.")
        return WORKS

    with pytest.raises(TooFewSites):
        run({**tiny, "keep-every-rounds": 100}, {1: fault})
    assert load_federation(Path(str(tiny["output"]))).round_number == 1


def test_with_fewer_sites_allowed_the_run_goes_on_without_it(tiny: Config) -> None:
    folder = run({**tiny, "min-sites": 2}, failing(messages.DISTIL))
    assert read(folder, "result.json")["status"] == "completed"
    rounds = [e for e in read_events(folder / "metrics.jsonl") if e["event"] == "round"]
    assert rounds[1]["failed"] == {"phantom-site": "distil: The disk is full."}


def test_a_hospital_without_its_folder_is_one_clear_error(
    tiny: Config, tmp_path: Path
) -> None:
    sites = Path(str(tiny["sites"]))
    sites.write_text(
        sites.read_text() + f'[[site]]\nname = "ward"\nfolder = "{tmp_path}/DOE^JANE"\n'
    )
    grid = InProcessGrid(client_app, tiny, 4)
    with pytest.raises(TooFewSites, match="Hospital 'ward': The data folder") as caught:
        run_federation(grid, tiny)
    assert "DOE" not in str(caught.value)
    assert "DOE" not in (Path(str(tiny["output"])) / "result.json").read_text()


def test_a_mask_of_another_size_is_one_clear_error(
    tiny: Config, tmp_path: Path
) -> None:
    for kind, size in (("images", 40), ("masks", 30)):
        folder = tmp_path / "ward" / kind
        folder.mkdir(parents=True)
        for name in ("DOE_1", "ROE_1", "POE_1"):
            pixels = np.arange(size * size, dtype=np.uint8).reshape(size, size)
            cv2.imwrite(str(folder / f"{name}.png"), pixels)
    sites = Path(str(tiny["sites"]))
    sites.write_text(
        sites.read_text()
        + '[[site]]\nname = "ward"\nfolder = "ward"\nclasses = ["catheter"]\n'
    )
    words = r"Hospital 'ward': Sequence S-\w+, frame 1: the mask has 30x30 px"
    with pytest.raises(TooFewSites, match=words) as caught:
        run_federation(InProcessGrid(client_app, tiny, 4), tiny)
    assert "DOE" not in str(caught.value)


def test_the_test_has_every_metric_of_every_hospital(played: Path) -> None:
    rows = read(played, "test_metrics.json")["rows"]
    assert {row["hospital"] for row in rows} == {*SITES, "all frames"}
    frames = {
        row["hospital"]: row["catheter.image"]
        for row in rows
        if row["metric"] == "frames"
    }
    assert frames["all frames"] == sum(frames[site] for site in SITES) > 0
    with (played / "test_metrics.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == len(rows)
    overall = read(played, "result.json")["global"]
    pooled = {row["metric"]: row for row in rows if row["hospital"] == "all frames"}
    assert overall["test/catheter/pooled.iou"] == pooled["iou"]["catheter.pooled"]
    rounds = [e for e in read_events(played / "metrics.jsonl") if e["event"] == "round"]
    assert "val/catheter/pooled.auc" not in rounds[-1]["global"]


def test_validation_measures_everything_when_asked(tiny: Config) -> None:
    folder = run({**tiny, "num-rounds": 1, "evaluation.measures": "all"})
    rounds = [e for e in read_events(folder / "metrics.jsonl") if e["event"] == "round"]
    assert 0 <= rounds[-1]["global"]["val/catheter/pooled.auc"] <= 1
    assert 0 <= rounds[-1]["sites"][SITES[0]]["val/catheter/pooled.auc"] <= 1


@pytest.mark.parametrize(
    ("strategy", "key", "value", "named"),
    [
        ("fedefm", "tp.catheter", 10**9, "catheter"),
        ("fedavg", "all.catheter.device.dice.total", -1.0, "dice"),
    ],
)
def test_impossible_numbers_are_the_failure_of_that_hospital_only(
    tiny: Config, strategy: str, key: str, value: float, named: str
) -> None:
    config = {
        **tiny,
        "num-rounds": 1,
        "min-sites": 2,
        "strategy": strategy,
        "evaluation.measures": "all",
    }
    grid = InProcessGrid(client_app, config, 3)
    answer = grid._answer

    def falsify(message: Message) -> Message | None:
        reply = answer(message)
        is_measured = message.metadata.message_type == messages.EVALUATE
        if is_measured and message.metadata.dst_node_id == 999 and reply is not None:
            reply.content.metric_records[messages.METRICS][key] = value
        return reply

    grid._answer = falsify  # type: ignore[method-assign]
    folder = run_federation(grid, config)

    result = read(folder, "result.json")
    assert result["sites"] == [SITES[0], SITES[2]]
    assert result["missing"] == [SITES[1]]
    events = read_events(folder / "metrics.jsonl")
    failed = [e["failed"] for e in events if e.get("phase") == "evaluate"]
    assert [list(one) for one in failed] == [[SITES[1]]] * len(failed)
    assert "cannot be used" in failed[-1][SITES[1]]
    assert named in failed[-1][SITES[1]]


def test_a_test_of_the_overlap_alone_is_refused(tiny: Config) -> None:
    config = {**tiny, "num-rounds": 1, "min-sites": 2}
    grid = InProcessGrid(client_app, config, 3)
    answer = grid._answer

    def shorten(message: Message) -> Message | None:
        reply = answer(message)
        is_measured = message.metadata.message_type == messages.EVALUATE
        if is_measured and message.metadata.dst_node_id == 999 and reply is not None:
            record = reply.content.metric_records[messages.METRICS]
            for key in [key for key in record if key.startswith("all.")]:
                del record[key]
        return reply

    grid._answer = shorten  # type: ignore[method-assign]
    assert read(run_federation(grid, config), "result.json")["missing"] == [SITES[1]]


def test_too_few_nodes_for_the_sites_file_say_how_to_start_more(tiny: Config) -> None:
    grid = InProcessGrid(client_app, tiny, 2)
    with pytest.raises(TooFewSites, match="num-supernodes=3"):
        run_federation(grid, tiny)


def test_an_unknown_setting_stops_the_run_before_anything_is_written(
    tiny: Config,
) -> None:
    with pytest.raises(
        SettingsError, match=r"fedefm\.betta.*did you mean fedefm\.beta"
    ):
        run({**tiny, "fedefm.betta": 0.1})
    assert not Path(str(tiny["output"])).exists()
