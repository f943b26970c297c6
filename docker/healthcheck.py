"""Tells Docker whether a container works: exit code 0 or 1, one line of reason.

    python healthcheck.py server   # the SuperLink answers over TLS, certificate valid
    python healthcheck.py site     # the SuperNode lives and answers on its own port
    python healthcheck.py mlflow   # MLflow answers

Flower 1.41 answers GET /health on a SuperLink's and on a SuperNode's port without a
login. A SuperNode takes a free port of loopback, so it is sought among those on which
somebody listens. Only the standard library, since it runs every half minute. What it
prints is read by the container engine only and names no path.
"""

import http.client
import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

TIMEOUT_S = 3.0
LISTENS = "0A"  # state of a socket in /proc/net/tcp
LOOPBACK = "0100007F"  # 127.0.0.1 there
ROLES = ("server", "site", "mlflow")


def main(arguments: Sequence[str]) -> int:
    """Probe one role and say how it is.

    Args:
        arguments: The role: server, site or mlflow.

    Returns:
        0 if it answers, else 1.
    """
    role = arguments[0] if len(arguments) == 1 else ""
    if role not in ROLES:
        return _say(f"Give one of {', '.join(ROLES)}.", 1)
    if role == "server":
        port = os.environ.get("ENDOFED_PORT") or "8000"
        return _say(*check(f"https://127.0.0.1:{port}/health"))
    if role == "mlflow":
        port = os.environ.get("ENDOFED_MLFLOW_PORT") or "5000"
        return _say(*check(f"http://127.0.0.1:{port}/health"))
    chosen = os.environ.get("ENDOFED_RUNTIME_PORT")
    text, code = "No SuperNode listens here.", 1
    for port in [chosen] if chosen else listening_ports():
        text, code = check(f"http://127.0.0.1:{port}/health")
        if code == 0:
            break
    return _say(text, code)


def check(address: str) -> tuple[str, int]:
    """Return what an address answers, in a word, and 0 if it is well, else 1."""
    try:
        status = probe(address)
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}.", 1
    except urllib.error.URLError as error:
        return f"No answer: {error.reason}.", 1
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"Not probed: {type(error).__name__}.", 1
    return f"HTTP {status}.", int(status != 200)


def probe(address: str) -> int:
    """Return the HTTP status of an address on this machine, never through a proxy.

    Args:
        address: With https the server must show a certificate of the federation's own
            authority, $ENDOFED_CA (default /federation/ca.crt).

    Raises:
        OSError: If nobody answers, or whoever answers is not trusted.
    """
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if address.startswith("https:"):
        authority = os.environ.get("ENDOFED_CA", "/federation/ca.crt")
        trusted = ssl.create_default_context(cafile=authority)
        handlers.append(urllib.request.HTTPSHandler(context=trusted))
    opener = urllib.request.build_opener(*handlers)
    with opener.open(address, timeout=TIMEOUT_S) as answer:
        return int(answer.status)


def listening_ports() -> list[str]:
    """Return the TCP ports of 127.0.0.1 on which somebody in this container listens."""
    rows = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    found = []
    for row in rows:
        _, local, _, state, *_ = row.split()
        address, _, port = local.partition(":")
        if address == LOOPBACK and state == LISTENS:
            found.append(str(int(port, 16)))
    return found


def _say(text: str, code: int) -> int:
    sys.stdout.write(f"{text}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
