"""A site says which software it runs, and nothing else of its machine."""

from pathlib import Path

import pytest

from clients import versions
from clients.hospital import Hospital
from clients.versions import software_versions
from strategies.settings import RunSettings
from tests.clients.site_kit import write_site_file


def test_an_introduction_carries_the_versions(
    tmp_path: Path, run_settings: RunSettings
) -> None:
    node = {"site-file": str(write_site_file(tmp_path))}
    facts = Hospital.from_node_config(node, run_settings).facts()
    told = {key for key in facts if key.startswith("version-")}
    assert told == {"version-endofed", "version-flwr", "version-torch"}
    assert facts["version-flwr"].startswith("1.")


def test_a_package_that_is_not_installed_has_no_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(versions, "PACKAGES", ("no-such-package-here",))
    assert software_versions() == {"version-no-such-package-here": "unknown"}
