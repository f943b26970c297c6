"""Bad links: slow, late and stalling. One that is cut: see test_restarts.py."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from experiments.run_config import PROJECT_FOLDER
from tests.deployment.federation import Federation, Site, environment_of
from tests.deployment.lab import CENTRE_ADDRESS, LINE_PORT, PORT
from tests.deployment.runs import FEDAVG, Run, wait_until
from tests.deployment.table import Table
from tests.deployment.watched import Watched

pytestmark = pytest.mark.deployment

RATE, DELAY_MS, STALL_EVERY_S, STALL_S = "10mbit", 200, 10.0, 2.0
MBIT_PER_S = 10.0
FULL, LORA = "full", "lora"
HANDSHAKE = """
import socket, ssl, sys, time
trusted = ssl.create_default_context(cafile=sys.argv[3])
began = time.monotonic()
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30) as line:
    trusted.wrap_socket(line, server_hostname=sys.argv[1]).close()
print(time.monotonic() - began)
"""


@contextmanager
def bad_line(site: Site, folder: Path) -> Iterator[None]:
    """Slow, delay and stall what a hospital says; it connects anew, over that line."""
    command = [sys.executable, "-m", "tests.deployment.line"]
    command += ["--delay-ms", str(DELAY_MS / 2), "--stall-s", str(STALL_S)]
    command += ["--stall-every-s", str(STALL_EVERY_S)]
    environment = environment_of(folder) | {"PYTHONPATH": str(PROJECT_FOLDER)}
    assert site.stop() == 0
    process = site.place.start(command, folder / "line.log", environment)
    try:
        reaches = lambda: site.place.reaches("127.0.0.1", LINE_PORT)  # noqa: E731
        wait_until("the line", reaches, 20)
        with site.place.redirected(), site.place.shaped(RATE):
            site.start()
            site.wait_connected()
            assert site.is_connected(), site.said()[-600:]
            yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def test_rounds_over_a_slow_line(
    federation: Federation, fedefm: Watched, table: Table, tmp_path: Path
) -> None:
    """The simulations to compare with compute while the slow line is waited for."""
    with (
        federation.simulating("simulated") as simulated,
        federation.simulating("lora", *settings_of(LORA)) as simulated_lora,
    ):
        full, lora = rounds_over_a_slow_line(federation, table, tmp_path)
        same_bits("FedEFM by `endofed simulate`", simulated, fedefm.run, table)
        same_bits("LoRA by `endofed simulate`", simulated_lora, lora.run, table)
    assert full.weights > 5 * lora.weights
    assert full.seconds > lora.seconds
    # No faster than the line, or the line was not used.
    assert full.seconds > full.weights * 8e-6 / MBIT_PER_S


def same_bits(case: str, simulated: Run, deployed: Run, table: Table) -> None:
    """Compare a simulation with what the deployed federation made of the same seed."""
    with table.case(case, "bit-identical weights") as row:
        assert simulated.wait() == 0, simulated.said()[-600:]
        assert simulated.weights() == deployed.weights()
        assert simulated.card()["metrics"] == deployed.card()["metrics"]
        row.saw(f"both SHA-256 {deployed.weights()[:12]}…", "same metrics")


def rounds_over_a_slow_line(
    federation: Federation, table: Table, folder: Path
) -> tuple["Told", "Told"]:
    site = federation.sites["lakeside"]
    line = f"{RATE}/s, {DELAY_MS} ms, stalls of {STALL_S:.0f} s"
    with bad_line(site, folder):
        with table.case(f"a link of {line}", "the site connects") as row:
            where = (CENTRE_ADDRESS, str(PORT), str(site.kit / "ca.crt"))
            done = site.place.run(sys.executable, "-c", HANDSHAKE, *where)
            seconds = float(done.stdout)
            assert seconds >= DELAY_MS / 1000
            row.saw(f"TLS handshake in {seconds:.1f} s")
        with table.case(
            "full weights over it: a whole round", "all complete it"
        ) as row:
            full = follow(federation, site, FULL)
            row.saw(full.text)
        with table.case("LoRA over it: a whole round", "all complete it") as row:
            lora = follow(federation, site, LORA)
            row.saw(lora.text)
    return full, lora


class Told(NamedTuple):
    """What the training of a round cost at a site."""

    run: Run
    weights: int  # bytes, both ways
    seconds: float
    text: str


def settings_of(training: str) -> tuple[str, ...]:
    """Of sam-mini: half the bytes of sam-tiny, and so half the waiting."""
    model = ("model.name='sam-mini'", f"model.training='{training}'")
    return (*FEDAVG, "num-rounds=1", *model)


def follow(federation: Federation, site: Site, training: str) -> Told:
    """Run a round of all sites and tell what its training cost at one of them."""
    before = site.place.wire_bytes()
    run = federation.run(f"slow-{training}", *settings_of(training))
    result = run.succeed()
    assert result["sites"] == sorted(federation.sites)
    up, down = site.place.wire_bytes()
    local = run.phase("local")
    assert local["replied"] == sorted(federation.sites)
    weights = sum(
        entry["bytes"]
        for entry in run.audit()
        if (entry["site"], entry["phase"]) == (site.name, "local")
    )
    text = (
        f"train {local['seconds']:.0f} s with {weights / 1e6:.2f} MB of weights there "
        f"and back; on the wire in all {(up - before[0]) / 1e6:.1f} MB up, "
        f"{(down - before[1]) / 1e6:.1f} MB down"
    )
    return Told(run, weights, local["seconds"], text)
