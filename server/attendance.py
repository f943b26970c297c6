"""Who takes part: waits for the hospitals and asks each who it is."""

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from flwr.app import Message
from flwr.serverapp import Grid

from strategies import messages
from strategies.audit import AuditEntry, AuditLog
from strategies.replies import failure_reason

log = logging.getLogger(__name__)

PULL_INTERVAL_S = 0.1


class TooFewSites(RuntimeError):
    """Fewer hospitals took part than the run needs."""


@dataclass(frozen=True)
class Site:
    """A hospital as it introduced itself."""

    name: str
    node_id: int
    facts: dict[str, object]  # counts, classes and digests

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the classes that it annotates."""
        return tuple(map(str, cast("list[str]", self.facts.get("classes", []))))


def introduce(
    grid: Grid,
    *,
    min_sites: int,
    timeout_s: float,
    frozen: str = "",
    audit: AuditLog | None = None,
) -> list[Site]:
    """Wait for the hospitals and ask each who it is.

    Args:
        grid: Flower's.
        min_sites: How many are needed; 0 = all that the sites file lists, or all that
            are connected where there is none.
        timeout_s: How long to wait for nodes and answers.
        frozen: Fingerprint of the weights that do not travel; a hospital with others
            cannot take part. "" accepts any.
        audit: Where it is written who cannot take part and why.

    Returns:
        The hospitals that can take part, sorted by name.

    Raises:
        TooFewSites: If too few connected in time or could be introduced; with every
            reason that was given.
    """
    sites: dict[int, Site] = {}
    failed: dict[int, str] = {}
    given_up_at = time.monotonic() + timeout_s
    while True:
        new = [n for n in grid.get_node_ids() if n not in sites and n not in failed]
        for node_id, answer in _ask(grid, new, given_up_at):
            answer = _check_frozen(answer, frozen)
            if isinstance(answer, str):
                failed[node_id] = answer
                _note(node_id, answer, audit)
            else:
                sites[node_id] = answer
        listed = max(min_sites, _listed(sites.values()), 1)
        if len(sites) + len(failed) >= listed or time.monotonic() > given_up_at:
            return _check_roster(sites, failed, min_sites or listed, timeout_s)
        time.sleep(PULL_INTERVAL_S)


def _ask(
    grid: Grid, node_ids: list[int], given_up_at: float
) -> list[tuple[int, Site | str]]:
    requests: dict[str, int] = {}
    for node_id in sorted(node_ids):
        question = Message(
            messages.pack_job(round_number=0), node_id, messages.INTRODUCE
        )
        for message_id in grid.push_messages([question]):
            requests[message_id] = node_id
    answers: list[tuple[int, Site | str]] = []
    while requests and time.monotonic() < given_up_at:
        for reply in grid.pull_messages(list(requests)):
            node_id = requests.pop(reply.metadata.reply_to_message_id)
            answers.append((node_id, _read_introduction(node_id, reply)))
        if requests:
            time.sleep(PULL_INTERVAL_S)
    silent = "connected, but did not say who it is in time"
    return answers + [(node_id, silent) for node_id in requests.values()]


def _read_introduction(node_id: int, reply: Message) -> Site | str:
    if reply.has_error():
        return failure_reason(reply)
    facts = dict(reply.content.config_records.get(messages.CONFIG, {}))
    facts.pop(messages.OWNER, None)
    name = str(facts.pop(messages.SITE, ""))
    return Site(name, node_id, facts) if name else "did not give its name"


def _check_frozen(answer: Site | str, frozen: str) -> Site | str:
    if isinstance(answer, str) or frozen in ("", answer.facts.get("digest-frozen")):
        return answer
    return (
        f"the weights that do not travel differ between '{answer.name}' and the "
        "server; give both the same file as model.checkpoint and the same app"
    )


def _note(node_id: int, reason: str, audit: AuditLog | None) -> None:
    """Write down who stays outside; a site that refuses says its name itself."""
    log.warning("Node %d cannot take part: %s", node_id, reason)
    if audit is not None:
        phase = messages.PHASE_NAMES[messages.INTRODUCE]
        audit.record(AuditEntry(0, phase, f"node {node_id}", "out", 0, 0, note=reason))


def _check_roster(
    sites: Mapping[int, Site], failed: Mapping[int, str], needed: int, timeout_s: float
) -> list[Site]:
    names = [site.name for site in sites.values()]
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise TooFewSites(
            f"Two nodes call themselves '{doubles[0]}'. Every site needs its own name."
        )
    if len(sites) < needed:
        unique = sorted(set(failed.values()))
        reasons = " ".join(f"{reason.rstrip('.')}." for reason in unique)
        raise TooFewSites(
            f"{len(sites)} of at least {needed} hospitals can take part after waiting "
            f"{timeout_s:.0f} s at most. {reasons or 'No other node connected.'}"
        )
    return sorted(sites.values(), key=lambda site: site.name)


def _listed(sites: Iterable[Site]) -> int:
    """Return how many hospitals the sites file lists, 0 where nobody knows."""
    return max((int(str(site.facts.get("num-sites", 0))) for site in sites), default=0)
