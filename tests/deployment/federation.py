"""A provisioned federation in the lab: its centre, its hospitals, its runs.

Everything is started as a person would start it, by `endofed …`, each in the namespace
of its own machine and with an environment that knows nothing of this one.
"""

import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from experiments.run_config import PROJECT_FOLDER
from tests.deployment.lab import CENTRE_ADDRESS, PORT, Lab, Place
from tests.deployment.runs import RUN_S, Run, wait_until

PROGRAMS = Path(sys.executable).parent
ENDOFED = str(PROGRAMS / "endofed")
SMOKE = PROJECT_FOLDER / "experiments" / "configs" / "smoke.toml"
NAME = "trial"
DOMAINS = {"harbour": "phantom", "hillside": "human", "lakeside": "animal"}
"""Hospitals and what their frames are like."""
START_S, PATIENCE_S = 120.0, 100.0
"""How long a program may take to start, and anything else to happen."""
CONNECTED = "SuperNode ID:"
"""What Flower's SuperNode logs once the centre has let it in."""


def environment_of(home: Path) -> dict[str, str]:
    """Return the environment of a machine of the lab."""
    home.mkdir(parents=True, exist_ok=True)
    return {
        "PATH": f"{PROGRAMS}:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "COLUMNS": "160",
        "OMP_NUM_THREADS": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
    }


