"""What one teacher cost one student in a round, in bytes of weights.

An edge's cost: the student's model on its way to the host and back (overseas), and the
teacher in the request to distil. Where a host trained one copy for all its visitors,
that copy is shared evenly among the students who were given it as a teacher. All else
that the two phases carried (a silo's own model, prototypes, refused replies) is no
edge's and is counted apart, so that both together are the bytes of the phases.
"""

from collections import Counter

from flwr.app import Message

from server.exchange import Exchange
from server.packing import count_bytes
from strategies import messages
from strategies.contents import Contents
from strategies.replies import reply_owner
from strategies.route import EVERYBODY

Edge = tuple[str, str]
"""Student and teacher (the host)."""

PHASES = (
    messages.PHASE_NAMES[messages.OVERSEAS],
    messages.PHASE_NAMES[messages.DISTIL],
)


class EdgeBytes:
    """Counts the bytes of a round's edges while its messages pass by."""

    def __init__(self) -> None:
        """Begin a round."""
        self._edges: Counter[Edge] = Counter()
        self._shared: Counter[str] = Counter()  # copies for everybody, by host
        self._given: dict[str, list[str]] = {}  # students by the host that taught them
        self._other = 0
        self._arrived: Counter[str] = Counter()  # bytes of good replies, by phase

    def phase_began(self, exchange: Exchange) -> None:
        """Count what was sent."""
        if exchange.phase not in PHASES:
            return
        for request in exchange.requests:
            if exchange.phase == PHASES[0]:
                owner = messages.unpack_owner(request.message)
                self._count_copy(request.site, owner, request.sent_bytes)
            else:
                self._count_lesson(request.site, request.contents)

    def reply_arrived(self, exchange: Exchange, site: str, reply: Message) -> None:
        """Count what came back."""
        if exchange.phase not in PHASES:
            return
        num_bytes = count_bytes(reply.content)
        self._arrived[exchange.phase] += num_bytes
        if exchange.phase == PHASES[0]:
            self._count_copy(site, reply_owner(reply), num_bytes)
        else:
            self._other += num_bytes

    def phase_ended(self, exchange: Exchange) -> None:
        """Count replies that came and were refused."""
        if exchange.phase in PHASES:
            self._other += exchange.bytes_up - self._arrived.pop(exchange.phase, 0)

    def by_edge(self) -> dict[Edge, int]:
        """Return the bytes of every edge that cost some, sorted."""
        found = Counter(self._edges)
        for host, num_bytes in self._shared.items():
            found.update(_share(host, num_bytes, self._given.get(host, [])))
        return {edge: found[edge] for edge in sorted(found) if found[edge]}

    def of_no_edge(self) -> int:
        """Return the bytes of the two phases that belong to no edge."""
        return self._other + sum(
            num_bytes
            for host, num_bytes in self._shared.items()
            if not self._given.get(host)
        )

    def _count_copy(self, host: str, owner: str, num_bytes: int) -> None:
        if owner == EVERYBODY:
            self._shared[host] += num_bytes
        else:
            self._edges[owner, host] += num_bytes

    def _count_lesson(self, student: str, sent: Contents) -> None:
        rest = sent.num_bytes
        for name, num_bytes in sent.record_bytes.items():
            if name.startswith(messages.TEACHER):
                host = name.removeprefix(messages.TEACHER)
                self._edges[student, host] += num_bytes
                self._given.setdefault(host, []).append(student)
                rest -= num_bytes
        self._other += rest


def _share(host: str, num_bytes: int, students: list[str]) -> dict[Edge, int]:
    """Share bytes evenly; what is left over goes to the first by name, one each."""
    if not students:
        return {}
    each, left = divmod(num_bytes, len(students))
    return {
        (student, host): each + (place < left)
        for place, student in enumerate(sorted(students))
    }
