"""A small federation file, and a provision made of it once."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from experiments.deployment import kit
from experiments.deployment.provision import provision

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FEDERATION = """
name = "trial"
address = "fl.example.org"
also = ["10.0.0.5"]

[limits]
max-rounds-per-day = 200
[limits.settings]
"train.steps" = { max = 100 }

[[site]]
name = "hillside"
classes = ["catheter"]
labels = { 'a "tube"' = "catheter" }

[[site]]
name = "northgate"
memory-gib = 0.5
[site.limits]
min-patients = 5
"""


@pytest.fixture
def federation_text() -> str:
    return FEDERATION


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture(autouse=True, scope="module")
def compose_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stand-ins, so that these tests say nothing about containers."""
    folder = tmp_path_factory.mktemp("docker")
    for name in (kit.SITE_COMPOSE, kit.SERVER_COMPOSE):
        (folder / name).write_text("services: {}\n")
    return folder


@pytest.fixture(autouse=True)
def compose_folder(compose_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit, "COMPOSE_FOLDER", compose_files)


@pytest.fixture
def provisioned(tmp_path: Path) -> Path:
    """A folder as `endofed provision` leaves it, made at NOW."""
    provision(FEDERATION, tmp_path / "trial", NOW)
    return tmp_path / "trial"
