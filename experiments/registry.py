"""Models under names and aliases, in the MLflow model registry, offline.

A version is what `models:/NAME@ALIAS` leads to: the safetensors file and its card, a
signature and an input example, in MLflow's pyfunc format. Nothing is pickled: the
format names `experiments.registered_model`, which reads the two files with this
package. Which registry: the address that is given, else $MLFLOW_TRACKING_URI, else a
SQLite file in ~/.endofed/registry. As in `server/tracking.py`, `MlflowClient` is used,
which records no user name, script or commit.
"""

import logging
import os
import re
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from experiments.model_source import REGISTRY_PREFIX, ModelSource, open_model
from experiments.registered_model import WEIGHTS_FILE, save_registered, tags_of
from server.checkpoints import CheckpointError
from server.mlflow_page import database_uri
from server.tracking import ARTIFACTS_FOLDER

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

ADDRESS_VARIABLE = "MLFLOW_TRACKING_URI"
EXPERIMENT = "endofed-models"
ARTIFACT = "model"
_NAME = re.compile(r"[\w][\w.\- ]*")
_ADDRESS = re.compile(r"models:/([^/@]+)(?:@([^/@]+)|/([0-9]+))")


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a name, as `endofed models list` shows it."""

    name: str
    version: int
    aliases: tuple[str, ...]
    tags: Mapping[str, str]  # network, kind, digest, dice


def register_model(
    path: Path, *, name: str, alias: str = "", tracking_uri: str = ""
) -> str:
    """Put a model and its card into the registry, as a new version of a name.

    Args:
        path: A `.safetensors` file with its card beside it; read and checked first.
        name: Made if it is new.
        alias: Moves to the new version, such as "candidate" or "champion"; "" = none.
        tracking_uri: Of the registry: an address, or a run folder; "" = see above.

    Returns:
        `models:/NAME@ALIAS`, or `models:/NAME/VERSION` without an alias.

    Raises:
        CheckpointError: If the files are no model, a name cannot be one, or the
            registry cannot be written.
    """
    _check_names(name, alias)
    if path.suffix != ".safetensors":
        raise CheckpointError(
            "The registry takes a .safetensors file with its card beside it, got a "
            f"'{path.suffix}' file."
        )
    source = open_model(str(path))
    with _guarded("written"):
        client = _open(tracking_uri)
        run_id = _create_run(client, source)
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / ARTIFACT
            save_registered(source, path, place)
            client.log_artifacts(run_id, str(place), ARTIFACT)
        address = f"{client.get_run(run_id).info.artifact_uri}/{ARTIFACT}"
        _ensure_name(client, name)
        made = client.create_model_version(
            name, address, run_id=run_id, tags=tags_of(source)
        )
        if alias:
            client.set_registered_model_alias(name, alias, made.version)
        client.set_terminated(run_id)
    return f"{REGISTRY_PREFIX}{name}" + (f"@{alias}" if alias else f"/{made.version}")


def download_model(uri: str, *, tracking_uri: str = "") -> Path:
    """Find the files of a registered model.

    Args:
        uri: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        tracking_uri: As for `register_model`.

    Returns:
        The `.safetensors` file with its card beside it: in the registry's own folder
        where that is on this machine, else in a copy.

    Raises:
        CheckpointError: If there is no such name, alias or version, or its files are
            gone.
    """
    match = _ADDRESS.fullmatch(uri)
    if match is None:
        raise CheckpointError(
            "A registered model is models:/NAME@ALIAS or models:/NAME/VERSION."
        )
    name, alias, number = match.groups()
    with _guarded("read"):
        client = _open(tracking_uri, must_exist=True)
        from mlflow.exceptions import MlflowException

        try:
            found = (
                client.get_model_version_by_alias(name, alias)
                if alias
                else client.get_model_version(name, number)
            )
        except MlflowException:
            raise CheckpointError(
                f"The registry has no '{uri}'; `endofed models list` shows what it has."
            ) from None
        weights = _local_folder(found, client) / "data" / "files" / WEIGHTS_FILE
    if not weights.is_file():
        raise CheckpointError(
            "The registry knows this model, but its files are gone. Register it again."
        )
    return weights


def list_models(*, tracking_uri: str = "") -> list[RegisteredVersion]:
    """Return every version of every name, newest first.

    Args:
        tracking_uri: As for `register_model`.

    Raises:
        CheckpointError: If there is no registry or it cannot be read.
    """
    with _guarded("read"):
        client = _open(tracking_uri, must_exist=True)
        found = []
        for model in client.search_registered_models():
            aliases: dict[int, list[str]] = {}
            for alias, number in model.aliases.items():
                aliases.setdefault(int(number), []).append(alias)
            for one in client.search_model_versions(f"name = '{model.name}'"):
                number = int(one.version)
                names = tuple(sorted(aliases.get(number, ())))
                found.append(RegisteredVersion(model.name, number, names, one.tags))
    return sorted(found, key=lambda one: (one.name, -one.version))


def registry_address(tracking_uri: str = "") -> str:
    """Return the address of the registry that would be used.

    Args:
        tracking_uri: An address, a run folder, or "".
    """
    given = tracking_uri or os.environ.get(ADDRESS_VARIABLE, "")
    if not given:
        return database_uri(Path.home() / ".endofed" / "registry")
    return given if ":/" in given else database_uri(Path(given).resolve())


def _open(tracking_uri: str, *, must_exist: bool = False) -> "MlflowClient":
    """Return a client; make a database of our own if there is none."""
    # Before the import, which reads them: no reports to anybody, no chatter.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    address = registry_address(tracking_uri)
    database = Path(address.removeprefix("sqlite:///"))
    if address.startswith("sqlite:///"):
        if must_exist and not database.is_file():
            raise CheckpointError(
                "There is no model registry yet. `endofed models register` makes one; "
                f"${ADDRESS_VARIABLE} names another."
            )
        database.parent.mkdir(parents=True, exist_ok=True)
    from mlflow.tracking import MlflowClient  # takes seconds

    for name in ("mlflow", "alembic"):  # their errors carry paths and values
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if address.startswith("sqlite:///") and not database.is_file():
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        # Or MLflow would note the working directory as a place for artifacts.
        SqlAlchemyStore(address, (database.parent / ARTIFACTS_FOLDER).as_uri())
    return MlflowClient(tracking_uri=address, registry_uri=address)


def _create_run(client: "MlflowClient", source: ModelSource) -> str:
    """Return a new run of our experiment, which holds the files."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        experiment = found.experiment_id
    else:
        place = None
        address = client.tracking_uri
        if address.startswith("sqlite:///"):
            folder = Path(address.removeprefix("sqlite:///")).parent
            place = (folder / ARTIFACTS_FOLDER).as_uri()
        experiment = client.create_experiment(EXPERIMENT, artifact_location=place)
    run = client.create_run(
        experiment, run_name=f"{source.recipe.name}-{source.kind}", tags=tags_of(source)
    )
    return str(run.info.run_id)


