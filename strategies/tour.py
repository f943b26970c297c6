"""FedEFM's route "tour": one model visits the silos in turn and leaves snapshots.

A relay (cyclic weight transfer, Chang et al., JAMIA 2018) learns from every silo one
after another and forgets the first by the time it meets the last. What it was as it
left a silo is the best model of that silo's frames, so here those snapshots take the
place of the silos' own models: they can teach the traveller at later silos
(`teachers` "neighbour"), teach the accumulated model on proxies, each where the EMD
says that a frame looks like its silo's (`teach_on` "proxy"), or be averaged
(`accumulate` "students"). With `moments` "carried" the traveller also takes along what
AdamW remembers (`strategies/moments.py`), so that short visits pay. This is ours and
not of the FedEFM paper, whose models return home after every visit.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from strategies.accumulation import Accumulator, State
from strategies.fedefm_settings import FedEFMSettings
from strategies.federation_state import FederationState
from strategies.moments import ADAMW, Moments
from strategies.replies import reply_aids, reply_state
from strategies.route import Requests
from strategies.sending import Send
from strategies.teach import models_that_teach
from strategies.topology import Neighbours, tour_order


class Tour(NamedTuple):
    """What a tour leaves."""

    snapshots: dict[str, State]  # of a silo passed by: that of the one before it
    theta: State  # the mean of the snapshots of those that took part, or the last
    memory: dict[str, State]  # what the traveller carries beside its weights


def play_tour(
    requests: Requests,
    settings: FedEFMSettings,
    state: FederationState,
    neighbours: Neighbours,
    prototypes: Mapping[str, State],
    send: Send,
    *,
    keep: Callable[[str, int, State], None] | None = None,
) -> Tour:
    """Send one model from silo to silo, a phase for every visit.

    It sets out as the last visit of the round before left it, or as the accumulated
    model where that was fed back. A silo that fails is passed by.

    Args:
        requests: Writes the requests.
        settings: Who teaches beside the labels of a silo, and what is accumulated.
        state: After the round before; not changed.
        neighbours: Whose snapshots teach at a silo, with `teachers` "neighbour".
        prototypes: Of the silos, for a `score` that needs them.
        send: Sends the request of a visit.
        keep: Told every snapshot, with its silo and the round.

    Returns:
        What the tour left.
    """
    number = state.round_number + 1
    silos = list(requests.roster)
    snapshots = dict(state.students)
    traveller = snapshots[tour_order(silos, number - 1)[-1]]
    carried = (
        {ADAMW: state.memory.get(ADAMW, Moments().to_state())}
        if settings.moments == "carried"
        else {}
    )
    accumulator = Accumulator()
    for silo in tour_order(silos, number):
        there = replace(state, students={silo: traveller})
        taught = models_that_teach(settings, number, silo, snapshots, state, neighbours)
        visit = requests.training(
            there, number, [(silo, taught)], settings, prototypes, aids=carried
        )
        for reply in send(visit):
            traveller = reply_state(reply)
            carried = {**carried, **reply_aids(reply)}
            accumulator.add(traveller)
            if keep is not None:
                keep(silo, number, traveller)
        snapshots[silo] = traveller
    is_last = settings.accumulate == "last" or not accumulator.count
    return Tour(snapshots, traveller if is_last else accumulator.mean(), carried)
