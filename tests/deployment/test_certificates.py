"""A hospital trusts the one authority of its kit, and no certificate that expired."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from experiments.deployment.certificates import (
    Issued,
    make_authority,
    make_server_certificate,
)
from experiments.run_config import PROJECT_FOLDER
from tests.deployment.federation import (
    NAME,
    Federation,
    Site,
    environment_of,
)
from tests.deployment.lab import CENTRE_ADDRESS, LINE_PORT, PORT, Place
from tests.deployment.runs import wait_until
from tests.deployment.table import Table

pytestmark = pytest.mark.deployment

TLS = """
import socket, ssl, sys
trusted = ssl.create_default_context(cafile=sys.argv[3])
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10) as line:
    with trusted.wrap_socket(line, server_hostname=sys.argv[1]) as secure:
        secure.sendall(b"hello")
"""


@pytest.mark.parametrize("fault", ["expired", "unknown authority"])
def test_a_site_tells_nothing_to_a_server_whose_certificate_is_wrong(
    provisioned: Federation, intruder: Site, table: Table, tmp_path: Path, fault: str
) -> None:
    authority = Issued(
        certificate=(provisioned.provision / "ca" / "ca.crt").read_bytes(),
        key=(provisioned.provision / "ca" / "ca.key").read_bytes(),
    )
    now, day = datetime.now(UTC).replace(microsecond=0), timedelta(days=1)
    end = now + day
    if fault == "expired":
        end = now - timedelta(minutes=1)
    else:
        authority = make_authority(NAME, now - day, now + day)
    wrong = make_server_certificate(authority, NAME, (CENTRE_ADDRESS,), now - day, end)
    word = "certificate has expired" if fault == "expired" else "certificate verify"
    with (
        table.case(
            f"server certificate: {fault}", "the site ends, tells nothing"
        ) as row,
        posing(intruder.place, wrong, tmp_path) as heard,
    ):
        intruder.start()
        code = intruder.wait_ended()
        counts = json.loads(heard.read_text())
        assert code == 1, intruder.said()[-600:]
        assert word in intruder.said()
        assert counts["connections"] >= 1
        assert counts["bytes"] == 0
        row.saw(f"exit code {code}", f'"{word}"', "0 bytes told")


def test_an_impostor_with_the_right_certificate_would_be_told_something(
    provisioned: Federation, intruder: Site, tmp_path: Path
) -> None:
    """The counterpart of the cases above: else they could not fail."""
    server = provisioned.provision / "server"
    right = Issued(
        (server / "server.pem").read_bytes(), (server / "server.key").read_bytes()
    )
    with posing(intruder.place, right, tmp_path) as heard:
        trusted = str(intruder.kit / "ca.crt")
        where = (CENTRE_ADDRESS, str(PORT), trusted)
        done = intruder.place.run(sys.executable, "-c", TLS, *where)
        assert done.returncode == 0, done.stderr
        wait_until(
            "the impostor hears",
            lambda: json.loads(heard.read_text())["bytes"] == 5,
            10,
        )


@contextmanager
def posing(place: Place, shown: Issued, folder: Path) -> Iterator[Path]:
    """Put an impostor between a hospital and the centre; yields what it heard."""
    certificate, key, heard = (folder / name for name in ("crt", "key", "heard.json"))
    certificate.write_bytes(shown.certificate)
    key.write_bytes(shown.key)
    command = [sys.executable, "-m", "tests.deployment.impostor"]
    command += [str(path) for path in (certificate, key, heard)]
    environment = environment_of(folder) | {"PYTHONPATH": str(PROJECT_FOLDER)}
    process = place.start(command, folder / "impostor.log", environment)
    try:
        wait_until("an impostor", heard.exists, 20)
        with place.redirected():
            assert place.reaches("127.0.0.1", LINE_PORT)
            heard.write_text(heard.read_text())
            yield heard
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
