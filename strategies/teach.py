"""Which frozen teachers every silo gets in a round of FedEFM."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence

from strategies.accumulation import State
from strategies.fedefm_settings import FedEFMSettings
from strategies.federation_state import FederationState
from strategies.route import Requests, Teachers
from strategies.sending import Send
from strategies.topology import Neighbours

log = logging.getLogger(__name__)


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
    if _who_teaches(settings, number) == "overseas":
        replies = send(requests.overseas(state, number, neighbours))
        for silo, found in requests.sort_experts(replies, neighbours):
            _name_missing(number, silo, found, neighbours[silo])
            yield silo, found
        return
    for silo in sorted(state.students):
        yield (
            silo,
            models_that_teach(
                settings, number, silo, state.students, state, neighbours
            ),
        )


def models_that_teach(
    settings: FedEFMSettings,
    number: int,
    silo: str,
    models: Mapping[str, State],
    state: FederationState,
    neighbours: Neighbours,
) -> dict[str, State]:
    """Return the teachers of a silo that exist already and have not to be trained.

    Args:
        settings: Who teaches.
        number: Of the round; nobody teaches in round 0.
        silo: Who is taught.
        models: Of every silo.
        state: Whose accumulated model teaches, with `teachers` "global".
        neighbours: Of the round.
    """
    kind = _who_teaches(settings, number)
    if kind == "global":
        return {"global": state.theta}
    if kind == "neighbour":
        return {host: models[host] for host in neighbours[silo]}
    return {}


def _who_teaches(settings: FedEFMSettings, number: int) -> str:
    is_silent = number == 0 or settings.teach_on == "proxy"
    return "none" if is_silent else settings.teachers


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
