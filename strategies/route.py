"""Which weights travel to whom: the requests of every phase of FedEFM."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from flwr.app import ArrayRecord, Message

from strategies import messages
from strategies.accumulation import State
from strategies.fedefm_settings import FedEFMSettings
from strategies.federation_state import FederationState
from strategies.replies import reply_owner, reply_state
from strategies.rivals.method import SiloTask
from strategies.topology import Neighbours
from strategies.wire import pack

Teachers = dict[str, dict[str, State]]
"""For every student, its teachers by the name of their host."""

EVERYBODY = ""
"""The owner of a copy that stands for all travellers, because all start from Theta."""


class Requests:
    """Writes the requests of a round and knows the senders of replies."""

    def __init__(
        self,
        roster: Mapping[str, int],
        annotated: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Know the hospitals.

        Args:
            roster: Flower's node id of every hospital, by name, sorted.
            annotated: Classes that every hospital annotates, by its name, where
                teachers teach no others; None = they teach all.
        """
        self.roster = dict(roster)
        self._annotated = annotated
        self._names = {node: name for name, node in self.roster.items()}

    def site_of(self, reply: Message) -> str:
        """Return the hospital that sent a reply."""
        return self._names[reply.metadata.src_node_id]

    def overseas(
        self, state: FederationState, number: int, neighbours: Neighbours
    ) -> list[Message]:
        """Send every silo's model to each of its neighbours, eq. (1).

        FedEFM contradiction 1: in the released code a neighbour's model comes and
        trains on the silo's own frames instead, so that none learns abroad.

        Where all silos start from Theta, a host with several visitors trains one copy
        that stands for all of them: the same weights, frames and steps.
        """
        edges = [
            (student, host) for student, all_ in neighbours.items() for host in all_
        ]
        hosts_once = sorted({host for _, host in edges})
        pack = _Packer()
        if len(hosts_once) < len(edges) and state.is_common():
            return [
                self._message(
                    host, messages.OVERSEAS, number, pack(state.theta), owner=EVERYBODY
                )
                for host in hosts_once
            ]
        return [
            self._message(
                host,
                messages.OVERSEAS,
                number,
                pack(state.students[student]),
                owner=student,
            )
            for student, host in edges
        ]

    def sort_experts(
        self, replies: Iterable[Message], neighbours: Neighbours
    ) -> Iterator[tuple[str, dict[str, State]]]:
        """Give every copy that came back to its student.

        Args:
            replies: To `overseas`, in the order of its requests; read as needed.
            neighbours: Of the round.

        Yields:
            Every silo, sorted, and its experts by the name of their host.
        """
        groups = groupby(replies, key=reply_owner)
        group = next(groups, None)
        if group is not None and group[0] == EVERYBODY:
            copies = {self.site_of(one): reply_state(one) for one in group[1]}
            next(groups, None)  # the end of the phase
            for silo in sorted(neighbours):
                hosts = (host for host in neighbours[silo] if host in copies)
                yield silo, {host: copies[host] for host in hosts}
            return
        for silo in sorted(neighbours):
            found: dict[str, State] = {}
            if group is not None and group[0] == silo:
                found = {self.site_of(one): reply_state(one) for one in group[1]}
                group = next(groups, None)
            yield silo, found

    def training(
        self,
        state: FederationState,
        number: int,
        teachers: Iterable[tuple[str, dict[str, State]]],
        settings: FedEFMSettings,
        prototypes: Mapping[str, State],
        *,
        aids: Mapping[str, State] | None = None,
    ) -> Iterator[Message]:
        """Ask every silo for its own step: on labels, or with teachers beside them."""
        distils = (
            number > 0
            and settings.teach_on == "student"
            and settings.teachers != "none"
        )
        pack = _Packer()
        for silo, found in teachers:
            told = {silo, *found} & prototypes.keys() if distils else ()
            yield self._message(
                silo,
                messages.DISTIL if distils else messages.TRAIN,
                number,
                pack(state.students[silo]),
                teachers=_Packer().each(found if distils else {}),
                teaches=self._teaches(found if distils else {}),
                prototypes=pack.each({host: prototypes[host] for host in told}),
                common=(
                    pack(state.theta) if distils and settings.needs_prototypes else None
                ),
                aids=_Packer().each(aids or {}),
            )

    def prototypes(self, theta: State, number: int) -> list[Message]:
        """Ask every silo for the tokens that stand for it."""
        arrays = messages.from_state(theta)
        return [
            self._message(site, messages.PROTOTYPES, number, arrays)
            for site in self.roster
        ]

    def proxy(
        self,
        site: str,
        number: int,
        theta: State,
        students: Mapping[str, State],
        prototypes: Mapping[str, State],
    ) -> list[Message]:
        """Ask one site to let all silos teach the accumulated model."""
        pack = _Packer()
        return [
            self._message(
                site,
                messages.PROXY,
                number,
                pack(theta),
                teachers=pack.each(students),
                teaches=self._teaches(students),
                prototypes=pack.each(prototypes),
                common=pack(theta) if prototypes else None,
            )
        ]

    def tasks(self, tasks: Sequence[SiloTask], number: int) -> list[Message]:
        """Ask silos to train what a rival of FedEFM sends them, with its aids."""
        pack = _Packer()
        return [
            self._message(
                task.silo,
                messages.TRAIN,
                number,
                pack(task.weights),
                owner=task.owner,
                aids=pack.each(task.aids),
            )
            for task in tasks
        ]

    def evaluation(self, theta: State, number: int) -> list[Message]:
        """Ask every silo to measure Theta on its validation frames."""
        arrays = messages.from_state(theta)
        return [
            self._message(site, messages.EVALUATE, number, arrays, split="validation")
            for site in self.roster
        ]

    def _teaches(self, teachers: Iterable[str]) -> dict[str, Sequence[str]]:
        if self._annotated is None:
            return {}
        return {name: self._annotated[name] for name in teachers}

    def _message(
        self,
        site: str,
        message_type: str,
        number: int,
        arrays: ArrayRecord,
        *,
        owner: str = "",
        split: str = "train",
        teachers: Mapping[str, ArrayRecord] | None = None,
        prototypes: Mapping[str, ArrayRecord] | None = None,
        common: ArrayRecord | None = None,
        aids: Mapping[str, ArrayRecord] | None = None,
        teaches: Mapping[str, Sequence[str]] | None = None,
    ) -> Message:
        content = messages.pack_job(
            round_number=number,
            arrays=arrays,
            owner=owner,
            split=split,
            teachers=teachers,
            prototypes=prototypes,
            common=common,
            aids=aids,
            teaches=teaches,
        )
        return Message(content, self.roster[site], message_type)


class _Packer:
    """Packs every model of a phase once, however many messages carry it."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[State, ArrayRecord]] = {}

    def __call__(self, state: State) -> ArrayRecord:
        # The model is kept beside its record, so that its id cannot be used again.
        if id(state) not in self._known:
            self._known[id(state)] = (state, pack(state))
        return self._known[id(state)][1]

    def each(self, states: Mapping[str, State]) -> dict[str, ArrayRecord]:
        return {name: self(state) for name, state in states.items()}