def _ensure_name(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name)


def _local_folder(found: Any, client: "MlflowClient") -> Path:  # noqa: ANN401
    """Return the folder of a version, copied here if it is elsewhere."""
    place = urlparse(found.source)
    if place.scheme in ("", "file"):
        return Path(unquote(place.path))
    import mlflow.artifacts

    target = Path(tempfile.gettempdir()) / f"endofed-model-{uuid.uuid4().hex}"
    copied = mlflow.artifacts.download_artifacts(
        found.source, dst_path=str(target), tracking_uri=client.tracking_uri
    )
    return Path(copied)


def _check_names(name: str, alias: str) -> None:
    for what, text in (("name", name), ("alias", alias)):
        fits = _NAME.fullmatch(text) if what == "name" or text else True
        reserved = what == "alias" and re.fullmatch(r"(?i)latest|v?\d+", text)
        if not fits or reserved:
            raise CheckpointError(
                f"A {what} in the registry has letters, digits, '_', '-', '.' and "
                "spaces; an alias is no version and not 'latest'."
            )


class _guarded:
    """Tell any failure of MLflow in one sentence; its texts carry paths."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: type | None, error: BaseException | None, _: Any) -> None:  # noqa: ANN401
        """Replace what is no error of ours."""
        if isinstance(error, Exception) and not isinstance(error, CheckpointError):
            raise CheckpointError(
                f"The model registry cannot be {self._what} ({type(error).__name__}). "
                f"Check ${ADDRESS_VARIABLE} or --registry, and that the disk has room."
            ) from None
