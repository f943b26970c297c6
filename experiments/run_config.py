"""Puts a run's settings together: defaults, a TOML file, `key=value`, in this order.

The defaults are those that Flower reads, `[tool.flwr.app.config]` of `pyproject.toml`;
the result is the flat mapping that `flwr run` takes. Mistakes are found here, before
anything is started.
"""

import json
import tomllib
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from clients.sites import SiteSpec, load_sites
from strategies.settings import RunSettings, SettingsError, SettingValue

PROJECT_FOLDER = Path(__file__).resolve().parent.parent
"""What `flwr run` bundles; the checkout that this package was installed from."""

PATH_LEFT_OUT = "custom"
"""What `server.journal.public_settings` writes in the place of a path."""


def default_run_config() -> dict[str, SettingValue]:
    """Return every setting with its default, flat."""
    with (PROJECT_FOLDER / "pyproject.toml").open("rb") as stream:
        project = tomllib.load(stream)
    return flatten(project["tool"]["flwr"]["app"]["config"])


def resolve_run_config(
    *,
    config: Path | None = None,
    overrides: Iterable[str] = (),
    sites: Path | None = None,
    output: Path | None = None,
    resume: Path | None = None,
) -> dict[str, SettingValue]:
    """Put the settings of a run together and check them.

    Args:
        config: A TOML file with some of the settings.
        overrides: Texts such as `train.steps=8`, with values as TOML writes them.
        sites: A sites file; kept as an absolute path.
        output: The run folder; kept as an absolute path.
        resume: Folder of an earlier run to go on from; its settings come before
            `config`. Paths are not kept in a run folder and have to be given again.

    Returns:
        The complete flat settings.

    Raises:
        SettingsError: If a file is no TOML, an override is no `key=value`, or a
            setting is unknown or wrong; all wrong settings are named.
    """
    resolved = default_run_config()
    if resume is not None:
        resolved.update(_earlier_settings(resume))
        resolved["resume"] = str(resume.resolve())
    if config is not None:
        resolved.update(flatten(_read_toml(config)))
    for override in overrides:
        resolved.update(flatten(parse_override(override)))
    if sites is not None:
        resolved["sites"] = str(sites.resolve())
    _check_paths_given(resolved)
    if output is not None:
        resolved["output"] = str(output.resolve())
    RunSettings.from_run_config(resolved)
    return resolved


def sites_of(run_config: Mapping[str, SettingValue]) -> tuple[SiteSpec, ...]:
    """Return the hospitals that a run's sites file lists.

    Args:
        run_config: Complete flat settings.

    Returns:
        The hospitals, sorted by name.

    Raises:
        DataError: If the sites file is wrong.
    """
    return load_sites(str(run_config["sites"]))


def new_run_folder(parent: Path) -> Path:
    """Return the path of a run folder that does not exist yet.

    Args:
        parent: Where it is to be.

    Returns:
        An absolute path, named after the present time.
    """
    folder = parent.resolve() / datetime.now().strftime("%Y%m%d-%H%M%S")
    while folder.exists():
        folder = folder.with_name(folder.name + "-b")
    return folder


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, SettingValue]:
    """Turn nested tables into dotted keys, as Flower does.

    Args:
        nested: Tables of tables.
        prefix: What comes before the keys.

    Returns:
        One level of `table.key`.
    """
    flat: dict[str, SettingValue] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _earlier_settings(folder: Path) -> dict[str, SettingValue]:
    """Return what an earlier run was told, without what belongs to that run alone."""
    try:
        told = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise SettingsError(
            "The run to resume has no readable settings.json. Give the folder of a run."
        ) from None
    told.pop("output", None)
    if told.get("sites") == "default":
        told["sites"] = ""
    return {key: value for key, value in told.items() if key in default_run_config()}


def _check_paths_given(resolved: Mapping[str, SettingValue]) -> None:
    """Ask again for paths: a run folder keeps only that there was one."""
    for key, value in resolved.items():
        if value == PATH_LEFT_OUT:
            option = "--sites FILE" if key == "sites" else f"--set {key}=PATH"
            raise SettingsError(
                f"The earlier run had a path of its own as {key}, which run folders do "
                f"not keep. Give it again with {option}."
            )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"The config file is not valid TOML: {error}.") from None
    except OSError as error:
        raise SettingsError(
            f"The config file cannot be read ({error.strerror}). "
            "Give the path of a TOML file."
        ) from None


def parse_override(override: str) -> dict[str, Any]:
    """Read one KEY=VALUE of --set.

    Args:
        override: A dotted key and a TOML value; a bare word is a text.

    Returns:
        The key and its value.

    Raises:
        SettingsError: If it is not of that form.
    """
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise SettingsError(
            f"--set wants key=value, such as --set train.steps=8, got '{override}'."
        )
    try:
        return {key.strip(): tomllib.loads(f"value = {value}")["value"]}
    except tomllib.TOMLDecodeError:
        # A bare word is a string: nobody wants to quote quotes in a shell.
        return {key.strip(): value.strip()}
