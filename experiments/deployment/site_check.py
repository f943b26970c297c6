"""`endofed site check`: everything that keeps a site from joining, found beforehand.

The report goes back to the centre, so it holds numbers and this program's own words: no
path, host, folder, file or patient. The key's fingerprint is in it, by which the centre
knows whose report it is.
"""

import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clients.data.errors import DataError
from clients.hospital import CACHE_FOLDER
from clients.site_file import ANY_APP, SiteFile
from clients.versions import software_versions
from experiments.deployment.checks.certificate import check_certificate
from experiments.deployment.checks.clock import check_clock
from experiments.deployment.checks.data import check_data
from experiments.deployment.checks.disk import check_disk
from experiments.deployment.checks.finding import Finding, find
from experiments.deployment.checks.key import check_key
from experiments.deployment.checks.machine import check_gpu, check_memory
from experiments.deployment.checks.network import (
    check_dns,
    check_port,
    split_address,
)
from experiments.deployment.checks.training import TIME, TRAINING, check_training
from experiments.deployment.supernode import CERTIFICATE, KEY, SITE_FILE
from server.journal import write_json

REPORT = "site-check.json"
PUBLIC = "supernode.pub"
"""Of a kit, beside those that a SuperNode needs."""
COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}
NOT_ASKED = "Left out by --quick."


def run_checks(kit: Path, *, quick: bool) -> Iterator[Finding]:
    """Check a site, one finding after the other.

    Args:
        kit: Folder with site.toml, ca.crt and supernode.key.
        quick: Leave out what reads frames.

    Yields:
        Findings, always the same names in the same order.

    Raises:
        DataError: If site.toml cannot be used; then nothing else can be asked.
    """
    site = SiteFile.read(kit / SITE_FILE)
    host, port = split_address(site.federation.address)
    machine = site.machine
    yield find("DNS", lambda: check_dns(host))
    yield find("port", lambda: check_port(host, port))
    yield find("clock", lambda: check_clock(host, port))
    yield find("certificate", lambda: check_certificate(host, port, kit / CERTIFICATE))
    yield find("key", lambda: check_key(kit / KEY, kit / PUBLIC))
    yield find("app", lambda: check_apps(site))
    yield find("memory", lambda: check_memory(machine.memory_gib))
    yield find("GPU", lambda: check_gpu(machine.device, machine.gpus))
    yield find("disk: state", lambda: check_disk("disk: state", machine.state))
    cache = machine.state / CACHE_FOLDER
    yield find("disk: cache", lambda: check_disk("disk: cache", cache))
    if quick:
        for name in ("data", TRAINING, TIME):
            yield Finding(name, "skipped", NOT_ASKED)
        return
    yield find("data", lambda: check_data(site))
    yield from _training(kit / SITE_FILE)


def check_apps(site: SiteFile) -> Finding:
    """Look which apps the site approved.

    Args:
        site: Its site file.

    Returns:
        The finding.
    """
    apps = site.limits.apps
    if ANY_APP in apps:
        return Finding(
            "app",
            "warning",
            "Whatever code the centre sends may run here (apps = any).",
            "Approve digests instead: `endofed site approve DIGEST`.",
        )
    if not apps:
        return Finding(
            "app",
            "warning",
            "No app is approved, so every run will be refused.",
            "Ask the centre for the digest: `endofed site approve DIGEST`.",
        )
    numbers = {"approved": len(apps)}
    return Finding("app", "ok", f"{len(apps)} approved app(s).", numbers=numbers)


def report_of(findings: Sequence[Finding], now: datetime) -> dict[str, Any]:
    """Put the report together that may be sent to the centre.

    Args:
        findings: All of a check.
        now: Time of it, with time zone.

    Returns:
        JSON object without identities.
    """
    return {
        "version": 1,
        "created": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "python": platform.python_version(),
        "system": platform.system(),
        **software_versions(),
        "failed": sum(one.level == "failed" for one in findings),
        "findings": [
            {
                "name": one.name,
                "level": one.level,
                "says": one.says,
                "advice": one.advice,
                **one.numbers,
            }
            for one in findings
        ],
    }


def write_report(state: Path, report: dict[str, Any]) -> Path:
    """Write the report into the site's state folder.

    Args:
        state: `state` of site.toml; made if missing.
        report: Of `report_of`.

    Returns:
        Path of the file.

    Raises:
        DataError: If it cannot be written.
    """
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        return write_json(state / REPORT, report)
    except OSError:
        raise DataError(
            "The report cannot be written: let this program's user write the folder "
            "`state` of site.toml."
        ) from None


def show_findings(console: Console, findings: Sequence[Finding]) -> None:
    """Print all findings on one screen.

    Args:
        console: Where to print.
        findings: All of a check.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("check", "result"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what was found, and what to do", overflow="fold")
    for one in findings:
        says = f"{one.says}\n→ {one.advice}" if one.advice else one.says
        level = f"[{COLOURS[one.level]}]{one.level}[/]"
        table.add_row(one.name, level, escape(says))
    console.print(table)


def _training(site_file: Path) -> Iterator[Finding]:
    found: list[Finding] = []

    def train() -> Finding:
        found.extend(check_training(site_file))
        return found[0]

    yield find(TRAINING, train)
    yield found[1] if found else Finding(TIME, "skipped", "Not known.")
