"""A line that is cut, sites and a server that stop in the middle, and come back."""

import re
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.deployment.federation import CONNECTED, PATIENCE_S, Federation, Site
from tests.deployment.runs import FEDAVG, Run, wait_until
from tests.deployment.table import Table

pytestmark = pytest.mark.deployment

PHASE_TIMEOUT_S = 65
"""Longer than Flower believes in a node that says nothing, 60 s."""
ROUNDS = 2
CUT_S = 30.0


def node_of(site: Site) -> str:
    found = re.search(rf"{CONNECTED} (\d+)", site.said())
    assert found, site.said()[-600:]
    return found[1]


def test_a_site_that_was_restarted_is_the_same_node(
    federation: Federation, table: Table
) -> None:
    site = federation.sites["harbour"]
    with table.case("site restarted between runs", "same node, online") as row:
        before = node_of(site)
        assert federation.all_online()
        assert site.stop() == 0
        assert not federation.all_online()
        started = time.monotonic()
        site.start()
        site.wait_connected()
        assert site.is_connected(), site.said()[-600:]
        assert node_of(site) == before
        wait_until("all are online", federation.all_online, PATIENCE_S)
        row.saw(f"back after {time.monotonic() - started:.0f} s")


@pytest.fixture(scope="module")
def undisturbed(federation: Federation) -> Iterator[Run]:
    """The run of the last test without its disturbances, while others only wait."""
    settings = (*FEDAVG, f"num-rounds={ROUNDS}")
    with federation.simulating("whole", *settings) as run:
        yield run


@pytest.mark.usefixtures("undisturbed")
def test_a_site_that_loses_power_in_a_round_is_missed_and_takes_part_again(
    federation: Federation, table: Table
) -> None:
    site = federation.sites["harbour"]
    with table.case("site lost power in a round", "missed by name, then back") as row:
        before = len(site.audit())
        timeout = f"phase-timeout-s={PHASE_TIMEOUT_S}.0"
        settings = (*FEDAVG, "num-rounds=1", "min-sites=2", timeout)
        run = federation.run("power", *settings)
        site.wait_training(before)
        site.lose_power()
        started = time.monotonic()
        assert site.restart(), site.said()[-600:]
        away = time.monotonic() - started
        result = run.succeed()
        failed = run.phase("local")["failed"]
        assert list(failed) == [site.name]
        assert run.phase("local")["replied"] == ["hillside", "lakeside"]
        assert site.name in result["sites"], result
        row.saw(f'"{failed[site.name]}"', f"let in again after {away:.0f} s")


@pytest.fixture(scope="module")
def cut(federation: Federation, table: Table) -> Run:
    """A run of two rounds; in the first a hospital's line is cut for half a minute."""
    site = federation.sites["hillside"]
    wanted = "completed by all, half a minute later"
    with table.case(f"link cut for {CUT_S:.0f} s in round 1", wanted) as row:
        before = len(site.audit())
        run = federation.run("killed", *FEDAVG, f"num-rounds={ROUNDS}")
        site.wait_training(before)
        site.place.cut()
        time.sleep(CUT_S)
        assert not run.events("round"), "the round ended without the site"
        site.place.connect()
        wait_until("round 1 ends", lambda: run.events("round"), 200)
        phase = run.phase("local")
        assert phase["replied"] == sorted(federation.sites)
        assert phase["failed"] == {}
        assert phase["seconds"] > CUT_S
        assert not site.has_ended()
        row.saw(f"phase took {phase['seconds']:.0f} s", "no site failed")
    return run


def test_a_server_that_is_killed_fails_the_run_and_the_next_one_goes_on(
    federation: Federation, table: Table, cut: Run, undisturbed: Run
) -> None:
    site = federation.sites["hillside"]
    with table.case("server killed in round 2", "run failed, nodes come back") as row:
        site.wait_training(len(site.audit()))
        kill_server(federation)
        federation.start_superlink()
        started = time.monotonic()
        code = cut.wait()
        assert code == 1, cut.said()[-600:]
        assert [event["round"] for event in cut.events("round")] == [1]
        wait_until("all are online", federation.all_online, PATIENCE_S)
        assert not any(one.has_ended() for one in federation.sites.values())
        row.saw(
            f"exit code {code}",
            f"all three online {time.monotonic() - started:.0f} s after the restart",
        )
    with table.case("next run with --resume", "goes on with round 2") as row:
        options = ("--resume", str(cut.folder))
        second = federation.run("resumed", options=options)
        result = second.succeed()
        assert [event["round"] for event in second.events("round")] == [ROUNDS]
        assert result["sites"] == sorted(federation.sites)
        row.saw("round 2 completed by all three")
    with table.case("the same, never disturbed", "bit-identical weights") as row:
        assert undisturbed.wait() == 0, undisturbed.said()[-600:]
        assert undisturbed.weights() == second.weights()
        row.saw(f"both SHA-256 {second.weights()[:12]}…")


def kill_server(federation: Federation) -> None:
    """Kill the server and all that it started, but not who follows the run."""
    assert federation.superlink is not None
    server = psutil.Process(federation.superlink.pid)
    doomed = [server, *server.children(recursive=True)]
    for process in doomed:
        process.kill()
    psutil.wait_procs(doomed, timeout=10)
    federation.superlink.wait(10)