@dataclass
class Site:
    """A hospital: its machine, its kit, its state."""

    place: Place
    kit: Path
    state: Path
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    _begins: int = 0  # of the log of the present process

    @property
    def name(self) -> str:
        """Name of the hospital."""
        return self.place.name

    @property
    def home(self) -> Path:
        """Home folder of whoever starts it."""
        return self.state.parent / f"home-{self.name}"

    def start(self) -> None:
        """Start the SuperNode; `wait_connected` waits for it."""
        self._begins = self.log.stat().st_size if self.log.exists() else 0
        command = [ENDOFED, "site", "start", "--kit", str(self.kit)]
        environment = environment_of(self.home)
        environment["FLWR_SUPEREXEC_TASK_POLL_INTERVAL"] = "0.2"  # s, Flower has 1
        self.process = self.place.start(command, self.log, environment)

    def restart(self) -> bool:
        """Start until the centre lets it in, as a container engine does."""
        for _ in range(20):
            self.start()
            self.wait_connected()
            if self.is_connected():
                return True
            self.place.stop_all()
        return False

    def said(self) -> str:
        """Return what the present process has logged."""
        if not self.log.exists():
            return ""
        return self.log.read_bytes()[self._begins :].decode(errors="replace")

    def is_connected(self) -> bool:
        """Tell whether the centre has let this process in."""
        return CONNECTED in self.said()

    def has_ended(self) -> bool:
        """Tell whether the process is no more."""
        return self.process is None or self.process.poll() is not None

    def wait_connected(self) -> float:
        """Wait for the connection."""
        return wait_until(
            f"{self.name} connects; it said: {self.said()[-400:]}",
            lambda: self.is_connected() or self.has_ended(),
            START_S,
        )

    def wait_ended(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for the end of the process and return its exit code."""
        assert self.process is not None
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.name} did not end in {timeout_s:.0f} s: {self.said()[-400:]}"
            ) from None

    def stop(self) -> int:
        """Ask the SuperNode to end, as a container engine does; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.wait_ended()
        self.place.stop_all()
        return code

    def lose_power(self) -> None:
        """End everything at this hospital at once."""
        self.place.stop_all()
        if self.process is not None:
            self.process.wait(10)

    def audit(self) -> list[dict[str, Any]]:
        """Return the entries of the site's audit log."""
        path = self.state / "audit.jsonl"
        text = path.read_text() if path.exists() else ""
        return [
            json.loads(line)
            for line in text.splitlines(keepends=True)
            if line[-1:] == "\n"
        ]

    def wait_training(self, before: int) -> None:
        """Wait until a request to train has come, after so many entries of the log."""

        def arrived() -> bool:
            new = self.audit()[before:]
            return any(
                (one["phase"], one["direction"]) == ("local", "in") for one in new
            )

        wait_until(f"{self.name} is asked to train", arrived, RUN_S)

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change site.toml, as the hospital may."""
        path = self.kit / "site.toml"
        document = tomllib.loads(path.read_text())
        change(document)
        path.write_text(tomli_w.dumps(document))

    @contextmanager
    def edited(self, change: Callable[[dict[str, Any]], None]) -> Iterator[None]:
        """Change site.toml for a while."""
        path = self.kit / "site.toml"
        before = path.read_bytes()
        self.edit(change)
        try:
            yield
        finally:
            path.write_bytes(before)

    def give_key(self, key: bytes) -> None:
        """Put another private key into the kit."""
        path = self.kit / "supernode.key"
        path.touch(mode=0o600)
        path.write_bytes(key)


@dataclass
class Federation:
    """A centre and three hospitals."""

    lab: Lab
    folder: Path
    centre: Place
    sites: dict[str, Site] = field(default_factory=dict)
    superlink: "subprocess.Popen[bytes] | None" = None

    @property
    def provision(self) -> Path:
        """Folder that `endofed provision` makes."""
        return self.folder / "provision"

    def make_kits(self) -> None:
        """Provision, and give every hospital a machine with its kit."""
        tables = []
        for name, domain in DOMAINS.items():
            state = self.folder / "state" / name
            state.mkdir(parents=True, mode=0o700)
            data = str(self.folder / "data" / name)
            where = {"data": data, "data-type": domain, "state": str(state)}
            tables.append({"name": name, "device": "cpu", **where})
        plan = {"name": NAME, "address": CENTRE_ADDRESS, "port": PORT, "site": tables}
        file = self.folder / "federation.toml"
        file.write_text(tomli_w.dumps(plan))
        self.endofed("provision", str(file), "--output", str(self.provision))
        for number, name in enumerate(DOMAINS, start=11):
            place = self.lab.place(name, number)
            place.raise_firewall()
            kit, log = self.provision / "sites" / name, self.folder / f"site-{name}.log"
            self.sites[name] = Site(place, kit, self.folder / "state" / name, log)

    def endofed(self, *arguments: str, timeout_s: float = START_S) -> str:
        """Run a command at the centre, which must succeed; what it printed."""
        done = self.centre.run(
            ENDOFED, *arguments, timeout_s=timeout_s, environment=self._environment()
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"endofed {arguments[0]}: {said[-600:]}"
        return done.stdout

    def start_superlink(self) -> float:
        """Start the server and wait until it listens; how long that took."""
        command = [ENDOFED, "federation", "start", str(self.provision / "server")]
        command += ["--host", CENTRE_ADDRESS]
        log = self.folder / "superlink.log"
        self.superlink = self.centre.start(command, log, self._environment())
        listening = ("ss", "-Hltn", f"sport = :{PORT}")
        return wait_until(
            "the server listens",
            lambda: self.centre.run(*listening).stdout.strip(),
            START_S,
        )

    def register(self) -> str:
        """Register all sites."""
        where = ("--address", f"{CENTRE_ADDRESS}:{PORT}")
        return self.endofed("federation", "register", str(self.provision), *where)

    def all_online(self) -> bool:
        """Tell whether `endofed federation status` finds all sites online."""
        done = self.centre.run(
            *(ENDOFED, "federation", "status", str(self.provision / "server")),
            *("--address", f"{CENTRE_ADDRESS}:{PORT}"),
            timeout_s=START_S,
            environment=self._environment(),
        )
        return done.returncode == 0

    def run(self, name: str, *settings: str, options: tuple[str, ...] = ()) -> Run:
        """Start a run with the small settings of the smoke test and `settings`."""
        folder = self.folder / "runs" / name
        command = [ENDOFED, "federation", "run", str(self.provision / "server")]
        command += ["--address", f"{CENTRE_ADDRESS}:{PORT}", "--output", str(folder)]
        command += [] if "--resume" in options else ["--config", str(SMOKE)]
        command += [word for one in settings for word in ("--set", one)]
        log = self.folder / f"run-{name}.log"
        process = self.centre.start([*command, *options], log, self._environment())
        return Run(process, folder, log)

    def simulate(self, name: str, *settings: str) -> Run:
        """Run the same hospitals by `endofed simulate`, to the end."""
        run = self.begin_simulation(name, *settings)
        code = run.wait()
        assert code == 0, run.said()[-600:]
        return run

    @contextmanager
    def simulating(self, name: str, *settings: str) -> Iterator[Run]:
        """Run `endofed simulate` beside what is done meanwhile; it ends with it."""
        run = self.begin_simulation(name, *settings)
        try:
            yield run
        finally:
            if run.process.poll() is None:
                run.process.terminate()
                try:
                    run.process.wait(PATIENCE_S)
                except subprocess.TimeoutExpired:
                    run.process.kill()

    def begin_simulation(self, name: str, *settings: str) -> Run:
        """Start `endofed simulate` on the same hospitals, on this very machine."""
        tables = [
            {"name": site, "folder": str(self.folder / "data" / site)}
            | {"data-type": domain}
            for site, domain in DOMAINS.items()
        ]
        sites = self.folder / f"{name}-sites.toml"
        sites.write_text(tomli_w.dumps({"site": tables}))
        folder, log = self.folder / "runs" / name, self.folder / f"run-{name}.log"
        command = [ENDOFED, "simulate", "--sites", str(sites), "--output", str(folder)]
        command += ["--config", str(SMOKE)]
        command += [
            word for one in ("mlflow=false", *settings) for word in ("--set", one)
        ]
        home = environment_of(self.folder / f"home-{name}")
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=home | {"PATH": os.environ["PATH"]},
            )
        return Run(process, folder, log)

    def _environment(self) -> dict[str, str]:
        return environment_of(self.folder / "home-centre")
