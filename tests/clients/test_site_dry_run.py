"""What a dry run shows is what really leaves."""

import math
from pathlib import Path

import pytest

from clients.site_dry_run import what_would_leave
from clients.site_rules import SiteRefusal
from models.assembly import assemble_model
from strategies.settings import RunSettings, SettingValue
from tests.clients.site_kit import write_site_file

Config = dict[str, SettingValue]


@pytest.fixture
def config(run_config: Config) -> Config:
    return {
        **run_config,
        "model.image-size": 32,
        "train.batch-size": 2,
        "fedefm.grid-size": 2,
    }


def test_every_tensor_and_number_of_a_round_is_listed(
    tmp_path: Path, config: Config
) -> None:
    rows = what_would_leave(write_site_file(tmp_path), config)
    phases = list(dict.fromkeys(row.message for row in rows))
    assert phases == ["introduce", "local", "overseas", "distil", "evaluate"]
    weights = [row for row in rows if (row.message, row.record) == ("local", "arrays")]
    assert all(row.dtype == "float32" for row in weights)
    assert all(row.num_bytes == 4 * math.prod(row.shape) for row in weights)
    settings = RunSettings.from_run_config(config)
    fresh = assemble_model(settings.model.recipe(settings.seed)).trainable_state()
    assert {row.key: row.shape for row in weights} == {
        name: tuple(tensor.shape) for name, tensor in fresh.items()
    }
    told = {row.key for row in rows if row.message == "introduce"}
    assert {"site", "num-patients", "frames-train", "digest-train"} <= told
    assert {"score:neighbour", "weight:neighbour"} <= {
        row.key for row in rows if row.message == "distil"
    }


def test_prototypes_are_listed_if_the_site_lets_them_leave(
    tmp_path: Path, config: Config
) -> None:
    config |= {"fedefm.score": "common", "fedefm.prototypes": 3}
    site = write_site_file(
        tmp_path,
        site={"patients": 6, "frames-per-patient": 3},
        limits={"max-prototypes": 3},
    )
    rows = what_would_leave(site, config)
    [tokens] = [row for row in rows if row.record == "arrays" and row.key == "tokens"]
    assert tokens.message == "prototypes"
    assert 1 <= tokens.shape[0] <= 3  # fewer where too few frames stand behind one


def test_a_dry_run_is_neither_logged_nor_counted(
    tmp_path: Path, config: Config
) -> None:
    site = write_site_file(tmp_path, limits={"max-rounds-per-day": 0})
    with pytest.raises(SiteRefusal, match="max-rounds-per-day"):
        what_would_leave(site, {**config, "strategy": "fedavg"})
    site = write_site_file(tmp_path, limits={"max-rounds-per-day": 1})
    what_would_leave(site, {**config, "strategy": "fedavg"})
    what_would_leave(site, {**config, "strategy": "fedavg"})
    assert not (tmp_path / "state" / "audit.jsonl").exists()


def test_a_run_that_the_site_forbids_is_refused_before_any_frame_is_read(
    tmp_path: Path, config: Config
) -> None:
    site = write_site_file(
        tmp_path,
        site={"name": "nodata"},
        limits={"settings": {"train.steps": {"min": 50}}},
    )
    with pytest.raises(SiteRefusal, match=r"train\.steps.*at least 50.*has 8"):
        what_would_leave(site, config)
    assert not (tmp_path / "state").exists()
