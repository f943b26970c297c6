"""A round of FedEFM as it should be, and what was seen at the sites meanwhile."""

import contextlib
import time
from typing import NamedTuple

import psutil

from tests.deployment.federation import DOMAINS, Federation, Site
from tests.deployment.runs import Run
from tests.deployment.table import Table


class Watched(NamedTuple):
    """A run, and every command line that was seen at a site meanwhile."""

    run: Run
    commands: frozenset[str]


def watch_a_round(federation: Federation, table: Table) -> Watched:
    """Run a FedEFM round of all three; nothing may be dropped meanwhile."""
    dropped = total_dropped(federation)
    wanted = "completed, no packet to anybody else"
    with table.case("FedEFM of full weights, 3 sites, one round", wanted) as row:
        run = federation.run("fedefm")
        seen: set[str] = set()
        while run.process.poll() is None:
            for site in federation.sites.values():
                seen |= commands_of(site)
            time.sleep(1.0)
        result = run.succeed()
        assert result["sites"] == sorted(DOMAINS)
        phases = [event["phase"] for event in run.events("phase")]
        assert {"local", "overseas", "distil", "evaluate"} <= set(phases)
        assert all(event["failed"] == {} for event in run.events("phase"))
        sent = total_dropped(federation) - dropped
        assert sent == 0, f"{sent} packets to elsewhere were dropped"
        row.saw(f"{len(phases)} phases", "0 packets to anywhere else")
    return Watched(run, frozenset(seen))


def commands_of(site: Site) -> set[str]:
    found = set()
    for process in site.place.processes():
        with contextlib.suppress(psutil.Error):  # it may have ended in the meantime
            found.add(" ".join(process.cmdline()))
    return found


def total_dropped(federation: Federation) -> int:
    sites = federation.sites.values()
    return sum(site.place.dropped()["outgoing"] for site in sites)
