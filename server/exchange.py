"""One phase of a round, watched: who was asked, who answered, what arrived.

Flower waits for ever for missing nodes, counts missing replies as no failure and
averages in order of arrival. `AttendedGrid` stands between a strategy and Flower's
grid: it waits a bounded time, counts a missing reply as a failure by name, checks
what arrives before anyone uses it, hands replies over in sorted order, and stops the
run when too few sites took part.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from torch import Tensor

from models.weights import WeightsError, check_weights
from server.attendance import PULL_INTERVAL_S, Site, TooFewSites
from strategies import messages

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """One message to a hospital and what became of it."""

    site: str
    message: Message
    pushed_id: str  # "" when the node could not be reached
    sent_bytes: int


@dataclass
class Exchange:
    """One phase of a round: what was asked, who answered, who failed."""

    phase: str
    round_number: int
    requests: list[Request]
    replies: list[Message] = field(default_factory=list)  # sorted by site and owner
    replied: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # site: reason
    seconds: float = 0.0
    bytes_down: int = 0  # server to sites
    bytes_up: int = 0


class AttendedGrid(Grid):
    """A grid that knows its hospitals by name and notices who is missing."""

    def __init__(
        self,
        grid: Grid,
        sites: Iterable[Site],
        *,
        min_sites: int,
        timeout_s: float,
        expected: Mapping[str, Tensor],
        observe: Callable[[Exchange, "AttendedGrid"], None],
    ) -> None:
        """Watch a grid.

        Args:
            grid: Flower's.
            sites: The hospitals that were introduced.
            min_sites: How many must answer in every phase.
            timeout_s: How long a phase may take.
            expected: Names and shapes that received weights must have.
            observe: Called after every phase, before anybody uses the replies.
        """
        self._grid = grid
        self.roster = {
            site.name: site.node_id
            for site in sorted(sites, key=lambda site: site.name)
        }
        self._names = {node_id: name for name, node_id in self.roster.items()}
        self._min_sites = min_sites
        self._timeout_s = timeout_s
        self._expected = expected
        self._observe = observe

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Exchange messages with the hospitals and check what comes back.

        Args:
            messages: Requests; all of one phase.
            timeout: Not used: a phase may take what the run's settings say.

        Returns:
            The good replies, sorted by site and by whose model they carry.

        Raises:
            TooFewSites: If fewer than `min_sites` hospitals answered well.
        """
        requests = [self._push(message) for message in messages]
        if not requests:
            return []
        exchange = self._collect(requests)
        self._observe(exchange, self)
        for site, reason in sorted(exchange.failed.items()):
            log.warning("%s: hospital '%s' failed: %s", exchange.phase, site, reason)
        if len(exchange.replied) < self._min_sites:
            raise TooFewSites(
                f"Only {len(exchange.replied)} of at least {self._min_sites} hospitals "
                f"answered in round {exchange.round_number}, phase {exchange.phase}. "
                + list_reasons(exchange.failed)
            )
        return exchange.replies

    def name_of(self, message: Message) -> str:
        """Return the hospital that sent a reply."""
        return self._names[message.metadata.src_node_id]

    def get_node_ids(self) -> list[int]:
        """Return the introduced hospitals' nodes, in sorted order of their names."""
        return list(self.roster.values())

    def _push(self, message: Message) -> Request:
        pushed = list(self._grid.push_messages([message]))
        return Request(
            site=self._names[message.metadata.dst_node_id],
            message=message,
            pushed_id=pushed[0] if pushed else "",
            sent_bytes=count_bytes(message.content),
        )

    def _collect(self, requests: list[Request]) -> Exchange:
        first = requests[0].message
        exchange = Exchange(
            phase=messages.PHASE_NAMES[first.metadata.message_type],
            round_number=messages.unpack_round(first),
            requests=requests,
            bytes_down=sum(request.sent_bytes for request in requests),
        )
        started = time.monotonic()
        waiting = {request.pushed_id for request in requests if request.pushed_id}
        replies: dict[str, Message] = {}
        while waiting and time.monotonic() - started < self._timeout_s:
            for reply in self._grid.pull_messages(waiting):
                replies.setdefault(reply.metadata.reply_to_message_id, reply)
            waiting -= replies.keys()
            if waiting:
                time.sleep(PULL_INTERVAL_S)
        for request in requests:
            self._judge(request, replies.get(request.pushed_id), exchange)
        sites = {request.site for request in requests}
        exchange.replied = sorted(sites - exchange.failed.keys())
        exchange.replies.sort(
            key=lambda reply: (self.name_of(reply), messages.reply_owner(reply))
        )
        exchange.seconds = time.monotonic() - started
        return exchange

    def _judge(
        self, request: Request, reply: Message | None, exchange: Exchange
    ) -> None:
        """Keep a good reply; note the first reason of a site that failed."""
        reason = ""
        if not request.pushed_id:
            reason = "the node cannot be reached"
        elif reply is None:
            reason = f"no answer within {self._timeout_s:.0f} s"
        elif reply.has_error():
            reason = messages.failure_reason(reply)
        else:
            exchange.bytes_up += count_bytes(reply.content)
            reason = self._find_fault(request, reply)
        if reason:
            exchange.failed.setdefault(request.site, reason)
        elif reply is not None:
            exchange.replies.append(reply)

    def _find_fault(self, request: Request, reply: Message) -> str:
        asked = request.message.metadata.message_type
        if reply.metadata.src_node_id != request.message.metadata.dst_node_id:
            return "the answer came from another node"
        try:
            owner = messages.reply_owner(reply)
            if owner != messages.unpack_owner(request.message):
                return "the answer carries another silo's model than was asked for"
            if asked.startswith(messages.TRAIN):
                check_weights(
                    messages.to_state(reply.content.array_records[messages.ARRAYS]),
                    self._expected,
                    source=f"hospital '{request.site}'",
                )
        except KeyError:
            return "the answer lacks the weights or the config it should carry"
        except WeightsError as error:
            return str(error)
        return ""

    # What follows only passes on.

    def set_run(self, run: Run) -> None:
        """Set the run of the grid behind."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run of the grid behind."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message with the grid behind."""
        return self._grid.create_message(
            content, message_type, dst_node_id, group_id, ttl
        )

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push messages unattended."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Pull replies unattended."""
        return self._grid.pull_messages(message_ids)


def list_reasons(failed: Mapping[str, str]) -> str:
    """Write out why sites failed, one sentence each."""
    return " ".join(
        f"{site}: {reason.rstrip('.')}." for site, reason in sorted(failed.items())
    )


def count_bytes(content: RecordDict) -> int:
    """Count the bytes of the arrays in a message, as serialised."""
    return sum(
        len(array.data)
        for record in content.array_records.values()
        for array in record.values()
    )
