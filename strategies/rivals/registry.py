"""The one list of rivals: the centre's half and the silo's half of each."""

from typing import NamedTuple

from strategies.rivals.fedbn import FedBN
from strategies.rivals.fedprox import ProximalTerm
from strategies.rivals.method import Method, ObjectiveBuilder


class Rival(NamedTuple):
    """The two halves of a method."""

    method: type[Method] | None = None  # None: Flower's own class
    objective: ObjectiveBuilder | None = None  # None: local steps on labels alone
    reports_gradients: bool = False  # of the silo's frames, beside its weights


RIVALS: dict[str, Rival] = {
    "fedprox": Rival(objective=ProximalTerm.of),
    "fedbn": Rival(FedBN),
}
"""By the name of the run setting `strategy`."""

FLOWERS = ("fedavg", "fedprox", "fedavgm", "fedadam")
"""Strategies of which Flower has the centre's half itself."""
