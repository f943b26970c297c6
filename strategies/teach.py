"""Which frozen teachers every silo gets in a round of FedEFM."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from flwr.app import Message

from strategies.accumulation import State
from strategies.fedefm_settings import FedEFMSettings
from strategies.federation_state import FederationState
from strategies.route import Requests, Teachers
from strategies.topology import Neighbours

log = logging.getLogger(__name__)

Send = Callable[[Iterable[Message]], Iterable[Message]]
"""Sends the requests of one phase and gives the good replies, in sorted order."""


def find_teachers(
    requests: Requests,
    settings: FedEFMSettings,
    state: FederationState,
    neighbours: Neighbours,
    send: Send,
) -> Iterator[tuple[str, dict[str, State]]]:
    """Find who teaches every silo in the round that follows a state.

    Args:
        requests: Writes the requests.
        settings: Who teaches, and on whose frames.
        state: After the round before.
        neighbours: Of the round.
        send: Sends them; eq. (1) for overseas experts.

    Yields:
        Every silo, sorted, and its teachers by the name of their host.
    """
    number = state.round_number + 1
    kind = settings.teachers
    if number == 0 or settings.teach_on == "proxy":
        kind = "none"
    if kind == "overseas":
        replies = send(requests.overseas(state, number, neighbours))
        for silo, found in requests.sort_experts(replies, neighbours):
            _name_missing(number, silo, found, neighbours[silo])
            yield silo, found
        return
    for silo in sorted(state.students):
        if kind == "global":
            yield silo, {"global": state.theta}
        elif kind == "neighbour":
            yield silo, {host: state.students[host] for host in neighbours[silo]}
        else:
            yield silo, {}


def _name_missing(
    number: int, silo: str, found: Mapping[str, State], hosts: Sequence[str]
) -> None:
    missing = [host for host in hosts if host not in found]
    if missing:
        log.warning(
            "Round %s: %s goes on without its teacher %s, which did not come back.",
            number,
            silo,
            ", ".join(missing),
        )


def remember(
    teachers: Iterable[tuple[str, dict[str, State]]], experts: Teachers
) -> Iterator[tuple[str, dict[str, State]]]:
    """Pass teachers on and keep them in `experts`."""
    for silo, found in teachers:
        experts[silo] = found
        yield silo, found
