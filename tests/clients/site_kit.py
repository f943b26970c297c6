"""A site file on disk, as a test wants it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w


def write_site_file(folder: Path, **tables: Mapping[str, Any]) -> Path:
    """Write a site file of a simulated hospital; tables are added to the defaults."""
    folder.mkdir(parents=True, exist_ok=True)
    document: dict[str, dict[str, Any]] = {
        "federation": {"name": "trial", "address": "fl.example.org:8000"},
        "site": {
            "name": "hillside",
            "domain": "human",
            "patients": 3,
            "frames-per-patient": 1,
        },
        "machine": {"device": "cpu", "state": str(folder / "state")},
        "limits": {"apps": ["any"]},
        "privacy": {},
    }
    for name, table in tables.items():
        document[name] |= table
    path = folder / "site.toml"
    path.write_text(tomli_w.dumps(document), encoding="utf-8")
    return path
