"""Who a node is: a partition of a simulation, or a site with a folder of its own."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from clients.data.errors import DataError
from clients.hospital import Hospital
from strategies.settings import RunSettings


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    """Three sequences of one frame each, with a vertical device."""
    pixels = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 20:26] = 255
    for kind, content in (("images", pixels), ("masks", mask)):
        (tmp_path / kind).mkdir()
        for name in ("A_1", "B_1", "C_1"):
            cv2.imwrite(str(tmp_path / kind / f"{name}.png"), content)
    return tmp_path


def test_a_real_site_says_who_it_is_in_its_node_config(
    ward: Path, run_settings: RunSettings
) -> None:
    node = {"site": "ward", "data-dir": str(ward), "classes": "catheter"}
    hospital = Hospital.from_node_config(node, run_settings)
    facts = hospital.facts()
    assert (hospital.name, facts["domain"], facts["num-sites"]) == ("ward", "real", 0)
    assert facts["classes"] == ["catheter"]
    assert (facts["frames-train"], facts["num-sequences"]) == (1, 3)
    assert str(ward) not in str(facts)


def test_a_partition_is_a_line_of_the_sites_file(run_settings: RunSettings) -> None:
    node = {"partition-id": 1, "num-partitions": 4}
    hospital = Hospital.from_node_config(node, run_settings)
    assert (hospital.name, hospital.spec.data_types) == ("northgate", ("human",))
    assert hospital.num_sites == 4


def test_a_node_that_does_not_say_who_it_is_is_told_how(
    run_settings: RunSettings,
) -> None:
    with pytest.raises(DataError, match="--node-config"):
        Hospital.from_node_config({}, run_settings)


def test_a_real_site_without_its_folder_is_named_without_the_path(
    tmp_path: Path, run_settings: RunSettings
) -> None:
    node = {"site": "ward", "data-dir": str(tmp_path / "DOE")}
    with pytest.raises(DataError, match="Hospital 'ward'") as caught:
        Hospital.from_node_config(node, run_settings)
    assert "DOE" not in str(caught.value)


def test_all_mistakes_of_a_node_config_are_told_at_once(
    run_settings: RunSettings, tmp_path: Path
) -> None:
    node = {
        "site": "hillside",
        "data-dir": str(tmp_path / "MARKER"),
        "layout": "zip",
        "classes": "catheter, stent",
    }
    with pytest.raises(DataError) as caught:
        Hospital.from_node_config(node, run_settings)
    text = str(caught.value)
    assert text.startswith("2 mistake(s) in the node config")
    assert "layout must be" in text
    assert "classes must be" in text
    assert "MARKER" not in text
