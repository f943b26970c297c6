import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from experiments.commands.evaluate import evaluate_command
from experiments.commands.finetune import finetune_command
from experiments.commands.models import models_app
from experiments.commands.predict import predict_command
from experiments.model_source import open_model
from experiments.registry import list_models, register_model
from models.registry import build_model
from server.checkpoints import CheckpointError, FoundationCard, save_foundation
from tests.experiments.prediction.scenes import write_png


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: MLflow takes seconds to make the tables."""
    folder = tmp_path_factory.mktemp("empty")
    list_models(tracking_uri=_made(folder))
    return folder / "mlflow.db"


def _made(folder: Path) -> str:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(f"sqlite:///{folder / 'mlflow.db'}", (folder / "files").as_uri())
    return str(folder)


@pytest.fixture(autouse=True)
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    address = f"sqlite:///{tmp_path / 'registry' / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    return address


@pytest.fixture
def registry(tmp_path: Path, empty_database: Path, address: str) -> str:
    (tmp_path / "registry").mkdir()
    shutil.copyfile(empty_database, tmp_path / "registry" / "mlflow.db")
    return address


def checkpoint(folder: Path, seed: int) -> Path:
    folder.mkdir()
    model = build_model("sam-tiny", image_size=32, seed=seed)
    card = FoundationCard(
        model_name="sam-tiny",
        image_size=32,
        seed=seed,
        rounds=1,
        sites=(),
        settings={},
        overall={"test/dice": 0.625},
    )
    return save_foundation(folder, model.trainable_state(), card)


def outputs(source: str, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return open_model(source).network.eval()(images)


def test_an_alias_leads_to_the_model_and_moves_to_the_next(
    tmp_path: Path, registry: str
) -> None:
    first, second = (checkpoint(tmp_path / str(seed), seed) for seed in (1, 2))
    images = torch.rand(3, 1, 32, 32)
    assert register_model(first, name="wires", alias="champion") == (
        "models:/wires@champion"
    )
    assert register_model(second, name="wires", alias="candidate") == (
        "models:/wires@candidate"
    )
    for source, path in (("@champion", first), ("@candidate", second), ("/1", first)):
        found = outputs(f"models:/wires{source}", images)
        assert torch.equal(found, outputs(str(path), images))
    register_model(second, name="wires", alias="champion")
    found = outputs("models:/wires@champion", images)
    assert torch.equal(found, outputs(str(second), images))
    versions = list_models()
    assert [(one.version, one.aliases) for one in versions] == [
        (3, ("champion",)),
        (2, ("candidate",)),
        (1, ()),
    ]
    digest = open_model(str(first)).card["weights-digest"]
    assert versions[-1].tags["digest"] == digest
    assert (versions[-1].tags["dice"], versions[-1].tags["kind"]) == (
        "0.6250",
        "foundation",
    )


def test_mlflow_loads_it_with_a_signature_and_without_a_pickle(
    tmp_path: Path, registry: str
) -> None:
    import mlflow.pyfunc

    path = checkpoint(tmp_path / "run", 4)
    register_model(path, name="wires", alias="champion", tracking_uri=registry)
    mlflow.set_tracking_uri(registry)
    mlflow.set_registry_uri(registry)
    try:
        loaded = mlflow.pyfunc.load_model("models:/wires@champion")
    finally:
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)
    (given,) = loaded.metadata.signature.inputs.inputs
    assert given.type == np.dtype("float32")
    assert given.shape == (-1, 1, 32, 32)
    images = torch.rand(3, 1, 32, 32)
    expected = outputs(str(path), images)
    np.testing.assert_array_equal(loaded.predict(images.numpy()), expected.numpy())
    example = loaded.input_example
    assert example.shape == (1, 1, 32, 32)
    written = [one for one in (tmp_path / "registry").rglob("*") if one.is_file()]
    assert not [one.name for one in written if one.suffix in (".pkl", ".pickle", ".pt")]
    # What travels with the model tells nobody where it was made.
    texts = [one for one in written if one.name == "MLmodel"]
    assert texts
    assert str(tmp_path / "run") not in texts[0].read_text()


def test_looking_for_a_registry_does_not_make_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no model registry yet"):
        open_model("models:/wires@champion")
    assert not (tmp_path / "registry").exists()


def test_what_is_not_there_is_one_clear_error(tmp_path: Path, registry: str) -> None:
    path = checkpoint(tmp_path / "run", 1)
    register_model(path, name="wires", alias="candidate")
    for source in ("models:/wires@champion", "models:/other@candidate"):
        with pytest.raises(CheckpointError, match="endofed models list"):
            open_model(source)
    with pytest.raises(CheckpointError, match="models:/NAME@ALIAS"):
        open_model("models:/wires")
    for weights in (tmp_path / "registry").rglob("model.safetensors"):
        weights.unlink()
    with pytest.raises(CheckpointError, match="files are gone"):
        open_model("models:/wires@candidate")


def test_nothing_is_registered_of_damaged_files_or_under_impossible_names(
    tmp_path: Path,
) -> None:
    path = checkpoint(tmp_path / "run", 1)
    for name, alias in (("a/b", ""), ("", ""), ("wires", "latest"), ("wires", "v1")):
        with pytest.raises(CheckpointError, match="in the registry has letters"):
            register_model(path, name=name, alias=alias)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CheckpointError):
        register_model(path, name="wires")
    with pytest.raises(CheckpointError, match=r"got a '\.pth' file"):
        register_model(tmp_path / "sam.pth", name="wires")
    assert not (tmp_path / "registry").exists()


def test_a_run_folder_can_be_the_registry(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "run", 1)
    register_model(path, name="wires", tracking_uri=str(tmp_path / "run"))
    assert (tmp_path / "run" / "mlflow.db").is_file()
    assert [one.name for one in list_models(tracking_uri=str(tmp_path / "run"))] == [
        "wires"
    ]


def test_the_commands_register_and_list(tmp_path: Path, registry: str) -> None:
    path = checkpoint(tmp_path / "run", 1)
    app = typer.Typer()
    app.add_typer(models_app, name="models")
    result = CliRunner().invoke(
        app, ["models", "register", str(path), "--name", "wires", "--alias", "champion"]
    )
    assert result.exit_code == 0, result.output
    assert "models:/wires@champion" in result.output
    result = CliRunner().invoke(app, ["models", "list"])
    assert result.exit_code == 0, result.output
    assert "champion" in result.output and "0.6250" in result.output


@pytest.fixture
def champion(tmp_path: Path, registry: str) -> str:
    """Return the digest of what `models:/wires@champion` leads to."""
    path = checkpoint(tmp_path / "run", 5)
    register_model(path, name="wires", alias="champion")
    digest = str(open_model(str(path)).card["weights-digest"])
    shutil.rmtree(tmp_path / "run")  # only the registry has it now
    return digest


def invoke(command: object, *arguments: str | Path) -> str:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command)  # type: ignore[type-var]
    words = ["models:/wires@champion", *map(str, arguments)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return result.output


def test_finetune_starts_from_an_alias(tmp_path: Path, champion: str) -> None:
    invoke(
        finetune_command, "--shots", "1", "--seeds", "0", "--steps", "1",
        "--starts", "foundation", "--train-patients", "2", "--validation-patients",
        "1", "--test-patients", "1", "--frames-per-patient", "1", "--workers", "1",
        "--no-mlflow", "--output", tmp_path / "ft",
    )  # fmt: skip
    (path,) = (tmp_path / "ft" / "models").rglob("finetuned.json")
    assert json.loads(path.read_text())["parent"]["weights-digest"] == champion


def test_evaluate_measures_an_alias(tmp_path: Path, champion: str) -> None:
    invoke(
        evaluate_command, "--domain", "human", "--patients", "1",
        "--frames-per-patient", "2", "--resamples", "100", "--no-gallery",
        "--output", tmp_path / "found",
    )  # fmt: skip
    content = json.loads((tmp_path / "found" / "summary.json").read_text())
    assert content["models"][0]["weights-digest"] == champion
    assert content["command"].startswith("endofed evaluate models:/wires@champion ")


def test_predict_takes_an_alias(tmp_path: Path, champion: str) -> None:
    write_png(tmp_path / "frame.png", np.zeros((40, 40), np.uint8))
    out = tmp_path / "out"
    invoke(predict_command, tmp_path / "frame.png", "--output", out)
    content = json.loads((out / "predictions.json").read_text())
    assert content["model"]["weights-digest"] == champion
    assert len(list(out.rglob("*.png"))) == 2
