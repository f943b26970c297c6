"""The federation file: the input of `endofed provision`.

    name = "trial"
    address = "fl.example.org"     # DNS name or IP by which sites reach the centre
    port = 8000
    also = ["10.0.0.5"]            # further names or addresses of the same server
    valid-days = 365               # of the server's certificate
    image = "endofed-site:0.1.0"   # container image of sites; server-image: the server
    [limits]                       # default of every site; a site may tighten it
    max-rounds-per-day = 200
    [[site]]
    name = "hillside"
    public-key = ""                # "" = a key pair is made; else the site's own
    classes = ["catheter"]         # and any other key of [site] or [machine]

A site's table may also hold its own [site.limits] and [site.privacy].
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from experiments.deployment.federation_checks import (
    DATA_CHECKS,
    MACHINE_CHECKS,
    find_mistakes,
)
from strategies.settings import SettingsError

DATA_DEFAULTS = {"data": "/data"}
MACHINE_DEFAULTS = {
    "device": "auto",
    "gpus": 0,
    "cpus": 2,
    "memory-gib": 8,
    "checkpoint": "",
    "state": "/state",
}
LIMIT_DEFAULTS = {"min-patients": 3, "max-prototypes": 0, "apps": []}
"""What a kit says unless the federation file does: no app runs before its approval."""
PRIVACY_DEFAULTS = {"clip-norm": 0.0, "noise-multiplier": 0.0}


@dataclass(frozen=True)
class SitePlan:
    """One hospital as the federation file describes it.

    Attributes:
        name: Of the hospital, also of its folder.
        public_key: That the site has sent; "" = a key pair is made for it.
        image: Container image that it starts.
        data: Keys of [site] in its site.toml, beside the name.
        machine: Keys of [machine].
        limits: Keys of [limits].
        privacy: Keys of [privacy].
    """

    name: str
    public_key: str
    image: str
    data: Mapping[str, Any]
    machine: Mapping[str, Any]
    limits: Mapping[str, Any]
    privacy: Mapping[str, Any]

    @property
    def wants_gpu(self) -> bool:
        """Return whether its container is to see a GPU."""
        return self.machine["device"] == "cuda" or self.machine["gpus"] > 0


@dataclass(frozen=True)
class FederationPlan:
    """A federation to provision.

    Attributes:
        name: Of the federation.
        address: DNS name or IP address by which sites reach the server.
        port: The only one that sites connect to.
        also: Further names and addresses of the server.
        valid_days: Of the server's certificate.
        image: Container image of the server.
        sites: Sorted by name.
    """

    name: str
    address: str
    port: int
    also: tuple[str, ...]
    valid_days: int
    image: str
    sites: tuple[SitePlan, ...]

    @property
    def host_and_port(self) -> str:
        """Return what a SuperNode connects to; IPv6 addresses in brackets."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"

    def site(self, name: str) -> SitePlan | None:
        """Return a site by its name, or None."""
        return next((one for one in self.sites if one.name == name), None)


def read_plan(text: str) -> FederationPlan:
    """Read and check the content of a federation file.

    Args:
        text: The content.

    Returns:
        The federation.

    Raises:
        SettingsError: If it is no TOML, or with all its mistakes at once.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"line \d+, column \d+|end of document", str(error))
        where = f" near {place[0]}" if place else ""
        raise SettingsError(f"The federation file is not valid TOML{where}.") from None
    mistakes = find_mistakes(document)
    if mistakes:
        raise SettingsError(
            f"{len(mistakes)} mistake(s) in the federation file: {'; '.join(mistakes)}."
        )
    return _read(document)


def read_text(path: Path) -> str:
    """Read a text file that a person has named.

    Args:
        path: Of the file.

    Returns:
        Its content.

    Raises:
        SettingsError: If it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise SettingsError(
            f"'{path}' cannot be read: give the path of a UTF-8 text file that this "
            "program's user may read."
        ) from None


def _read(document: Mapping[str, Any]) -> FederationPlan:
    release = version("endofed")
    sites = [_read_site(table, document, release) for table in document["site"]]
    return FederationPlan(
        name=document["name"],
        address=document["address"],
        port=document.get("port", 8000),
        also=tuple(document.get("also", [])),
        valid_days=document.get("valid-days", 365),
        image=document.get("server-image", f"endofed-server:{release}"),
        sites=tuple(sorted(sites, key=lambda site: site.name)),
    )


def _read_site(
    table: Mapping[str, Any], document: Mapping[str, Any], release: str
) -> SitePlan:
    machine = MACHINE_DEFAULTS | _picked(table, MACHINE_CHECKS)
    site = SitePlan(
        name=table["name"],
        public_key=table.get("public-key", ""),
        image=table.get("image", document.get("image", "")),
        data=DATA_DEFAULTS | _picked(table, DATA_CHECKS),
        machine=machine,
        limits=LIMIT_DEFAULTS | document.get("limits", {}) | table.get("limits", {}),
        privacy=PRIVACY_DEFAULTS
        | document.get("privacy", {})
        | table.get("privacy", {}),
    )
    kind = "site-cuda" if site.wants_gpu else "site"
    return site if site.image else replace(site, image=f"endofed-{kind}:{release}")


def _picked(table: Mapping[str, Any], keys: Mapping[str, object]) -> dict[str, Any]:
    return {key: table[key] for key in keys if key in table}
