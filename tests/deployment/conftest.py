"""One lab, one provision and one running federation for all cases, and their table."""

import os
import signal
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tomli_w

from experiments.deployment.node_keys import make_node_key
from tests.deployment.federation import DOMAINS, Federation, Site
from tests.deployment.frames import write_frames
from tests.deployment.lab import Lab, missing_means
from tests.deployment.table import Table
from tests.deployment.watched import Watched, watch_a_round

MARK = "deployment"
TABLE_FILE = "ENDOFED_DEPLOYMENT_TABLE"
_table = Table()


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Skip, with the reason, where there are no means, or nobody asked for these."""
    reason = missing_means()
    if MARK not in str(config.option.markexpr):
        reason = "takes minutes, root and namespaces: make test-deployment"
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.timeout(1500))
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _table.rows:
        return
    terminalreporter.section("deployment")
    terminalreporter.write(_table.markdown())
    if name := os.environ.get(TABLE_FILE):
        _table.write(Path(name))


@pytest.fixture(scope="session")
def table() -> Table:
    return _table


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    # Like Ctrl-C, so that whoever ends the tests leaves no namespace behind.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Lab() as lab:
        yield lab
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def provisioned(
    lab: Lab, table: Table, tmp_path_factory: pytest.TempPathFactory
) -> Federation:
    """Machines, frames, keys and kits; nothing runs yet but the server."""
    folder = tmp_path_factory.mktemp("federation")
    federation = Federation(lab, folder, lab.place("centre", 1))
    for name, domain in DOMAINS.items():
        write_frames(folder / "data" / name, domain)
    with table.case("provision, approve, start, register", "three kits") as row:
        # Each command imports for seconds; together they keep both cores busy.
        with ThreadPoolExecutor(4) as together:
            digest = together.submit(federation.endofed, "federation", "digest")
            federation.make_kits()
            started = together.submit(federation.start_superlink)
            for site in federation.sites.values():
                approve = ("site", "approve", "--kit", str(site.kit))
                together.submit(federation.endofed, *approve, digest.result().strip())
            seconds = started.result()
            together.submit(federation.register)
        for site in federation.sites.values():
            document = tomllib.loads((site.kit / "site.toml").read_text())
            assert document["limits"]["apps"] == [digest.result().strip()]
        row.saw(f"server up in {seconds:.0f} s, sites registered")
    return federation


@pytest.fixture(scope="session")
def federation(provisioned: Federation) -> Federation:
    """A federation whose three hospitals are connected."""
    for site in provisioned.sites.values():
        site.start()
    for site in provisioned.sites.values():
        site.wait_connected()
        assert site.is_connected(), f"{site.name}: {site.said()[-600:]}"
    return provisioned


@pytest.fixture(scope="session")
def fedefm(federation: Federation, table: Table) -> Watched:
    """A FedEFM round of all three, with MLflow at the centre."""
    return watch_a_round(federation, table)


@pytest.fixture(scope="session")
def intruder(
    provisioned: Federation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A machine with a copy of hillside's kit, and without its private key."""
    folder = tmp_path_factory.mktemp("intruder")
    place = provisioned.lab.place("intruder", 20)
    place.raise_firewall()
    site = provisioned.sites["hillside"]
    stolen = Site(place, folder / "kit", folder / "state", folder / "site.log")
    stolen.kit.mkdir()
    document = tomllib.loads((site.kit / "site.toml").read_text())
    document["machine"]["state"] = str(stolen.state)
    (stolen.kit / "site.toml").write_text(tomli_w.dumps(document))
    (stolen.kit / "ca.crt").write_bytes((site.kit / "ca.crt").read_bytes())
    stolen.give_key(make_node_key().private)
    yield stolen
    place.stop_all()


@pytest.fixture(autouse=True)
def all_sites_as_before(request: pytest.FixtureRequest) -> Iterator[None]:
    """Bring back a hospital that a failed case left without a SuperNode."""
    yield
    if "federation" not in request.fixturenames:
        return
    federation: Federation = request.getfixturevalue("federation")
    for site in federation.sites.values():
        site.place.connect()
        if site.has_ended():
            site.place.stop_all()
            site.restart()
