"""Plays any rival's rounds over Flower: carries models, remembers, evaluates.

What a method computes is in its own file; this class moves weights, as
`strategies/fedefm.py` does for FedEFM, and knows neither networks nor frames.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result

from strategies import messages
from strategies.accumulation import State
from strategies.evaluation_settings import every_round
from strategies.federation_state import FederationState
from strategies.own_rounds import OwnRounds
from strategies.replies import reply_aids, reply_metrics, reply_owner, reply_state
from strategies.rivals.method import Memory, Method, SiloAnswer, SiloTask
from strategies.route import Requests
from strategies.sending import Send, sender

log = logging.getLogger(__name__)

SHARED, OWN = "shared", "own"
"""First parts of the names under which a memory is kept."""


class RivalStrategy(OwnRounds):
    """A strategy whose rounds are those of a `Method`."""

    def __init__(
        self,
        name: str,
        method: Method,
        roster: Mapping[str, int],
        *,
        state: FederationState | None = None,
        seed: int = 0,
        keep: Callable[[str, int, State], None] | None = None,
        is_measured: Callable[[int], bool] = every_round,
    ) -> None:
        """Set up the silos.

        Args:
            name: Of the method, as in the run setting `strategy`.
            method: Plays the rounds.
            roster: Flower's node id of every hospital, by name.
            state: Where an earlier federation ended; None starts a new one.
            seed: Of the run.
            keep: Told every silo's own model at the end of a round, with its name
                and the round.
            is_measured: Whether the silos measure the global model after a round.

        Raises:
            ValueError: If the state is of other hospitals.
        """
        if state is not None and state.students.keys() != roster.keys():
            raise ValueError(
                f"The earlier federation is of the hospitals "
                f"{', '.join(sorted(state.students))}, but "
                f"{', '.join(sorted(roster))} take part."
            )
        self.name = name
        self.method = method
        self.requests = Requests(dict(sorted(roster.items())))
        self.state = state
        self.seed = seed
        self.keep = keep
        self.is_measured = is_measured

    def summary(self) -> None:
        """Log the method and its settings."""
        log.info("\t├──> %s: %s", self.name, self.method.settings)

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run the rounds, or those that are left.

        Args:
            grid: Sends requests and returns replies.
            initial_arrays: theta(0), the same for all silos; not used where an earlier
                federation goes on.
            num_rounds: All rounds of the run.
            timeout: Seconds that one phase may take.
            train_config: Not used; the hospitals read the run's settings.
            evaluate_config: Not used.
            evaluate_fn: Called with the round and the global model at its end; `state`
                is the federation of that round then.

        Returns:
            The global model and what `evaluate_fn` said of it.
        """
        self.summary()
        silos = list(self.requests.roster)
        if self.state is None:
            theta = messages.to_state(initial_arrays)
            memory, done = self.method.begin(theta), 0
        else:
            memory, done = recall(self.state), max(self.state.round_number, 0)
        result, send = Result(), sender(grid, timeout)
        for number in range(done + 1, num_rounds + 1):
            log.info("[ROUND %s/%s]", number, num_rounds)

            def ask(
                tasks: Sequence[SiloTask], number: int = number
            ) -> list[SiloAnswer]:
                return self._ask(send, tasks, number)

            memory = self.method.play(memory, number, ask)
            self.state = remember(memory, self.name, number, silos, self.seed)
            if self.keep is not None:
                for silo in silos:
                    self.keep(silo, number, self.method.personal(memory, silo))
            arrays = messages.from_state(memory.theta)
            if self.is_measured(number):
                requests = self.requests.evaluation(memory.theta, number)
                list(send(requests))  # whoever watches the grid reads the numbers
            if evaluate_fn and (metrics := evaluate_fn(number, arrays)):
                result.evaluate_metrics_serverapp[number] = metrics
        result.arrays = messages.from_state(memory.theta)
        return result

    def _ask(
        self, send: Send, tasks: Sequence[SiloTask], number: int
    ) -> list[SiloAnswer]:
        replies = send(self.requests.tasks(tasks, number))
        answers = [
            SiloAnswer(
                silo=self.requests.site_of(reply),
                owner=reply_owner(reply),
                weights=dict(reply_state(reply)),
                num_examples=int(reply_metrics(reply)[messages.NUM_EXAMPLES]),
                aids=reply_aids(reply),
            )
            for reply in replies
        ]
        return sorted(answers, key=lambda answer: (answer.owner, answer.silo))


def remember(
    memory: Memory, name: str, number: int, silos: Sequence[str], seed: int
) -> FederationState:
    """Turn a memory into a federation that can be written down."""
    kept = {f"{SHARED}/{kind}": state for kind, state in memory.shared.items()}
    for kind, states in memory.own.items():
        kept |= {f"{OWN}/{kind}/{silo}": state for silo, state in states.items()}
    # No file holds no tensor, as FedBN's of a network without normalisation.
    kept = {name: state for name, state in kept.items() if state}
    begun = FederationState.begin(memory.theta, list(silos), seed=seed, strategy=name)
    return replace(begun, round_number=number, memory=kept)


def recall(state: FederationState) -> Memory:
    """Read a memory back; the reverse of `remember`."""
    shared: dict[str, State] = {}
    own: dict[str, dict[str, State]] = {}
    for name, kept in state.memory.items():
        place, _, rest = name.partition("/")
        if place == SHARED:
            shared[rest] = kept
        else:
            kind, _, silo = rest.partition("/")
            own.setdefault(kind, {})[silo] = kept
    return Memory(state.theta, shared, own)
