"""Nothing that a federation writes tells whose images it was trained on."""

import json
import logging
from pathlib import Path

import pytest
from flwr.app import Message

from clients.app import app as client_app
from server.rounds import run_federation
from strategies.settings import SettingValue
from tests.clients.planting import (
    LABEL,
    plant_damage,
    plant_site,
    traces_below,
    traces_in,
)
from tests.federation import InProcessGrid

Config = dict[str, SettingValue]


class ListeningGrid(InProcessGrid):
    """Keeps a copy of all that travels, in both directions."""

    def __init__(self, run_config: Config) -> None:
        super().__init__(client_app, run_config, 3)
        self.heard: list[str] = []

    def _answer(self, message: Message) -> Message | None:
        reply = super()._answer(message)
        for one in (message, reply):
            if one is not None and one.has_content():
                self.heard.append(repr(dict(one.content)))
            elif one is not None:
                self.heard.append(one.error.reason)
        return reply


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
    assert traces_in("\n".join(grid.heard)) == []
    assert traces_in(caplog.text) == []
    written = capfd.readouterr()
    assert traces_in(written.out + written.err) == []
