"""Every mistake of a federation file at once, in words.

What goes into a site.toml is checked here by the same rules as inside the hospital.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clients.site_checks import find_mistakes as find_data_mistakes
from clients.site_file_checks import TABLES, find_table_mistakes
from clients.site_values import NAME_PATTERN, SOURCE_CHECKS, Check, quoted
from experiments.deployment.certificates import is_address
from experiments.deployment.node_keys import read_public_key
from strategies.settings import SettingsError

Table = Mapping[str, Any]
NOT_NAMES = ("server", "ca")
"""Words that `endofed provision rotate` understands as something else."""
MAX_DAYS = 3650
HOST_PATTERN = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
IMAGE_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}")
NO_ADDRESS = {"name": "x", "address": "x:1"}
"""Of a federation, where only other tables of a site.toml are looked at."""


def find_mistakes(document: Table) -> list[str]:
    """Look for everything that is wrong in a federation file.

    Args:
        document: The content of the file.

    Returns:
        One phrase a mistake; empty if `experiments.deployment.federation_file` can read
        the document.
    """
    sites = document.get("site", [])
    plain = {key: value for key, value in document.items() if key != "site"}
    mistakes = [
        f"{key} is missing" for key in ("name", "address") if key not in document
    ]
    mistakes += _wrong_values("", plain, FEDERATION_CHECKS)
    mistakes += _table_mistakes("", document, {})
    if not isinstance(sites, list) or not all(isinstance(one, dict) for one in sites):
        return [*mistakes, "write each hospital as a [[site]] table"]
    if not sites:
        return [*mistakes, "at least one [[site]] table is needed, found none"]
    for number, site in enumerate(sites, start=1):
        named = check_name(site.get("name")) is None
        label = f"site {number}" + (f" '{site['name']}': " if named else ": ")
        mistakes += [] if "name" in site else [f"{label}name is missing"]
        mistakes += _wrong_values(label, site, SITE_CHECKS)
        mistakes += _table_mistakes(label, site, document)
    mistakes += _shared_names(sites) + _shared_keys(sites)
    return mistakes or _data_mistakes(sites)


def check_name(value: object) -> str | None:
    """Return what the name of a site or a federation must be, or None if it is one."""
    if not isinstance(value, str) or not NAME_PATTERN.fullmatch(value):
        return "1 to 40 letters, digits, '-', '_' or '.'"
    if value[0] in ".-":
        return "a name that starts with a letter or a digit"
    return f"another word than '{value}'" if value.lower() in NOT_NAMES else None


def _wrong_values(label: str, table: Table, checks: Mapping[str, Check]) -> list[str]:
    mistakes = []
    for key, value in table.items():
        if key not in checks:
            close = difflib.get_close_matches(key, list(checks), n=1)
            hint = f", did you mean '{close[0]}'?" if close else ""
            mistakes.append(f"{label}unknown key{quoted(key)}{hint}")
        elif wanted := checks[key](value):
            mistakes.append(f"{label}{key} must be {wanted}")
    return mistakes


def _table_mistakes(label: str, document: Table, defaults: Table) -> list[str]:
    """Look into [limits] and [privacy], where they are tables."""
    found = {
        name: {**_as_table(defaults.get(name)), **document[name]}
        for name in ("limits", "privacy")
        if isinstance(document.get(name), dict)
    }
    if not found:
        return []
    whole = {"federation": NO_ADDRESS, "site": {}, **found}
    already = {"federation": NO_ADDRESS, "site": {}}
    already |= {name: _as_table(defaults.get(name)) for name in found}
    said = find_table_mistakes(already)
    return [f"{label}{one}" for one in find_table_mistakes(whole) if one not in said]


def _as_table(value: object) -> Table:
    return value if isinstance(value, dict) else {}


def _data_mistakes(sites: Iterable[Table]) -> list[str]:
    """Compare keys that are right one by one, such as labels with classes."""
    tables = [
        # Folders lie on different machines, so no two sites share one.
        {key: site[key] for key in ("name", *DATA_KEYS) if key in site}
        | {"folder": f"/{number}"}
        for number, site in enumerate(sites)
    ]
    return find_data_mistakes({"site": tables}, Path("/"))


def _shared_names(sites: Iterable[Table]) -> list[str]:
    """Find names that are one and the same folder on some computers."""
    names = [one["name"] for one in sites if check_name(one.get("name")) is None]
    folded = [name.casefold() for name in names]
    return [
        f"the name '{name}' is used {folded.count(name)} times, names must differ in "
        "more than capitals"
        for name in dict.fromkeys(folded)
        if folded.count(name) > 1
    ]


def _shared_keys(sites: Iterable[Table]) -> list[str]:
    owners: dict[str, str] = {}
    mistakes = []
    for site in sites:
        text, name = site.get("public-key"), str(site.get("name"))
        if text and _check_key(text) is None:
            public = read_public_key(text).public
            if public in owners:
                mistakes.append(
                    f"'{owners[public]}' and '{name}' have the same public-key; every "
                    "site needs its own"
                )
            owners.setdefault(public, name)
    return mistakes


def _check_key(value: object) -> str | None:
    if value == "":
        return None
    if not isinstance(value, str):
        return '"" or the line that the site has sent, in quotes'
    try:
        read_public_key(value)
    except SettingsError as error:
        return f'"" or the line that the site has sent. {str(error).rstrip(".")}'
    return None


def _is_host(value: object) -> bool:
    return isinstance(value, str) and (
        is_address(value) or HOST_PATTERN.fullmatch(value) is not None
    )


def _check_host(value: object) -> str | None:
    if not _is_host(value):
        return "a DNS name or an IP address, without https:// and without a port"
    return None


def _check_hosts(value: object) -> str | None:
    if isinstance(value, list) and all(_is_host(one) for one in value):
        return None
    return "a list of DNS names and IP addresses"


def _check_image(value: object) -> str | None:
    if isinstance(value, str) and IMAGE_PATTERN.fullmatch(value):
        return None
    return "the name of a container image, such as endofed-site:1.0"


def _whole(minimum: int, maximum: int) -> Check:
    def check(value: object) -> str | None:
        if isinstance(value, int) and not isinstance(value, bool):
            if minimum <= value <= maximum:
                return None
        return f"a whole number from {minimum} to {maximum}"

    return check


def _check_path(value: object) -> str | None:
    is_one = isinstance(value, str) and value.startswith("/") and value.isprintable()
    return None if is_one else "a path inside the container that starts with /"


def _check_table(value: object) -> str | None:
    return None if isinstance(value, dict) else "a table"


DATA_KEYS = (
    "layout",
    "classes",
    "data-type",
    "labels",
    "ignore-labels",
    "line-width",
    "device-polarity",
    "skip-damaged",
    "part",
)
DATA_CHECKS: Mapping[str, Check] = {
    "data": _check_path,
    **{key: SOURCE_CHECKS[key] for key in DATA_KEYS},
}
"""Keys of [site] in a site.toml, beside its name."""
MACHINE_CHECKS: Mapping[str, Check] = {**TABLES["machine"], "state": _check_path}
"""Keys of [machine] in a site.toml."""
TABLE_CHECKS: Mapping[str, Check] = {"limits": _check_table, "privacy": _check_table}
SITE_CHECKS: Mapping[str, Check] = {
    "name": check_name,
    "public-key": _check_key,
    "image": _check_image,
    **DATA_CHECKS,
    **MACHINE_CHECKS,
    **TABLE_CHECKS,
}
FEDERATION_CHECKS: Mapping[str, Check] = {
    "name": check_name,
    "address": _check_host,
    "port": _whole(1, 65535),
    "also": _check_hosts,
    "valid-days": _whole(1, MAX_DAYS),
    "image": _check_image,
    "server-image": _check_image,
    **TABLE_CHECKS,
}
