"""What many tests share: the project's settings and one thread for torch."""

import tomllib
from pathlib import Path

import pytest
import torch

from strategies.settings import RunSettings, SettingValue

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"
"""Small real X-ray sets that may lie beside a checkout; nobody needs them."""


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def run_config() -> dict[str, SettingValue]:
    """The complete flat run config, as Flower would hand it to an app."""
    with (ROOT / "pyproject.toml").open("rb") as stream:
        config = tomllib.load(stream)["tool"]["flwr"]["app"]["config"]
    flat: dict[str, SettingValue] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat.update({f"{key}.{inner}": v for inner, v in value.items()})
        else:
            flat[key] = value
    return flat


@pytest.fixture
def run_settings(run_config: dict[str, SettingValue]) -> RunSettings:
    return RunSettings.from_run_config(run_config)
