"""Heads for whole frames: finetuned, kept, reopened, predicted with, and no more."""

import csv
import json
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from clients.data.batches import evaluation_batches
from experiments.commands.errors import USAGE_ERROR
from experiments.commands.evaluate import evaluate_command
from experiments.commands.export import export_command
from experiments.commands.finetune import finetune_command
from experiments.commands.predict import predict_command
from experiments.finetuning.data import simulated_data
from experiments.finetuning.fewshot import FinetuneSettings
from experiments.finetuning.labels import label_scores, labelled_part, simulated_labels
from experiments.model_source import ModelSource, open_model
from models.transfer import PooledClassifier
from models.weights import weights_digest
from server.checkpoints import CheckpointError
from tests.experiments.prediction.scenes import write_png

METHODS = ("full", "lora", "linear-probe")
DATA = {"train_patients": 2, "validation_patients": 1, "test_patients": 2}
LABELS = ("human", "phantom")

app = typer.Typer(pretty_exceptions_enable=False)
app.command("finetune")(finetune_command)
app.command("evaluate")(evaluate_command)
app.command("predict")(predict_command)
app.command("export")(export_command)


def call(*arguments: str | Path | int) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def text_of(result: Result) -> str:
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One classifier of simulated domains for each method."""
    folder = tmp_path_factory.mktemp("study") / "ft"
    sizes = [f"--{name.replace('_', '-')}={count}" for name, count in DATA.items()]
    result = call(
        "finetune", "random", "--model-name", "sam-tiny", "--image-size", 32,
        "--task", "classify", "--label", "domain", "--domain", ",".join(LABELS),
        "--shots", 4, "--seeds", 0, "--steps", 2, "--methods", ",".join(METHODS),
        "--frames-per-patient", 2, *sizes, "--workers", 1, "--save", "all",
        "--no-mlflow", "--output", folder,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = {}
    for path in (folder / "models").rglob("finetuned.safetensors"):
        card = json.loads(path.with_suffix(".json").read_text())
        found[card["task"]["method"]] = path
    assert found.keys() == set(METHODS)
    return found


def test_a_reopened_head_scores_what_its_card_says(source: ModelSource) -> None:
    settings = FinetuneSettings(
        task="classify",
        label="domain",
        domain=",".join(LABELS),
        frames_per_patient=2,
        **DATA,
    )
    data = simulated_labels(simulated_data(settings, 32), settings, 32)
    frames, labels = labelled_part(data, "test")
    source.network.eval()
    with torch.no_grad():
        guesses = torch.cat(
            [
                source.network(batch.images).argmax(dim=1)
                for batch in evaluation_batches(
                    frames,
                    batch_size=8,
                    settings=source.data,
                    device=torch.device("cpu"),
                )
            ]
        )
    for name, value in label_scores(guesses, labels, 2).items():
        assert source.card["metrics"][f"test/{name}"] == pytest.approx(value)


@pytest.fixture(params=METHODS)
def source(request: pytest.FixtureRequest, models: dict[str, Path]) -> ModelSource:
    found = open_model(str(models[request.param]))
    assert isinstance(found.network, PooledClassifier)
    assert found.labels == LABELS
    return found


def test_probabilities_of_every_frame_are_one_table(
    models: dict[str, Path], tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        pixels = torch.randint(0, 255, (48, 40), dtype=torch.uint8).numpy()
        write_png(images / f"DOE_{number}.png", pixels)
    (images / "ROE.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    result = call("predict", models["full"], images, "--output", out)
    assert result.exit_code == 1  # one of four could not be read
    with (out / "classes.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 3
    for row in rows:
        said = {name: float(row[f"p({name})"]) for name in LABELS}
        assert sum(said.values()) == pytest.approx(1, abs=1e-5)
        assert row["label"] == max(said, key=lambda name: said[name])
        assert row["frame"] == "1"
    content = json.loads((out / "predictions.json").read_text())
    assert content["classes"] == list(LABELS)
    assert [one["status"] for one in content["inputs"]].count("done") == 3
    assert {one.name for one in out.iterdir()} == {"classes.csv", "predictions.json"}
    written = b"".join(one.read_bytes() for one in out.iterdir())
    assert b"DOE" not in written and "ROE" not in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("predict", "MODEL", "IMAGE", "--write", "masks"), "classifies whole frames"),
        (("predict", "MODEL", "IMAGE", "--box", "1,1,9,9"), "classifies whole frames"),
        (("predict", "MODEL", "IMAGE", "--tile", "64"), "classifies whole frames"),
        (("evaluate", "MODEL", "--domain", "human"), "only models that segment"),
        (("export", "MODEL", "--to", "onnx"), "only its card can be exported"),
    ],
)
def test_what_needs_masks_is_one_error_and_leaves_nothing(
    models: dict[str, Path], tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    image = tmp_path / "image.png"
    write_png(image, torch.zeros(40, 40, dtype=torch.uint8).numpy())
    names = {"MODEL": models["full"], "IMAGE": image}
    out = tmp_path / "out"
    result = call(*(names.get(one, one) for one in arguments), "--output", out)
    assert result.exit_code == USAGE_ERROR
    assert words in text_of(result)
    assert not out.exists()


def test_its_card_can_be_exported(models: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "card"
    result = call("export", models["lora"], "--to", "card", "--output", out)
    assert result.exit_code == 0, result.output
    assert (out / "model_card.md").is_file()


def test_segmenting_may_start_from_the_encoder_of_a_classifier(
    models: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "ft"
    result = call(
        "finetune", models["full"], "--shots", 1, "--seeds", 0, "--steps", 1,
        "--starts", "foundation", "--train-patients", 2, "--validation-patients", 1,
        "--test-patients", 1, "--frames-per-patient", 1, "--workers", 1,
        "--no-mlflow", "--output", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (path,) = (out / "models").rglob("finetuned.safetensors")
    opened = open_model(str(path))
    assert opened.labels == ()
    assert opened.network.eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 2, 32, 32)


@pytest.mark.parametrize("damage", ["labels", "head"])
def test_a_card_and_a_head_that_do_not_fit_are_one_error(
    models: dict[str, Path], tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "finetuned.safetensors"
    card = json.loads(models["full"].with_suffix(".json").read_text())
    state = load_file(models["full"])
    if damage == "labels":
        card["task"]["labels"].append("animal")
    else:
        del state["head.weight"]
        card["weights-digest"] = weights_digest(state)
    save_file(state, path)
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="head"):
        open_model(str(path))
