"""Can this machine look the centre's name up and reach its port?"""

import ipaddress
import socket
import time

from experiments.deployment.checks.finding import Finding

TIMEOUT_S = 8.0
SLOW_MS = 500.0


def split_address(address: str) -> tuple[str, int]:
    """Split host:port; an IPv6 address stands in brackets.

    Args:
        address: As in site.toml.

    Returns:
        Host without brackets, and port.
    """
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def check_dns(host: str) -> Finding:
    """Look the name of the centre up.

    Args:
        host: Name or IP address.

    Returns:
        The finding; an IP address needs no look-up.
    """
    if _is_ip(host):
        return Finding("DNS", "ok", "The centre has an address, no name to look up.")
    started = time.monotonic()
    try:
        found = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    except OSError:
        return Finding(
            "DNS",
            "failed",
            "The name of the centre cannot be looked up from this machine.",
            "Let this machine use a name server that knows it, or write the name into "
            "its hosts file.",
        )
    milliseconds = 1000 * (time.monotonic() - started)
    count = len({one[4][0] for one in found})
    return Finding(
        "DNS",
        "ok",
        f"The name of the centre has {count} address(es), found in "
        f"{milliseconds:.0f} ms.",
        numbers={"addresses": count, "dns-ms": round(milliseconds, 1)},
    )


def check_port(host: str, port: int) -> Finding:
    """Connect to the centre's port, and close again.

    Args:
        host: Name or IP address.
        port: TCP port.

    Returns:
        The finding, with the time that a connection takes.
    """
    started = time.monotonic()
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT_S):
            milliseconds = 1000 * (time.monotonic() - started)
    except ConnectionRefusedError:
        return Finding(
            "port",
            "failed",
            f"The centre's machine refuses connections to TCP port {port}.",
            "Ask the centre whether its server runs; a firewall may refuse, too.",
        )
    except TimeoutError:
        return Finding(
            "port",
            "failed",
            f"No answer from TCP port {port} of the centre within {TIMEOUT_S:.0f} s.",
            "Let this site's firewall pass outgoing connections to this one port.",
        )
    except OSError:
        return Finding(
            "port",
            "failed",
            f"This machine finds no way to TCP port {port} of the centre.",
            "Look at name server, route and firewall.",
        )
    is_slow = milliseconds > SLOW_MS
    return Finding(
        "port",
        "warning" if is_slow else "ok",
        f"TCP port {port} of the centre answers in {milliseconds:.0f} ms.",
        "Rounds will be slow over such a line." if is_slow else "",
        {"connect-ms": round(milliseconds, 1)},
    )


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
