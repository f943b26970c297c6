"""A hospital that was started with a site file: its frames, machine and secrets."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from clients.data.errors import DataError
from clients.hospital import Hospital
from clients.site_file import SiteFile
from strategies.settings import RunSettings, SettingValue
from tests.clients.site_kit import write_site_file

Config = dict[str, SettingValue]


def write_ward(folder: Path) -> None:
    """Three patients of one frame each, with a vertical device."""
    pixels = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 20:26] = 255
    for kind, content in (("images", pixels), ("masks", mask)):
        (folder / kind).mkdir(parents=True)
        for name in ("A_1", "B_1", "C_1"):
            cv2.imwrite(str(folder / kind / f"{name}.png"), content)


@pytest.fixture
def ward_file(tmp_path: Path) -> Path:
    write_ward(tmp_path / "frames")
    path = tmp_path / "site.toml"
    path.write_text(
        '[federation]\nname = "t"\naddress = "h:1"\n'
        '[site]\nname = "ward"\ndata = "frames"\nclasses = ["catheter"]\n'
        '[machine]\nstate = "state"\n'
    )
    return path


def open_site(path: Path, config: Config) -> Hospital:
    settings = RunSettings.from_run_config(config)
    return Hospital.from_node_config({"site-file": str(path)}, settings)


def test_frames_of_a_folder_are_prepared_in_the_sites_own_state(
    ward_file: Path, run_config: Config
) -> None:
    hospital = open_site(ward_file, run_config)
    assert hospital.facts()["num-patients"] == 3
    assert hospital.facts()["classes"] == ["catheter"]
    state = ward_file.parent / "state"
    assert (state / "site.key").stat().st_size == 32
    assert any((state / "cache").iterdir())


def test_frames_are_those_of_the_same_hospital_without_a_site_file(
    ward_file: Path, run_config: Config
) -> None:
    node = {
        "site": "ward",
        "data-dir": str(ward_file.parent / "frames"),
        "classes": "catheter",
    }
    plain = Hospital.from_node_config(node, RunSettings.from_run_config(run_config))
    assert plain.facts() == open_site(ward_file, run_config).facts()


def test_the_sites_own_file_wins_over_everything_else_in_the_node_config(
    ward_file: Path, run_config: Config
) -> None:
    settings = RunSettings.from_run_config(run_config)
    node = {"site-file": str(ward_file), "site": "other", "data-dir": "/nowhere"}
    assert Hospital.from_node_config(node, settings).name == "ward"


def test_a_site_decides_on_its_own_device(tmp_path: Path, run_config: Config) -> None:
    asked = {**run_config, "device": "cuda"}
    site = write_site_file(tmp_path, machine={"device": "cpu"})
    assert open_site(site, asked).device == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_the_site_promises_and_lacks_is_said_so(
    tmp_path: Path, run_config: Config
) -> None:
    site = write_site_file(tmp_path, machine={"device": "cuda"})
    with pytest.raises(DataError, match="sees no GPU"):
        open_site(site, run_config)


def test_a_sites_own_copy_of_the_checkpoint_is_used(
    tmp_path: Path, run_config: Config
) -> None:
    site = write_site_file(tmp_path, machine={"checkpoint": "sam.pth"})
    asked = {**run_config, "model.checkpoint": "/centre/sam.pth"}
    recipe = open_site(site, asked).recipe
    assert recipe.checkpoint == str(tmp_path / "sam.pth")
    assert open_site(site, run_config).recipe.checkpoint == ""  # the run has none


def test_nothing_secret_is_in_the_words_for_a_site_file(ward_file: Path) -> None:
    assert str(ward_file.parent) not in repr(SiteFile.read(ward_file))
