"""The cycle time of a topology, and all designs side by side."""

from collections.abc import Sequence
from typing import NamedTuple

from strategies.topologies.cycle_time import maximum_cycle_mean, mean_round_time
from strategies.topologies.delays import (
    Connections,
    DelayModel,
    Matrix,
    connect,
    edge_delays,
)
from strategies.topologies.designs import as_matrix
from strategies.topologies.underlay import Underlay, place_silos
from strategies.topology import DESIGNS, Neighbours, Topology, build_topology

NUM_ROUNDS = 1000  # that a changing topology is followed for


class DesignFacts(NamedTuple):
    """What a design costs."""

    topology: Topology
    messages: float  # models sent in a round, from teacher to student; mean
    most_teachers: int  # of one silo, over all rounds
    cycle_time_ms: float


def cycle_time_ms(
    topology: Topology,
    underlay: Underlay,
    delays: DelayModel,
    *,
    num_rounds: int = NUM_ROUNDS,
) -> float:
    """Return how long a round takes in the long run.

    A star is counted as a server: all send to the hub, which then sends back, so its
    messages take two ways in a round (as Marfoq et al. do). A topology that changes is
    followed over many rounds.

    Args:
        topology: Who teaches whom.
        underlay: The network that carries the models.
        delays: What is sent.
        num_rounds: Rounds to follow a changing topology for.

    Returns:
        Milliseconds; for a lone silo what it computes.
    """
    places = place_silos(topology.silos, underlay)
    nodes = [places[silo] for silo in topology.silos]
    connections = connect(underlay, nodes, delays)
    if topology.matchings:
        return mean_round_time(
            _delays_of(topology.neighbours(number), connections, delays)
            for number in range(1, num_rounds + 1)
        )
    table = _delays_of(topology.union(), connections, delays)
    if topology.name == "star":
        return 2 * float(table.max()) - delays.compute_ms
    return maximum_cycle_mean(table)


def compare_designs(
    silos: Sequence[str], underlay: Underlay, delays: DelayModel, *, seed: int = 0
) -> list[DesignFacts]:
    """Build every design over one network and say what it costs.

    Args:
        silos: Distinct names.
        underlay: The network.
        delays: What is sent.
        seed: Of designs that change from round to round.

    Returns:
        One entry a design, in the order of `DESIGNS`.

    Raises:
        ValueError: If the silos do not fit on the network.
    """
    return [
        describe(
            build_topology(design, silos, underlay=underlay, seed=seed, delays=delays),
            underlay,
            delays,
        )
        for design in DESIGNS
    ]


def describe(topology: Topology, underlay: Underlay, delays: DelayModel) -> DesignFacts:
    """Say what one topology costs.

    Args:
        topology: Who teaches whom.
        underlay: The network.
        delays: What is sent.

    Returns:
        Messages, teachers and cycle time.
    """
    teachers = [len(names) for names in topology.union().values()]
    messages = float(sum(teachers))
    if topology.matchings:
        messages = sum(
            2 * len(matching) * probability
            for matching, probability in zip(
                topology.matchings, topology.probabilities, strict=True
            )
        )
    return DesignFacts(
        topology=topology,
        messages=messages,
        most_teachers=max(teachers),
        cycle_time_ms=cycle_time_ms(topology, underlay, delays),
    )


def _delays_of(
    neighbours: Neighbours, connections: Connections, delays: DelayModel
) -> Matrix:
    numbers = {silo: number for number, silo in enumerate(neighbours)}
    edges = [
        (numbers[teacher], numbers[student])
        for student, teachers in neighbours.items()
        for teacher in teachers
    ]
    return edge_delays(connections, delays, as_matrix(edges, len(numbers)))
