"""What many tests share: the project's settings and one thread for torch."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from experiments.run_config import default_run_config
from strategies.settings import RunSettings, SettingValue

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"
"""Small real X-ray sets that may lie beside a checkout; nobody needs them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep real runs where `make simulation` looks for them."""
    for item in items:
        is_there = item.path.is_relative_to(ROOT / "tests" / "experiments")
        if item.get_closest_marker("simulation") and not is_there:
            raise pytest.UsageError(f"{item.nodeid}: move it to tests/experiments.")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Begin with one thread, whatever a command under test has asked for before."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def a_site_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the site key and the cache of whoever runs the tests out of them."""
    folder = tmp_path_factory.mktemp("site")
    own = {"ENDOFED_KEY": "site.key", "ENDOFED_CACHE": "cache"}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update({name: str(folder / file) for name, file in own.items()})
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def phantom_xa() -> Path:
    """Real X-ray frames of a coronary phantom; without them a test is skipped."""
    return _real_set("phantom_xa")


@pytest.fixture(scope="session")
def picc_cxr() -> Path:
    """Real chest films with a PICC; without them a test is skipped."""
    return _real_set("picc_cxr")


def _real_set(name: str) -> Path:
    folder = SHARED_DATA / name
    if not folder.is_dir():
        pytest.skip(f"the real set shared/data/{name} is not beside the checkout")
    return folder


@pytest.fixture
def run_config() -> dict[str, SettingValue]:
    """The complete flat run config, as Flower would hand it to an app."""
    return default_run_config()


@pytest.fixture
def run_settings(run_config: dict[str, SettingValue]) -> RunSettings:
    return RunSettings.from_run_config(run_config)
