"""The site file: all that a hospital decides about its part in a federation.

`site.toml` lies in the hospital's kit and is read inside the hospital only; nothing of
it can be set from outside. What stands in [site] means exactly what it means in a sites
file: the same functions check and read it, with `data` as the name of the folder.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clients.data.errors import DataError
from clients.data.splits import MIN_PATIENTS
from clients.site_checks import find_mistakes
from clients.site_file_checks import TABLES, find_table_mistakes, flatten_bounds
from clients.sites import SiteSpec, read_document, read_site
from strategies.settings import SettingValue

ANY_APP = "any"
"""In place of a digest: every app that the centre sends may run."""


@dataclass(frozen=True)
class Federation:
    """Which federation, and where its centre is."""

    name: str
    address: str  # host:port


@dataclass(frozen=True)
class Machine:
    """What the hospital's machine gives."""

    device: str = "auto"  # auto = what the run asks for; cpu and cuda overrule it
    gpus: int = 0
    cpus: float = 2
    memory_gib: float = 8
    checkpoint: str = ""  # the site's own copy of the run's official SAM file
    state: Path = field(default=Path("/state"), repr=False)  # may be written


@dataclass(frozen=True)
class Bound:
    """What one setting of a run may be: one of a list, or within a range."""

    allowed: tuple[SettingValue, ...] | None = None
    least: float | None = None
    most: float | None = None

    def holds(self, value: SettingValue) -> bool:
        """Tell whether a value is within the bound."""
        if self.allowed is not None:
            # True == 1 in Python, but not in a settings file.
            return any(
                value == one and isinstance(value, bool) == isinstance(one, bool)
                for one in self.allowed
            )
        if isinstance(value, bool | str):
            return False
        is_enough = self.least is None or value >= self.least
        return is_enough and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        """Say what is allowed."""
        if self.allowed is not None:
            return ", ".join(map(str, self.allowed)) or "nothing"
        ends = (("at least", self.least), ("at most", self.most))
        return " and ".join(f"{word} {end:g}" for word, end in ends if end is not None)


@dataclass(frozen=True)
class Limits:
    """What the hospital allows; None = no limit."""

    strategies: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    max_rounds_per_day: int | None = None
    min_patients: int = MIN_PATIENTS
    max_prototypes: int | None = None  # tokens that may leave
    max_seconds_per_phase: float | None = None
    apps: tuple[str, ...] = ()  # SHA-256 of approved apps; none runs that is not here
    settings: Mapping[str, Bound] = field(default_factory=dict)  # by the run's key

    def approves(self, digest: str) -> bool:
        """Tell whether an app may run.

        Args:
            digest: SHA-256 of the whole app (FAB), 64 hexadecimal digits.
        """
        return ANY_APP in self.apps or digest.lower() in self.apps


@dataclass(frozen=True)
class Privacy:
    """What is done to what a training changed before it leaves; 0 = nothing."""

    clip_norm: float = 0.0
    noise_multiplier: float = 0.0  # standard deviation over clip_norm


@dataclass(frozen=True)
class SiteFile:
    """A site file, read and checked.

    Attributes:
        federation: Whose kit this is.
        spec: The hospital and its frames, as a sites file describes them.
        machine: What the machine gives.
        limits: What the hospital allows.
        privacy: What is done to weights before they leave.
    """

    federation: Federation
    spec: SiteSpec
    machine: Machine
    limits: Limits
    privacy: Privacy

    @property
    def name(self) -> str:
        """Name of the hospital."""
        return self.spec.name

    @classmethod
    def read(cls, path: Path) -> "SiteFile":
        """Read and check a site file.

        Args:
            path: Of `site.toml`; relative paths in it start at its folder.

        Returns:
            What the hospital decided.

        Raises:
            DataError: If it cannot be read, or with all its mistakes at once. The text
                holds no path.
        """
        document = read_document(path, "site file")
        beside = path.absolute().parent
        mistakes = find_table_mistakes(document)
        site = _as_sites_file_has_it(document)
        mistakes += [] if site is None else _site_mistakes(site, beside)
        if mistakes or site is None:
            raise DataError(
                f"{len(mistakes)} mistake(s) in the site file: {'; '.join(mistakes)}."
            )
        return cls(
            federation=Federation(**_fields(document, "federation")),
            spec=read_site(site, beside),
            machine=_read_machine(document, beside),
            limits=_read_limits(document),
            privacy=Privacy(**_fields(document, "privacy")),
        )


def _as_sites_file_has_it(document: Mapping[str, Any]) -> dict[str, Any] | None:
    site, limits = document.get("site"), document.get("limits", {})
    if not isinstance(site, dict) or not isinstance(limits, dict):
        return None  # said already
    table = {"folder" if key == "data" else key: site[key] for key in site}
    if TABLES["limits"]["min-patients"](limits.get("min-patients", 1)) is None:
        table["min-patients"] = limits.get("min-patients", MIN_PATIENTS)
    return table


def _site_mistakes(site: dict[str, Any], beside: Path) -> list[str]:
    """Say in the words of a site file what is wrong in the words of a sites file."""
    return [
        re.sub(r"^site 1( '[^']*')?", "[site]", mistake)
        .replace("domain or folder", "data (a folder) or domain")
        .replace("goes with folder", "goes with data")
        .replace(": folder must", ": data must")
        for mistake in find_mistakes({"site": [site]}, beside)
    ]


def _fields(document: Mapping[str, Any], table: str) -> dict[str, Any]:
    content = document.get(table, {})
    return {key.replace("-", "_"): value for key, value in content.items()}


def _read_machine(document: Mapping[str, Any], beside: Path) -> Machine:
    found = _fields(document, "machine")
    found["state"] = beside / found.get("state", Machine.state)
    if found.get("checkpoint"):
        found["checkpoint"] = str(beside / found["checkpoint"])
    return Machine(**found)


def _read_limits(document: Mapping[str, Any]) -> Limits:
    found = _fields(document, "limits")
    for key in ("strategies", "models"):
        if key in found:
            found[key] = tuple(found[key])
    found["apps"] = tuple(digest.lower() for digest in found.get("apps", ()))
    found["settings"] = {
        key: _read_bound(bound)
        for key, bound in flatten_bounds(found.get("settings", {})).items()
    }
    return Limits(**found)


def _read_bound(written: Any) -> Bound:  # noqa: ANN401 - checked before
    if isinstance(written, list):
        return Bound(allowed=tuple(written))
    return Bound(least=written.get("min"), most=written.get("max"))
