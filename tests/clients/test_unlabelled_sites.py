"""Sites that nobody has labelled: what a sites file says of them, what they load."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from clients.data.errors import DataError
from clients.data.frames import FrameSet, join_frames
from clients.data.identity import SiteKey
from clients.evaluation import evaluate
from clients.hospital import Hospital
from clients.site_dry_run import what_would_leave
from clients.site_file import SiteFile
from clients.sites import SiteSpec, deployed_site, load_frames, load_sites
from clients.sources import FolderSource, SimulatedSource, devices_are_dark
from models.registry import build_model
from strategies import messages
from strategies.data_settings import DataSettings
from strategies.evaluation import Evaluation, join_evaluations
from strategies.replies import pack_reply
from strategies.settings import RunSettings, SettingValue
from tests.clients.site_kit import write_site_file

WriteImage = Callable[[Path, NDArray], None]

SETTINGS = DataSettings(
    frame_size=32,
    crop="none",
    clip_percentile=0.5,
    polarity="keep",
    normalise="unit",
    augmentation="none",
)
KEY = SiteKey(bytes(range(32)))
BARE = SimulatedSource("phantom", patients=3, frames_per_patient=1, classes=())


def parse(folder: Path, source: str) -> SiteSpec:
    path = folder / "sites.toml"
    path.write_text(f'[[site]]\nname = "a"\n{source}', encoding="utf-8")
    (site,) = load_sites(str(path))
    return site


def load(*sources: SimulatedSource | FolderSource) -> FrameSet:
    site = SiteSpec("a", sources, min_patients=1)
    frames = load_frames(site, settings=SETTINGS, seed=0, key=KEY)
    return frames.subset(torch.arange(len(frames)))


def hospital(config: dict[str, SettingValue], folder: Path, source: str) -> Hospital:
    path = folder / "sites.toml"
    path.write_text(f'[[site]]\nname = "bare"\n{source}', encoding="utf-8")
    settings = RunSettings.from_run_config(
        {**config, "model.image-size": 32, "sites": str(path)}
    )
    return Hospital.from_node_config({"partition-id": 0, "num-partitions": 1}, settings)


PHANTOM = 'domain = "phantom"\npatients = 3\nframes-per-patient = 1\nlabels = "none"\n'


# --------------------------------------------------------------- sites file


def test_either_kind_of_source_may_be_without_labels(tmp_path: Path) -> None:
    folder = parse(tmp_path, 'folder = "/data"\nlabels = "none"')
    domain = parse(tmp_path, 'domain = "neuro"\nlabels = "none"')
    assert folder.classes == domain.classes == ()
    (source,) = folder.sources
    assert isinstance(source, FolderSource)
    assert source.folder_spec(min_patients=2).unlabelled
    assert not replace(source, classes=("catheter",)).folder_spec(2).unlabelled


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ('folder = "/d"\nlabels = "all"', 'labels must be a table .* or "none"'),
        ('domain = "human"\nlabels = { a = "catheter" }', "labels goes with folder"),
        (
            'folder = "/d"\nlabels = "none"\nclasses = ["catheter"]',
            'classes says how labels are read, which labels = "none" rules out',
        ),
        ('folder = "/d"\nlabels = "none"\nline-width = "2px"', "line-width says how"),
        (
            'folder = "/d"\nlabels = "none"\nignore-labels = ["x"]',
            "ignore-labels says how",
        ),
        ('domain = "human"\nlabels = "none"\nclasses = ["guidewire"]', "classes says"),
    ],
)
def test_what_contradicts_no_labels_is_a_mistake(
    tmp_path: Path, source: str, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        parse(tmp_path, source)


def test_a_node_config_may_say_that_there_are_no_labels() -> None:
    node = {"site": "ward", "data-dir": "/data", "labels": "none"}
    assert deployed_site(node).classes == ()
    with pytest.raises(DataError, match='or "none"'):
        deployed_site({**node, "labels": "some"})


@pytest.mark.parametrize(
    ("declared", "wanted", "dark"),
    [
        ("unknown", "dark", None),
        ("dark", "keep", True),
        ("bright", "keep", False),
        ("bright", "dark", True),  # they are inverted
    ],
)
def test_what_a_site_says_of_its_devices_need_not_be_found_out(
    declared: str, wanted: str, dark: bool | None
) -> None:
    source = FolderSource(Path("/data"), classes=(), device_polarity=declared)
    assert devices_are_dark(source, replace(SETTINGS, polarity=wanted)) is dark
    assert devices_are_dark(BARE, replace(SETTINGS, polarity=wanted)) is None


# ------------------------------------------------------------------- frames


def test_a_simulated_source_without_labels_keeps_its_truth_to_itself() -> None:
    bare, known = load(BARE), load(SimulatedSource("phantom", 3, 1))
    assert torch.equal(bare.images, known.images)
    assert torch.equal(bare.patients, known.patients)
    assert bool(known.masks.any())
    assert not bool(bare.masks.any()) and not bool(bare.annotated.any())


def test_a_folder_without_masks_is_a_source(
    tmp_path: Path, write_image: WriteImage
) -> None:
    grey = np.random.default_rng(0).permutation(1024).reshape(32, 32) // 4
    for name in ("a", "b", "c"):
        pixels = np.roll(grey, ord(name), axis=0).astype(np.uint8)
        write_image(tmp_path / "data" / name / "x.png", pixels)
    frames = load(FolderSource(tmp_path / "data", classes=()))
    assert len(frames) == 3 and not bool(frames.annotated.any())
    with pytest.raises(DataError, match="None of 3 frame"):
        load(FolderSource(tmp_path / "data"))


def test_labelled_and_unlabelled_sources_mix(tmp_path: Path) -> None:
    frames = load(SimulatedSource("human", 2, 1), BARE)
    assert frames.annotated.all(1).tolist() == [True] * 2 + [False] * 3
    assert not bool(frames.masks[2:].any())


# ----------------------------------------------------------------- hospital


def test_a_hospital_knows_that_it_has_no_labels(
    run_config: dict[str, SettingValue], tmp_path: Path
) -> None:
    bare = hospital(run_config, tmp_path, PHANTOM)
    assert bare.is_unlabelled
    facts = bare.facts()
    assert facts["classes"] == [] and facts["frames-train"] == 1
    # Flower takes an empty list as a fact.
    pack_reply("bare", {messages.NUM_EXAMPLES: 1}, facts=facts)
    labelled = hospital(run_config, tmp_path, PHANTOM.replace('labels = "none"', ""))
    assert not labelled.is_unlabelled


def test_the_task_without_masks_needs_no_labels(
    run_config: dict[str, SettingValue], tmp_path: Path
) -> None:
    pretext = {
        **run_config,
        "model.task": "source-classification",
        "model.data-types": "human, phantom",
    }
    assert not hospital(pretext, tmp_path, PHANTOM).is_unlabelled


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"adapt.source-domains": "simulation, DOE"}, "1 of 2 names in adapt.source"),
        ({"data.frame-size": 64}, "data.frame-size = 0, or model.image-size = 32"),
        ({"data.normalise": "z-score"}, "data.normalise = 'unit'"),
    ],
)
def test_settings_that_do_not_go_without_labels_are_refused_at_once(
    run_config: dict[str, SettingValue],
    tmp_path: Path,
    changes: dict[str, SettingValue],
    said: str,
) -> None:
    with pytest.raises(DataError, match=f"Hospital 'bare': .*{said}") as caught:
        hospital({**run_config, **changes}, tmp_path, PHANTOM)
    assert "DOE" not in str(caught.value)
    # A site with labels has nothing to do with them.
    hospital(
        {**run_config, **changes}, tmp_path, PHANTOM.replace('labels = "none"', "")
    )


# --------------------------------------------------------------- evaluation


def measure(frames: FrameSet, measures: str = "all") -> Evaluation:
    return evaluate(
        build_model("unet", image_size=32, seed=0),
        frames,
        settings=SETTINGS,
        batch_size=2,
        device=torch.device("cpu"),
        measures=measures,
    )


def test_frames_without_truth_have_no_score_and_no_part_in_the_sum() -> None:
    bare, known = load(BARE), load(SimulatedSource("human", 3, 1))
    blind, seen = measure(bare), measure(known)
    assert blind.scored_frames == 0 and seen.scored_frames == 3
    assert np.isnan(blind.counts.scores()["dice"])
    # What the server receives is what the site has measured.
    assert Evaluation.from_metrics(blind.to_metrics()) == blind
    both = join_evaluations([blind, seen, blind])
    assert both.num_frames == 9 and both.loss == seen.loss
    assert both.scores("catheter") == pytest.approx(
        seen.scores("catheter"), nan_ok=True
    )
    assert both.unannotated.frames == (6, 6)


def test_a_mixed_site_measures_its_loss_on_labelled_frames_only() -> None:
    known = load(SimulatedSource("human", 3, 1))
    # Two and one in a batch of two, then batches of frames without any label.
    mixed = measure(join_frames([known, load(BARE)]), "overlap")
    assert mixed.scored_frames == 3 and mixed.num_frames == 6
    assert mixed.loss == pytest.approx(measure(known, "overlap").loss, rel=1e-6)


# ------------------------------------------------------------- its own site


def test_a_deployed_site_keeps_its_pseudo_labels_in_its_own_folder(
    run_config: dict[str, SettingValue], tmp_path: Path
) -> None:
    site = write_site_file(tmp_path, site={"labels": "none"})
    config: dict[str, SettingValue] = {
        **run_config,
        "strategy": "fedavg",
        "model.image-size": 32,
        "train.batch-size": 2,
        "adapt.source-frames": 4,
        "adapt.coarse-epochs": 1,
        "adapt.background": "none",
        "adapt.cleaning": "none",
        "adapt.threshold": 0.01,
    }
    rows = what_would_leave(site, config)
    # One frame trains; a dry run finds its label as the run would.
    assert {row.message for row in rows} == {"introduce", "local", "evaluate"}
    kept = list((tmp_path / "state" / "cache" / "pseudo.labels").glob("*.safetensors"))
    assert len(kept) == 1
    # Nothing of the labels leaves: the same names as of any other site.
    labelled = what_would_leave(write_site_file(tmp_path / "other"), config)
    assert {(row.message, row.key) for row in rows} == {
        (row.message, row.key) for row in labelled
    }


def test_the_tables_of_a_site_file_say_what_does_not_go(tmp_path: Path) -> None:
    site = write_site_file(tmp_path, site={"labels": "none", "classes": ["catheter"]})
    with pytest.raises(DataError, match=r"\[site\]: classes says how labels are read"):
        SiteFile.read(site)
