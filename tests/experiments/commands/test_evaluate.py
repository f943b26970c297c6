"""`endofed evaluate` from the command line: files, errors, privacy, real frames."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from rich.text import Text
from typer.testing import CliRunner, Result

from clients.data.identity import SiteKey
from clients.sites import SiteSpec, load_frames
from clients.sources import FolderSource, SimulatedSource
from experiments.commands.errors import USAGE_ERROR
from experiments.commands.evaluate import evaluate_command
from experiments.evaluation.archive_facts import facts_of_site
from experiments.model_source import data_settings_of
from models.registry import build_model
from server.checkpoints import FoundationCard, save_foundation
from tests.clients.conftest import (
    MakeDicom,
    WriteImage,
    make_dicom,
    write_image,
)
from tests.clients.planting import OPTIONS, plant_site, traces_below, traces_in

app = typer.Typer()
app.command()(evaluate_command)
__all__ = ["make_dicom", "write_image"]  # fixtures
SIMULATED = ("--domain", "human", "--patients", "3", "--frames-per-patient", "2")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENDOFED_KEY", str(tmp_path / "home" / "site.key"))
    monkeypatch.setenv("ENDOFED_CACHE", str(tmp_path / "home" / "cache"))
    monkeypatch.setenv("COLUMNS", "110")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[..., str]:
    def save(seed: int, size: int = 64, **settings: object) -> str:
        folder = tmp_path / "models" / f"{seed}-{size}"
        folder.mkdir(parents=True)
        network = build_model("sam-tiny", image_size=size, seed=seed)
        card = FoundationCard(
            model_name="sam-tiny",
            image_size=size,
            seed=seed,
            rounds=1,
            sites=(),
            settings=settings,
        )
        return str(save_foundation(folder, network.trainable_state(), card))

    return save


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_two_models_on_simulated_frames_give_all_files(
    checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    output = tmp_path / "found"
    models = (checkpoint(0), checkpoint(1))
    result = run(*models, *SIMULATED, "--output", str(output), "--label", "old",
                 "--label", "new", "--resamples", "100")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert {one.name for one in output.iterdir()} == {
        "per_image.csv", "summary.csv", "summary.json", "comparison.csv", "gallery",
    }  # fmt: skip
    images = read_csv(output / "per_image.csv")
    assert len(images) == 2 * 6 * 2  # models, frames, classes
    assert {one["model"] for one in images} == {"old", "new"}
    assert {one["patient"] for one in images} == {"1", "2", "3"}
    rows = read_csv(output / "summary.csv")
    dice = next(
        one
        for one in rows
        if (one["model"], one["scope"], one["class"], one["averaging"], one["metric"])
        == ("old", "overall", "catheter", "image", "dice")
    )
    mine = [
        one for one in images if (one["model"], one["class"]) == ("old", "catheter")
    ]
    mean = np.mean([float(one["dice"]) for one in mine])
    assert float(dice["value"]) == pytest.approx(mean, rel=1e-9)
    content = json.loads((output / "summary.json").read_text())
    assert content["models"][0]["label"] == "old"
    assert len(content["models"][1]["weights-digest"]) == 64
    assert content["data"][0]["patients"] == 3
    assert len(content["data"][0]["digest"]) == 64
    assert content["settings"]["resamples"] == 100
    assert content["command"].startswith("endofed evaluate MODEL-old MODEL-new ")
    assert content["results"]
    assert {one["metric"] for one in content["comparisons"]} > {"dice", "auc"}
    pictures = list((output / "gallery").iterdir())
    assert pictures
    assert all(Image.open(one).width > 4 * 320 for one in pictures)
    assert "too narrow" in result.output
    assert "keep it on this machine" in " ".join(result.output.split())
    for name in (str(tmp_path), "models/0-64"):
        assert name not in result.output.replace(str(output), "")
        assert name not in (output / "summary.json").read_text()


def test_several_sites_get_the_test_frames_of_a_run(
    checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    sites = tmp_path / "sites.toml"
    sites.write_text(
        '[[site]]\nname = "north"\ndomain = "human"\npatients = 4\n'
        "frames-per-patient = 1\n"
        '[[site]]\nname = "south"\ndomain = "phantom"\npatients = 4\n'
        "frames-per-patient = 1\n"
        '[[site]]\nname = "west"\ndomain = "animal"\npatients = 4\n'
        'frames-per-patient = 1\nlabels = "none"\n'
    )
    output = tmp_path / "found"
    result = run(checkpoint(3), "--sites", str(sites), "--split", "test", "--output",
                 str(output), "--no-gallery", "--resamples", "100")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert not (output / "gallery").exists()
    assert not (output / "comparison.csv").exists()
    scopes = {(one["scope"], one["site"]) for one in read_csv(output / "summary.csv")}
    assert {("overall", ""), ("site", "north"), ("site", "south")} < scopes
    assert ("site", "west") not in scopes
    said = " ".join(result.output.split())
    assert re.search(r"west: nobody has labelled its \d frames", said)
    # The seed of the split is 0, the model's was 3.
    assert "Model A was made with seed 3" in " ".join(result.output.split())


def test_no_trace_of_a_patient_is_printed_or_written(
    checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    folder = tmp_path / "zqxmarker data"
    plant_site(folder)
    output = tmp_path / "found"
    result = run(checkpoint(0), "--data", str(folder), *OPTIONS, "--output",
                 str(output), "--resamples", "100")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert traces_in(result.output) == []
    assert traces_below(output) == {}
    images = read_csv(output / "per_image.csv")
    assert len(images) == 6
    assert all(one["patient"].startswith("P-") for one in images)
    assert all(one["sequence"].startswith("S-") for one in images)
    wrong = run(checkpoint(1), "--data", str(folder), "--output", str(tmp_path / "b"))
    assert wrong.exit_code == USAGE_ERROR  # labels that nobody explained
    assert traces_in(wrong.output) == []
    assert not (tmp_path / "b").exists()


def test_mistakes_are_one_clear_error_and_nothing_is_written(
    checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    small, large = checkpoint(0), checkpoint(0, size=96)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    output = ("--output", str(tmp_path / "found"))
    for arguments, words in (
        ((small, *output), "Give one of --data, --sites and --domain"),
        ((small, *SIMULATED, "--data", str(tmp_path), *output), "Give one of"),
        ((small, "--domain", "nowhere", *output), "--domain must be"),
        ((small, *SIMULATED, "--split", "half", *output), "--split must be one of"),
        ((small, *SIMULATED, "--device", "tpu", *output), "--device must be one of"),
        ((small, *SIMULATED, "--sequences", "1", *output), "goes with --data"),
        ((small, large, *SIMULATED, *output), "frame-size 64 and 96"),
        ((small, small, *SIMULATED, *output), "same weights"),
        (("gone.safetensors", *SIMULATED, *output), "no such checkpoint"),
        (("model.pkl", *SIMULATED, *output), "Pickles are not read"),
        ((small, "--data", str(tmp_path / "empty"), *output), "holds no"),
        ((small, "--data", str(tmp_path / "no"), *output), "does not exist"),
        ((small, "--data", str(tmp_path / "empty"), "--classes", "stent", *output),
         "--classes wants"),
        ((small, "--domain", "human", "--patients", "2", "--frames-per-patient", "1",
          "--split", "test", *output), "no test part"),
        ((small, *SIMULATED, "--output", str(tmp_path / "full")), "is not empty"),
        ((small, "--data", str(tmp_path / "empty"), "--output",
          str(tmp_path / "empty" / "in")), "lies in the data folder"),
    ):  # fmt: skip
        result = run(*arguments)
        assert result.exit_code == USAGE_ERROR, (arguments, result.output)
        assert words in " ".join(result.output.split())
        assert "Traceback" not in result.output
        assert not (tmp_path / "found").exists()
        assert not list(tmp_path.glob(".evaluation*"))
    assert [one.name for one in (tmp_path / "full").iterdir()] == ["file"]


@pytest.fixture
def dicom_folder(
    tmp_path: Path, make_dicom: MakeDicom, write_image: WriteImage
) -> Callable[[str, float], Path]:
    """Write two patients with two frames of 120 x 60 px each."""

    def write(name: str, spacing_mm: float) -> Path:
        folder = tmp_path / name
        (folder / "dicom").mkdir(parents=True)
        rng = np.random.default_rng(len(name))
        for number in range(2):
            dataset = make_dicom(
                rng.integers(90, 250, (2, 60, 120)).astype(np.uint8),
                PatientID=f"P{number}",
                SeriesInstanceUID=f"1.2.{number}",
                Modality="XA",
                ImagerPixelSpacing=[spacing_mm, spacing_mm],
            )
            path = folder / "dicom" / f"a{number}.dcm"
            dataset.save_as(path, enforce_file_format=True)
            mask = np.zeros((60, 120), np.uint8)
            mask[20:24] = 255
            write_image(folder / "masks" / f"a{number}.png", mask)
        return folder

    return write


@pytest.mark.parametrize("crop", ["none", "collimator"])
def test_the_pixel_size_follows_the_frame_from_the_archive(
    crop: str, dicom_folder: Callable[[str, float], Path]
) -> None:
    source = FolderSource(
        dicom_folder("data", 0.2), layout="dicom", classes=("catheter",)
    )
    spec = SiteSpec("data", (source,), min_patients=1)
    settings = data_settings_of({"settings": {"data.crop": crop}}, 40)
    key = SiteKey.load_or_create()
    frames = load_frames(spec, settings=settings, seed=0, key=key)
    found = facts_of_site(spec, frames, settings, key)
    # 120 px of 0.2 mm became 40 px.
    np.testing.assert_allclose(found.facts.spacing_mm, 0.6)
    assert found.facts.number.tolist() == [1, 2, 1, 2]
    assert found.patients_known
    assert any(note.startswith("mm: ") for note in found.notes)


def test_every_source_of_a_site_keeps_its_own_pixel_size(
    dicom_folder: Callable[[str, float], Path],
) -> None:
    coarse, fine = (
        FolderSource(dicom_folder(name, size), layout="dicom", classes=("catheter",))
        for name, size in (("coarse", 0.2), ("fine", 0.1))
    )
    simulated = SimulatedSource("human", patients=2, frames_per_patient=1)
    spec = SiteSpec("site", (coarse, simulated, fine), min_patients=1)
    settings = data_settings_of({}, 40)
    key = SiteKey.load_or_create()
    frames = load_frames(spec, settings=settings, seed=0, key=key)
    found = facts_of_site(spec, frames, settings, key).facts
    expected = [0.6] * 4 + [np.nan] * 2 + [0.3] * 4
    np.testing.assert_allclose(found.spacing_mm, expected)
    assert [one.startswith("S-") for one in found.sequence] == [
        not np.isnan(one) for one in expected
    ]


def test_what_a_finetuned_model_has_seen_can_be_left_out(
    checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    folder = tmp_path / "zqxmarker data"
    plant_site(folder, patients=4)
    model = checkpoint(0)
    data = (model, "--data", str(folder), *OPTIONS, "--no-gallery", "--resamples",
            "100", "--output")  # fmt: skip
    unknown = run(*data, str(tmp_path / "none"), "--split", "held-out")
    assert "no card says which" in " ".join(unknown.output.split())
    run(*data, str(tmp_path / "all"))
    names = sorted(
        {one["sequence"] for one in read_csv(tmp_path / "all" / "per_image.csv")}
    )
    assert len(names) == 4
    path = Path(model).with_suffix(".json")
    card = json.loads(path.read_text())
    chosen = {"train": names[:1], "validation": names[1:2], "test": names[2:]}
    card |= {"kind": "finetuned", "task": {"data": {"chosen": chosen}}}
    path.write_text(json.dumps(card))
    result = run(*data, str(tmp_path / "held"), "--split", "held-out")
    assert result.exit_code == 0, result.output
    images = read_csv(tmp_path / "held" / "per_image.csv")
    assert {one["sequence"] for one in images} == set(names[2:])
    assert "too good" not in result.output
    leaky = run(*data, str(tmp_path / "leaky"), "--sequences", names[0])
    assert "trained or chosen on 1 of these 1" in " ".join(leaky.output.split())
    card["task"]["data"]["chosen"] = {"train": ["S-AAAAAAAAAA"]}
    path.write_text(json.dumps(card))
    other = run(*data, str(tmp_path / "other"), "--split", "held-out")
    assert other.exit_code == USAGE_ERROR
    assert "another site key" in " ".join(other.output.split())
    card["task"]["kind"] = "classify"
    path.write_text(json.dumps(card))
    classifier = run(*data, str(tmp_path / "class"))
    assert "only models that segment" in " ".join(classifier.output.split())


def test_chosen_views_of_a_real_phantom_are_measured(
    checkpoint: Callable[..., str], phantom_xa: Path, tmp_path: Path
) -> None:
    output = tmp_path / "found"
    result = run(checkpoint(0), "--data", str(phantom_xa), "--layout", "pairs",
                 "--classes", "catheter", "--sequences", "2,5", "--output",
                 str(output), "--resamples", "100")  # fmt: skip
    assert result.exit_code == 0, result.output
    shown = Text.from_ansi(result.output).plain
    assert "sequences (patients are not known)" in " ".join(shown.split())
    images = read_csv(output / "per_image.csv")
    assert len({one["sequence"] for one in images}) == 2
    assert {one["class"] for one in images} == {"catheter"}
    assert len(list((output / "gallery").iterdir())) > 0
    for path in output.rglob("*"):
        for name in (b"IM1", b"PHANTOM^STATIC", b"PHANTOM-0001"):
            if path.suffix in (".csv", ".json"):
                assert name not in path.read_bytes()
