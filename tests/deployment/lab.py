"""A small world of network namespaces: a centre, hospitals, and a switch between them.

Nothing of it touches the machine's own network: the switch, too, lies in a namespace of
its own, and no address is routed anywhere else. Everything has names with a random
suffix and is removed by those names; processes are ended by their numbers.
"""

import atexit
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import psutil

PORT = 8000
"""The centre's only one."""
NETWORK = "10.77.0"
CENTRE_ADDRESS = f"{NETWORK}.1"
LINE_PORT = 9000
"""On a hospital's loopback: where a bad line, or an impostor, takes its connections."""
LINE_MARK = 7
"""On packets of the bad line itself, so that they are not redirected again."""
PROGRAMS = ("ip", "nft", "tc")
REACH = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1.5).close()
except OSError:
    sys.exit(1)
"""
FIREWALL = """
table inet kit {{
    chain incoming {{
        type filter hook input priority 0; policy drop;
        iif lo accept
        ct state established accept
        counter
    }}
    chain through {{
        type filter hook forward priority 0; policy drop;
    }}
    chain outgoing {{
        type filter hook output priority 0; policy drop;
        oif lo accept
        ip daddr 127.0.0.0/8 accept
        ip daddr {centre} tcp dport {port} accept
        counter
    }}
}}
"""
REDIRECTION = """
table ip line {{
    chain outgoing {{
        type nat hook output priority -100;
        ip daddr {centre} tcp dport {port} meta mark != {mark} redirect to :{line}
    }}
}}
"""


def missing_means() -> str:
    """Return why no lab can be built here; "" if it can."""
    if os.geteuid() != 0:
        return "needs root: network namespaces are made by root only"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"needs the programs {', '.join(missing)}" if missing else ""


class Place:
    """A machine of the lab: a namespace with one link to the switch."""

    def __init__(self, lab: "Lab", name: str, address: str) -> None:
        """Plug it in; `Lab.place` does this."""
        self.name, self.address = name, address
        self._space, self._switch = lab.space(name), lab.switch
        self._port = f"p-{name}"  # of the switch
        command("ip", "netns", "add", self._space)
        command("ip", "-n", self._space, "link", "set", "lo", "up")
        # Else the kernel itself talks, and dropped packets would count nothing.
        quiet = ("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
        command("ip", "netns", "exec", self._space, *quiet)
        ends = ("peer", "name", self._port, "netns", self._switch)
        veth = ("link", "add", "eth0", "netns", self._space, "type", "veth")
        command("ip", *veth, *ends)
        here = ("ip", "-n", self._space)
        command(*here, "addr", "add", f"{address}/24", "dev", "eth0")
        command(*here, "link", "set", "eth0", "up")
        self.connect()

    def start(
        self, arguments: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> "subprocess.Popen[bytes]":
        """Start a program here; its output is added to a log."""
        with log.open("ab") as stream:
            return subprocess.Popen(
                ["ip", "netns", "exec", self._space, *arguments],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(
        self,
        *arguments: str,
        timeout_s: float = 60.0,
        environment: Mapping[str, str] | None = None,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program here to its end."""
        return subprocess.run(
            ["ip", "netns", "exec", self._space, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
        )

    def processes(self) -> list[psutil.Process]:
        """Return all processes that live here."""
        listed = command("ip", "netns", "pids", self._space).split()
        found = []
        for pid in listed:
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(int(pid)))
        return found

    def reaches(self, address: str, port: int) -> bool:
        """Tell whether a connection can be made from here."""
        where = (address, str(port))
        return self.run(sys.executable, "-c", REACH, *where).returncode == 0

    def stop_all(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End every process here, like a machine that loses its power."""
        until = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < until:
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(how)
            psutil.wait_procs(left, timeout=2)

    def raise_firewall(self) -> None:
        """Let connections out to the centre's one port, and nothing in."""
        self._nft(FIREWALL.format(centre=CENTRE_ADDRESS, port=PORT))

    def dropped(self) -> dict[str, int]:
        """Return how many packets the firewall dropped: outgoing and incoming."""
        found = {}
        for chain in ("outgoing", "incoming"):
            listed = self.run("nft", "-j", "list", "chain", "inet", "kit", chain)
            for one in json.loads(listed.stdout)["nftables"]:
                for part in one.get("rule", {}).get("expr", []):
                    if "counter" in part:
                        found[chain] = int(part["counter"]["packets"])
        return found

    @contextlib.contextmanager
    def redirected(self) -> Iterator[None]:
        """Lead new connections to the centre to LINE_PORT of this place's loopback."""
        values = {"port": PORT, "mark": LINE_MARK, "line": LINE_PORT}
        self._nft(REDIRECTION.format(centre=CENTRE_ADDRESS, **values))
        try:
            yield
        finally:
            self.run("nft", "delete", "table", "ip", "line")

    @contextlib.contextmanager
    def shaped(self, rate: str) -> Iterator[None]:
        """Slow the link in both directions, such as to "10mbit"."""
        ends = ((self._space, "eth0"), (self._switch, self._port))
        bucket = ("root", "tbf", "rate", rate, "burst", "32kbit", "latency", "400ms")
        try:
            for space, link in ends:
                command("tc", "-n", space, "qdisc", "add", "dev", link, *bucket)
            yield
        finally:
            for space, link in ends:
                delete = ("tc", "-n", space, "qdisc", "del", "dev", link, "root")
                subprocess.run(delete, capture_output=True)

    def cut(self) -> None:
        """Take the link off the switch; nobody is told, packets just vanish."""
        command("ip", "-n", self._switch, "link", "set", self._port, "nomaster")

    def connect(self) -> None:
        """Put the link on the switch."""
        link = ("link", "set", self._port, "master", "br0", "up")
        command("ip", "-n", self._switch, *link)

    def wire_bytes(self) -> tuple[int, int]:
        """Return the bytes that went out and came in, with all headers."""
        shown = command("ip", "-n", self._space, "-j", "-s", "link", "show", "eth0")
        counts = json.loads(shown)[0]["stats64"]
        return int(counts["tx"]["bytes"]), int(counts["rx"]["bytes"])

    def remove(self) -> None:
        """End what lives here and take the namespace away; its link goes with it."""
        self.stop_all()
        command("ip", "netns", "del", self._space)

    def _nft(self, rules: str) -> None:
        where = ["ip", "netns", "exec", self._space, "nft", "-f", "-"]
        subprocess.run(where, input=rules, text=True, check=True, capture_output=True)


class Lab:
    """All places, and the switch between them; a context manager."""

    def __init__(self) -> None:
        """Choose names; nothing is made yet."""
        self._suffix = secrets.token_hex(3)
        self.switch = self.space("switch")
        self._places: dict[str, Place] = {}

    def space(self, name: str) -> str:
        """Return the name of a namespace of this lab."""
        return f"endofed-{self._suffix}-{name}"

    def __enter__(self) -> "Lab":
        """Make the switch."""
        atexit.register(self.close)  # in case no fixture is torn down
        command("ip", "netns", "add", self.switch)
        command("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge")
        command("ip", "-n", self.switch, "link", "set", "br0", "up")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove all of it."""
        self.close()

    def place(self, name: str, number: int) -> Place:
        """Add a machine with the address NETWORK.number."""
        self._places[name] = place = Place(self, name, f"{NETWORK}.{number}")
        return place

    def close(self) -> None:
        """Remove places, links and switch, whatever state they are in."""
        atexit.unregister(self.close)
        for place in self._places.values():
            with contextlib.suppress(LabError):
                place.remove()
        self._places.clear()
        # Also what was half made when somebody pressed Ctrl-C.
        mine = f"endofed-{self._suffix}-"
        for line in command("ip", "netns", "list").splitlines():
            name = line.split()[0] if line.split() else ""
            if name.startswith(mine):
                command("ip", "netns", "del", name)


class LabError(RuntimeError):
    """A program that builds the lab failed."""


def command(*arguments: str) -> str:
    """Run a program of the machine's network tools and return what it printed."""
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise LabError(f"{' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
