"""Who takes part: what is provisioned, who is online, and what sites last said."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from experiments.deployment.provision_state import ACTIVE, ProvisionState
from experiments.deployment.registration import Node
from server.journal import SITES_FILE

ONLINE, MISSING, UNKNOWN = "online", "not registered", "–"
VERSIONS = ("endofed", "flwr", "torch")
"""What a site says of its software, as `version-NAME` in its introduction."""
COLOURS = {ONLINE: "green", "offline": "yellow", MISSING: "red"}


@dataclass(frozen=True)
class SiteStatus:
    """One site.

    Attributes:
        name: Of the site.
        provisioned: active or revoked.
        connection: online, offline, registered (never seen) or not registered.
        last_seen: For a person to read; "" = never.
        versions: Of its software when it last took part, by name.
        counts: Of its data then, by name.
    """

    name: str
    provisioned: str
    connection: str
    last_seen: str
    versions: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


def site_statuses(
    state: ProvisionState,
    nodes: Mapping[str, Node],
    introductions: Mapping[str, Mapping[str, Any]],
    now: datetime,
) -> list[SiteStatus]:
    """Put together what is known of every site of a provision.

    Args:
        state: Of the provision.
        nodes: Of `registration.nodes_by_site`.
        introductions: Of `read_introductions`.
        now: Time of it, with time zone.

    Returns:
        A status for each site, sorted by name.
    """
    statuses = []
    for name, site in sorted(state.sites.items()):
        node, facts = nodes.get(name), introductions.get(name, {})
        statuses.append(
            SiteStatus(
                name=name,
                provisioned=site.status,
                connection=MISSING if node is None else node.status,
                last_seen="" if node is None else _last_seen(node, now),
                versions={
                    one: str(facts[f"version-{one}"])
                    for one in VERSIONS
                    if f"version-{one}" in facts
                },
                counts={
                    short: int(facts[key])
                    for short, key in (
                        ("patients", "num-patients"),
                        ("train", "frames-train"),
                        ("validation", "frames-validation"),
                        ("test", "frames-test"),
                    )
                    if isinstance(facts.get(key), int)
                },
            )
        )
    return statuses


def read_introductions(runs: Path) -> tuple[str, dict[str, Any]]:
    """Read what the sites said of themselves in the last run that they joined.

    Args:
        runs: Folder of run folders.

    Returns:
        Name of the run folder, and facts by name of the site; "" and none without a
        run.
    """
    try:
        found = sorted(
            runs.glob(f"*/{SITES_FILE}"), key=lambda one: one.stat().st_mtime
        )
    except OSError:
        return "", {}
    for path in reversed(found):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # being written, or damaged: the one before will do
        if isinstance(content, dict):
            sites = {k: v for k, v in content.items() if isinstance(v, dict)}
            return path.parent.name, sites
    return "", {}


def status_table(statuses: list[SiteStatus], run: str) -> Table:
    """Lay the sites out, one a row.

    Args:
        statuses: Of `site_statuses`.
        run: From which run versions and counts are; "" = none yet.
    """
    table = Table(
        box=box.SIMPLE_HEAD,
        caption=f"Versions and frames: what sites said in run {run}."
        if run
        else "Versions and frames are known once a run has begun.",
        caption_justify="left",
    )
    for heading in ("site", "connection", "last seen", *VERSIONS):
        table.add_column(heading, no_wrap=True)
    for heading in ("patients", "train / val / test"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in statuses:
        colour = COLOURS.get(one.connection, "default")
        connection = f"[{colour}]{one.connection}[/]"
        if one.provisioned != ACTIVE:
            connection = one.provisioned
            if one.connection != MISSING:
                connection = f"[red]{one.provisioned}, still {one.connection}[/]"
        counts = [one.counts.get(name) for name in ("train", "validation", "test")]
        table.add_row(
            one.name,
            connection,
            one.last_seen or "never",
            *(one.versions.get(name, UNKNOWN) for name in VERSIONS),
            str(one.counts.get("patients", UNKNOWN)),
            " / ".join(UNKNOWN if n is None else str(n) for n in counts),
        )
    return table


def needs_a_look(statuses: list[SiteStatus]) -> list[str]:
    """Say what a person at the centre should do.

    Args:
        statuses: Of `site_statuses`.

    Returns:
        Sentences; none if all active sites are online and no revoked one is known.
    """
    advice = []
    missing = [s.name for s in statuses if _is(s, ACTIVE) and s.connection == MISSING]
    if missing:
        advice.append(
            f"Not registered: {', '.join(missing)}. Run `endofed federation register`."
        )
    known = [s.name for s in statuses if not _is(s, ACTIVE) and s.connection != MISSING]
    if known:
        advice.append(
            f"Revoked, but still admitted: {', '.join(known)}. Run `endofed federation "
            "register` now."
        )
    away = [
        s.name
        for s in statuses
        if _is(s, ACTIVE) and s.connection not in (MISSING, ONLINE)
    ]
    if away:
        advice.append(
            f"Not online: {', '.join(away)}. Ask each for `endofed site check`."
        )
    versions = {tuple(sorted(s.versions.items())) for s in statuses if s.versions}
    if len(versions) > 1:
        advice.append("Sites run different versions; results may differ in the end.")
    return advice


def _is(status: SiteStatus, provisioned: str) -> bool:
    return status.provisioned == provisioned


def _last_seen(node: Node, now: datetime) -> str:
    if node.status == ONLINE:
        return "now"
    if node.last_seen is None:
        return ""
    seen = node.last_seen.astimezone(UTC)
    minutes = max(0, round((now - seen).total_seconds() / 60))
    ago = f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
    return f"{seen:%Y-%m-%d %H:%M} UTC ({ago} ago)"
