"""Is this machine's clock close enough to the centre's?

A SuperNode signs the time of each request. Flower 1.41 refuses a request that is signed
5 s or more ahead of the server's clock, or 305 s or more behind it
(`flwr/superlink/routers/fleet/node_auth.py`). The server's time is taken from the Date
header of its answer, which has whole seconds. Its certificate is not verified here: a
wrong clock makes certificates look invalid, and nothing is sent.
"""

import http.client
import ssl
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from experiments.deployment.checks.finding import Finding
from experiments.deployment.checks.network import TIMEOUT_S

AHEAD_S = 5.0
"""Flower's SYSTEM_TIME_TOLERANCE."""
BEHIND_S = 300.0
"""Flower's TIMESTAMP_TOLERANCE; what it allows in addition is left to the line."""
STALE_S = 1.0
"""A date is cut to the second and, by uvicorn, renewed once a second: 1 s ± 1 s old."""
WARN_AHEAD_S = 2.0
WARN_BEHIND_S = 60.0
CURE = "Let the machine follow a time server (NTP, chrony)."


def check_clock(
    host: str, port: int, clock: Callable[[], float] = time.time
) -> Finding:
    """Compare this machine's clock with the centre's.

    Args:
        host: Name or IP address of the centre.
        port: TCP port.
        clock: Gives the Unix time in seconds.

    Returns:
        The finding; skipped if the centre does not answer.
    """
    try:
        offset, uncertainty = measure_offset(host, port, clock)
    except (OSError, http.client.HTTPException, ValueError, TypeError):
        return Finding(
            "clock",
            "skipped",
            "The centre gave no time to compare this machine's clock with.",
            "See the findings about port and certificate first.",
        )
    return judge_offset(offset, uncertainty)


def measure_offset(
    host: str, port: int, clock: Callable[[], float] = time.time
) -> tuple[float, float]:
    """Return how far this clock is ahead of the centre's, and how sure that is.

    Args:
        host: Name or IP address of the centre.
        port: TCP port.
        clock: Gives the Unix time in seconds.

    Returns:
        Seconds ahead (negative: behind), and half the width of the interval in which
        the truth lies.

    Raises:
        OSError: If there is no TLS answer.
        ValueError: If the answer has no date.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # see above: only the time is read
    connection = http.client.HTTPSConnection(
        host, port, timeout=TIMEOUT_S, context=context
    )
    try:
        connection.connect()
        before = clock()
        connection.request("GET", "/health")
        answer = connection.getresponse()
        after = clock()
    finally:
        connection.close()
    date = answer.getheader("Date")
    if date is None:
        raise ValueError("no Date header")
    there = parsedate_to_datetime(date).timestamp() + STALE_S
    return (before + after) / 2 - there, STALE_S + (after - before) / 2


def judge_offset(offset: float, uncertainty: float) -> Finding:
    """Say whether Flower will accept what this machine signs.

    Args:
        offset: Seconds that this clock is ahead of the centre's.
        uncertainty: Seconds.

    Returns:
        Failed only where it is sure.
    """
    direction = "ahead of" if offset > 0 else "behind"
    says = (
        f"This clock is {abs(offset):.1f} s (± {uncertainty:.1f} s) {direction} the "
        "centre's."
    )
    numbers = {"ahead-s": round(offset, 2), "uncertainty-s": round(uncertainty, 2)}
    if offset - uncertainty >= AHEAD_S or offset + uncertainty <= -BEHIND_S:
        advice = (
            f"The centre refuses more than {AHEAD_S:.0f} s ahead or {BEHIND_S:.0f} s "
            f"behind. {CURE}"
        )
        return Finding("clock", "failed", says, advice, numbers)
    if offset - uncertainty > WARN_AHEAD_S or offset + uncertainty < -WARN_BEHIND_S:
        return Finding("clock", "warning", says, CURE, numbers)
    return Finding("clock", "ok", says, numbers=numbers)
