"""One phase of a round, watched: who was asked, who answered, what arrived.

Flower waits for ever for missing nodes, counts missing replies as no failure and
averages in order of arrival. `AttendedGrid` stands between a strategy and Flower's
grid: it waits a bounded time, counts a missing reply as a failure by name, checks
what arrives before anyone uses it, hands replies over in sorted order, and stops the
run when too few sites took part. Replies are fetched one by one in that order: those
of later sites wait where Flower keeps them, so a strategy that folds them needs the
memory of one, however many sites there are.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from torch import Tensor

from server.attendance import PULL_INTERVAL_S, Site, TooFewSites
from server.faults import find_fault
from server.packing import Inspector, Packer, count_bytes, without_arrays
from strategies import messages
from strategies.contents import Contents
from strategies.replies import failure_reason
from strategies.wire import unbundle

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """One message to a hospital and what became of it; its arrays are gone."""

    site: str
    message: Message  # without arrays
    pushed_id: str  # "" when the node could not be reached
    contents: Contents

    @property
    def sent_bytes(self) -> int:
        """Bytes of the arrays that were sent."""
        return self.contents.num_bytes


@dataclass
class Exchange:
    """One phase of a round: what was asked, who answered, who failed."""

    phase: str
    round_number: int
    requests: list[Request]  # sorted by owner and site
    replied: list[str] = field(default_factory=list)  # without those that also failed
    failed: dict[str, str] = field(default_factory=dict)  # site: reason
    seconds: float = 0.0
    bytes_down: int = 0  # server to sites
    bytes_up: int = 0


class Observer(Protocol):
    """Is told of everything before a strategy is."""

    def phase_began(self, exchange: Exchange) -> None:
        """All requests of a phase are sent."""

    def reply_arrived(self, exchange: Exchange, site: str, reply: Message) -> None:
        """A good reply arrived."""

    def phase_ended(self, exchange: Exchange) -> None:
        """All replies are in, or the time is up."""


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
        observer: Observer,
        wire: str = "float32",
    ) -> None:
        """Watch a grid.

        Args:
            grid: Flower's.
            sites: The hospitals that were introduced.
            min_sites: How many must answer in every phase.
            timeout_s: How long a phase may take.
            expected: Names and shapes that received weights must have.
            observer: Told of every phase, before anybody uses the replies.
            wire: What weights travel as, a key of `strategies.wire.WIRES`.
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
        self._observer = observer
        self._wire = wire

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Exchange messages with the hospitals and check what comes back.

        Args:
            messages: Requests; all of one phase.
            timeout: Not used: a phase may take what the run's settings say.

        Returns:
            The good replies, sorted by whose model they carry and by site, with
            arrays that Flower's own strategies can average.

        Raises:
            TooFewSites: If fewer than `min_sites` hospitals answered well.
        """
        return [unpacked(reply) for reply in self.stream(messages)]

    def stream(self, requests: Iterable[Message]) -> Iterator[Message]:
        """Do what `send_and_receive` does, one reply at a time.

        Args:
            requests: All of one phase; they are sent before the first reply is read.
                May be a generator that reads the replies of the phase before.

        Yields:
            The good replies as they arrived, sorted by whose model they carry and by
            site; `strategies.replies` reads them.

        Raises:
            TooFewSites: After the last reply, if fewer than `min_sites` hospitals
                answered well.
        """
        pushed = self._push_all(requests)
        if not pushed:
            return
        first = pushed[0].message
        exchange = Exchange(
            phase=messages.PHASE_NAMES[first.metadata.message_type],
            round_number=messages.unpack_round(first),
            requests=pushed,
            bytes_down=sum(request.sent_bytes for request in pushed),
        )
        self._observer.phase_began(exchange)
        started = time.monotonic()
        for request in pushed:
            reply = self._wait_for(request, started + self._timeout_s)
            if self._is_good(request, reply, exchange) and reply is not None:
                self._observer.reply_arrived(exchange, request.site, reply)
                yield reply
        sites = {request.site for request in pushed}
        exchange.replied = sorted(sites - exchange.failed.keys())
        exchange.seconds = time.monotonic() - started
        self._observer.phase_ended(exchange)
        self._check_attendance(exchange)

    def name_of(self, message: Message) -> str:
        """Return the hospital that sent a reply."""
        return self._names[message.metadata.src_node_id]

    def get_node_ids(self) -> list[int]:
        """Return the introduced hospitals' nodes, in sorted order of their names."""
        return list(self.roster.values())

    def _push_all(self, requests: Iterable[Message]) -> list[Request]:
        pack, inspect = Packer(self._wire), Inspector()
        pushed = []
        for message in requests:
            pack(message.content)
            found = list(self._grid.push_messages([message]))
            pushed.append(
                Request(
                    site=self._names[message.metadata.dst_node_id],
                    message=without_arrays(message),
                    pushed_id=found[0] if found else "",
                    contents=inspect(message.content),
                )
            )
        return sorted(
            pushed,
            key=lambda request: (messages.unpack_owner(request.message), request.site),
        )

    def _wait_for(self, request: Request, until: float) -> Message | None:
        """Return the reply to a request; after the time is up it is looked for once."""
        if not request.pushed_id:
            return None
        while True:
            for reply in self._grid.pull_messages([request.pushed_id]):
                return reply
            if time.monotonic() > until:
                return None
            time.sleep(PULL_INTERVAL_S)

    def _is_good(
        self, request: Request, reply: Message | None, exchange: Exchange
    ) -> bool:
        """Tell whether a reply can be used; note the first reason of a site."""
        reason = ""
        if not request.pushed_id:
            reason = "the node cannot be reached"
        elif reply is None:
            reason = f"no answer within {self._timeout_s:.0f} s"
        elif reply.has_error():
            reason = failure_reason(reply)
        else:
            exchange.bytes_up += count_bytes(reply.content)
            reason = find_fault(
                request.message, reply, expected=self._expected, site=request.site
            )
        if reason:
            exchange.failed.setdefault(request.site, reason)
        return not reason

    def _check_attendance(self, exchange: Exchange) -> None:
        for site, reason in sorted(exchange.failed.items()):
            log.warning("%s: hospital '%s' failed: %s", exchange.phase, site, reason)
        asked = {request.site for request in exchange.requests}
        missing = len(asked) - len(exchange.replied)
        if missing > max(len(self.roster) - self._min_sites, 0):
            raise TooFewSites(
                f"Only {len(exchange.replied)} of {len(asked)} hospitals that were "
                f"asked answered in round {exchange.round_number}, phase "
                f"{exchange.phase}; at least {self._min_sites} of {len(self.roster)} "
                f"are needed. {list_reasons(exchange.failed)}"
            )

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


def unpacked(reply: Message) -> Message:
    """Give Flower's own strategies arrays that they can average."""
    for name, record in list(reply.content.array_records.items()):
        reply.content[name] = unbundle(record)
    return reply


def list_reasons(failed: Mapping[str, str]) -> str:
    """Write out why sites failed, one sentence each."""
    return " ".join(
        f"{site}: {reason.rstrip('.')}." for site, reason in sorted(failed.items())
    )
