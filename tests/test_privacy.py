"""Nothing that a federation writes tells whose images it was trained on."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Message

from clients.app import app as client_app
from experiments.in_process import take_identity
from server.rounds import run_federation
from strategies.replies import pack_reply
from strategies.settings import SettingValue
from tests.clients.planting import (
    LABEL,
    TRACES,
    plant_damage,
    plant_site,
    traces_below,
    traces_in,
)
from tests.federation import InProcessGrid

Config = dict[str, SettingValue]


class ListeningGrid(InProcessGrid):
    """Looks through all that travels, in both directions."""

    def __init__(self, run_config: Config) -> None:
        super().__init__(client_app, run_config, 3)
        self.traces: list[str] = []
        self.num_bytes = 0

    def _answer(self, message: Message) -> Message | None:
        reply = super()._answer(message)
        for one in (message, reply):
            if one is not None:
                for part in parts_of(one):
                    self.traces += traces_in(part)
                    self.num_bytes += len(part)
        return reply


def parts_of(message: Message) -> Iterator[str | bytes]:
    """Yield all that a message carries; arrays as the bytes that travel."""
    if not message.has_content():
        yield message.error.reason
        return
    arrays = message.content.array_records
    yield repr({key: one for key, one in message.content.items() if key not in arrays})
    for record, named in arrays.items():
        for name, array in named.items():
            yield f"{record} {name} {array.dtype} {array.shape} {array.stype}"
            yield array.data


@pytest.fixture
def planted(run_config: Config, tmp_path: Path) -> Config:
    """One hospital with traces in every header and name, two simulated ones."""
    plant_site(tmp_path / "hospital", patients=6)
    sites = tmp_path / "sites.toml"
    sites.write_text(
        '[[site]]\nname = "ward"\nfolder = "hospital"\nclasses = ["catheter"]\n'
        f'labels = {{ {json.dumps(LABEL)} = "catheter" }}\nskip-damaged = true\n'
        + "".join(
            f'[[site]]\nname = "{name}"\ndomain = "{name}"\npatients = 3\n'
            for name in ("human", "phantom")
        )
    )
    return {
        **run_config,
        "output": str(tmp_path / "run"),
        "sites": str(sites),
        "num-rounds": 1,
        "model.image-size": 32,
        "train.steps": 1,
        "train.batch-size": 2,
        "fedefm.warmup-steps": 1,
        "fedefm.overseas-steps": 1,
        "fedefm.grid-size": 2,
        "join-timeout-s": 60.0,
    }


@pytest.mark.parametrize("state", ["whole", "damaged", "refused"])
def test_no_trace_of_a_patient_is_in_anything_that_a_run_writes(
    planted: Config,
    tmp_path: Path,
    state: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if state != "whole":
        plant_damage(tmp_path / "hospital")
    if state == "refused":
        sites = tmp_path / "sites.toml"
        sites.write_text(sites.read_text().replace("skip-damaged = true", ""))
    caplog.set_level(logging.DEBUG)
    grid = ListeningGrid(planted)

    # MLflow takes many seconds to make its database; once is enough.
    folder = run_federation(
        grid, {**planted, "min-sites": 2, "mlflow": state == "whole"}
    )

    result = json.loads((folder / "result.json").read_text())
    assert ("ward" in result["test"]) == (state != "refused")
    assert len(caplog.text) > 1000  # otherwise nothing was looked through
    assert traces_below(folder) == {}
    assert grid.num_bytes > 10_000_000  # a model is 8 MB
    assert grid.traces == []
    assert traces_in(caplog.text) == []
    written = capfd.readouterr()
    assert traces_in(written.out + written.err) == []


def test_a_trace_in_any_part_of_a_message_is_heard() -> None:
    marker = f"the {TRACES[0]} of somebody"
    weights = {"w": torch.zeros(70_000)}
    hidden = np.frombuffer(marker.encode("utf-16"), dtype=np.uint8).astype(np.int8)
    hidden = torch.from_numpy(hidden.copy())
    take_identity()
    for content in (
        pack_reply(marker, {}, state=weights),
        pack_reply("a", {marker: 1.0}, state=weights),
        pack_reply("a", {}, state={marker: weights["w"]}),
        pack_reply("a", {}, state={**weights, "x": hidden}),
        pack_reply("a", {}, state=weights, aids={marker: weights}),
    ):
        parts = list(parts_of(Message(content, 1, "train")))
        assert [trace for part in parts for trace in traces_in(part)] == [TRACES[0]]
