"""The one list of rivals: the centre's half and the silo's half of each."""

from typing import NamedTuple

from strategies.rivals.ditto import Ditto, personal_steps
from strategies.rivals.fedbn import FedBN
from strategies.rivals.feddyn import DynamicRegulariser, FedDyn
from strategies.rivals.fedgkd import FedGKD, FormerTeacher
from strategies.rivals.fedntd import FedNTD, NotTrueTeacher
from strategies.rivals.fedprox import ProximalTerm
from strategies.rivals.gossip import Gossip
from strategies.rivals.matcha import Matcha
from strategies.rivals.method import Method, ObjectiveBuilder
from strategies.rivals.moon import ModelContrast, Moon
from strategies.rivals.relay import FormerSelf, Relay
from strategies.rivals.scaffold import ControlledSteps, Scaffold


class Rival(NamedTuple):
    """The two halves of a method."""

    method: type[Method] | None = None  # None: Flower's own class
    objective: ObjectiveBuilder | None = None  # None: local steps on labels alone
    reports_gradients: bool = False  # of the silo's frames, beside its weights
    compares_pixels: bool = False  # or feature maps: not for whole-frame classes


RIVALS: dict[str, Rival] = {
    "fedprox": Rival(objective=ProximalTerm.of),
    "fedbn": Rival(FedBN),
    "scaffold": Rival(Scaffold, ControlledSteps.of, reports_gradients=True),
    "moon": Rival(Moon, ModelContrast.of, compares_pixels=True),
    "feddyn": Rival(FedDyn, DynamicRegulariser.of),
    "fedntd": Rival(FedNTD, NotTrueTeacher.of, compares_pixels=True),
    "fedgkd": Rival(FedGKD, FormerTeacher.of, compares_pixels=True),
    "ditto": Rival(Ditto, personal_steps),
    "gossip": Rival(Gossip),
    "matcha": Rival(Matcha),
    "relay": Rival(Relay, FormerSelf.of),
}
"""By the name of the run setting `strategy`."""

FLOWERS = ("fedavg", "fedprox", "fedavgm", "fedadam")
"""Strategies of which Flower has the centre's half itself."""
