"""FedEFM: federated multishot distillation weighted by Earth Mover's Distance.

"FedEFM: Federated Endovascular Foundation Model with Unseen Data" (arXiv 2501.16992).
A round, synchronous from theta(k):

1. *route*: every silo's model is trained by its neighbours on their frames (eq. 1) and
   comes home, relayed by the server (or, with `route` "tour", which is ours, one model
   visits the silos in turn, see `strategies/tour.py`),
2. *teach* and *weigh*: every silo learns from its labels and its teachers, each weighed
   by the EMD between their features (eqs. 2 to 12),
3. *accumulate*: Theta is the mean of the silos that took part (eq. 13, normalised),
   and what the settings say goes back to the silos.

Round 0 is the local warm-up of the paper's text, which its pseudo-code lacks (FedEFM
contradiction 11). The released code has neither scores nor distillation and averages
neighbours (contradiction 1): the equations are followed, the code is not. Published
numbers for temperature, beta and steps do not exist; `FedEFMSettings` says which
defaults are ours and why. This class moves weights; it knows neither networks nor
frames.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result

from strategies import messages
from strategies.accumulation import Accumulator, State, feed_back
from strategies.evaluation_settings import every_round
from strategies.fedefm_settings import FedEFMSettings
from strategies.federation_state import FederationState
from strategies.own_rounds import OwnRounds
from strategies.replies import reply_state
from strategies.route import Requests, Teachers
from strategies.sending import Send, sender
from strategies.teach import find_teachers, remember
from strategies.topology import Neighbours, Topology, build_topology
from strategies.tour import play_tour

log = logging.getLogger(__name__)


class FedEFM(OwnRounds):
    """Multishot foundation federated distillation, relayed by the server.

    The silos' models live in `state`, between rounds and in simulation and deployment
    alike; a hospital keeps nothing.
    """

    def __init__(
        self,
        settings: FedEFMSettings,
        roster: Mapping[str, int],
        *,
        topology: Topology | None = None,
        state: FederationState | None = None,
        seed: int = 0,
        keep: Callable[[str, int, State], None] | None = None,
        is_measured: Callable[[int], bool] = every_round,
        annotated: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Set up the silos.

        Args:
            settings: The four decisions.
            roster: Flower's node id of every hospital, by name.
            topology: Who teaches whom; None builds what the settings name.
            state: Where an earlier federation ended; None starts a new one.
            seed: Of the run.
            keep: Told every silo's own model as it arrives, with its name and round.
            is_measured: Whether the silos measure Theta after a round.
            annotated: Classes that every hospital annotates, by its name; needed where
                `teacher_classes` is "annotated".

        Raises:
            ValueError: If there is no hospital, or the state or the topology is of
                other hospitals.
        """
        if not roster:
            raise ValueError("FedEFM needs at least one hospital, the roster is empty.")
        self.settings = settings.effective()
        by_class = self.settings.teacher_classes == "annotated"
        self.requests = Requests(
            dict(sorted(roster.items())), annotated if by_class else None
        )
        silos = list(self.requests.roster)
        self.topology = topology or build_topology(settings.topology, silos, seed=seed)
        self.state = state
        self.seed = seed
        self.keep = keep
        self.is_measured = is_measured
        for known, what in (
            (self.topology.silos, "topology"),
            (silos if state is None else sorted(state.students), "saved federation"),
        ):
            if sorted(known) != silos:
                raise ValueError(
                    f"The {what} is of the hospitals {', '.join(sorted(known))}, but "
                    f"{', '.join(silos)} take part."
                )

    def summary(self) -> None:
        """Log every setting and who teaches whom."""
        log.info("\t├──> FedEFM: %s", self.settings)
        for student, hosts in self.topology.union().items():
            log.info("\t├── %s learns from %s", student, ", ".join(hosts) or "nobody")

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
        """Run the warm-up and the federated rounds, or those that are left.

        Args:
            grid: Sends requests and returns replies.
            initial_arrays: theta(0), the same for all silos; not used where an earlier
                federation goes on.
            num_rounds: Rounds after the warm-up.
            timeout: Seconds that one phase may take.
            train_config: Not used; the hospitals read the run's settings.
            evaluate_config: Not used.
            evaluate_fn: Called with the round and Theta at the end of every round,
                the warm-up included; `state` is the federation of that round then.

        Returns:
            Theta and what `evaluate_fn` said of it.
        """
        self.summary()
        self.state = self.state or FederationState.begin(
            messages.to_state(initial_arrays),
            list(self.requests.roster),
            seed=self.seed,
        )
        result = Result()

        send = sender(grid, timeout)
        while self.state.round_number < num_rounds:
            server_round = self.state.round_number + 1
            log.info("[ROUND %s/%s]", server_round, num_rounds)
            self.state = self.play_round(self.state, send)
            arrays = messages.from_state(self.state.theta)
            if evaluate_fn and (metrics := evaluate_fn(server_round, arrays)):
                result.evaluate_metrics_serverapp[server_round] = metrics
        result.arrays = messages.from_state(self.state.theta)
        return result

    def play_round(self, state: FederationState, send: Send) -> FederationState:
        """Play one round: a function of the federation and of the replies.

        Args:
            state: After the round before; not changed.
            send: Sends the requests of a phase; returns the good replies in sorted
                order.

        Returns:
            The federation after the round.
        """
        number = state.round_number + 1
        neighbours = self.topology.neighbours(number)
        prototypes = self._ask_prototypes(state, number, send)
        if self.settings.route == "tour":
            students, theta, memory = play_tour(
                self.requests,
                self.settings,
                state,
                neighbours,
                prototypes,
                send,
                keep=self.keep,
            )
            present = set(students)  # whoever was passed by sends the one before it
        else:
            students, theta, present = self._exchange(
                state, neighbours, prototypes, send
            )
            memory = {}
        if number > 0 and self.settings.teach_on == "proxy":
            teachers = {site: students[site] for site in sorted(present)}
            theta = self._teach_on_proxies(state, number, theta, teachers, send)
        if self.is_measured(number):  # the grid's owner adds up
            list(send(self.requests.evaluation(theta, number)))
        if self.settings.feeds_back_in(number):
            students = feed_back(
                students,
                theta,
                neighbours,
                kind=self.settings.feedback,
                share=self.settings.feedback_share,
            )
        return replace(
            state, round_number=number, theta=theta, students=students, memory=memory
        )

    def _exchange(
        self,
        state: FederationState,
        neighbours: Neighbours,
        prototypes: Mapping[str, State],
        send: Send,
    ) -> tuple[dict[str, State], State, set[str]]:
        """Let all silos train side by side, with their teachers; see `_collect`."""
        number = state.round_number + 1
        experts: Teachers = {}
        teachers = find_teachers(self.requests, self.settings, state, neighbours, send)
        if self.settings.accumulate == "students+experts":
            teachers = remember(teachers, experts)
        # Lazily: a silo's request leaves as soon as its own teachers are back, and
        # the server never holds those of two silos.
        requests = self.requests.training(
            state, number, teachers, self.settings, prototypes
        )
        return self._collect(state, experts, send(requests))

    def _ask_prototypes(
        self, state: FederationState, number: int, send: Send
    ) -> dict[str, State]:
        """Ask what stands for every silo's frames, as the accumulated model sees it."""
        if not self.settings.needs_prototypes or number == 0:
            return {}
        replies = send(self.requests.prototypes(state.theta, number))
        return {self.requests.site_of(one): reply_state(one) for one in replies}

    def _collect(
        self, state: FederationState, experts: Teachers, replies: Iterable[Message]
    ) -> tuple[dict[str, State], State, set[str]]:
        """Write theta(k+1) and accumulate the silos that took part, eq. (13).

        A silo that did not answer keeps theta(k), is left out of the mean and is not
        among those that took part, the last of what is returned.
        """
        students = dict(state.students)
        present = set()
        accumulator = Accumulator()
        needed = self._needs_students(state.round_number + 1)
        for reply in replies:
            site = self.requests.site_of(reply)
            student = reply_state(reply)
            accumulator.add(student)
            present.add(site)
            if self.keep is not None:
                self.keep(site, state.round_number + 1, student)
            if needed:
                students[site] = student
            for expert in experts.get(site, {}).values():
                accumulator.add(expert)
        theta = accumulator.mean() if accumulator.count else state.theta
        return students, theta, present

    def _needs_students(self, number: int) -> bool:
        """Tell whether anybody asks for the silos' own models after a round."""
        replaced = (
            self.settings.feeds_back_in(number)
            and self.settings.feedback == "mean"
            and self.settings.feedback_share == 1.0
        )
        on_proxies = self.settings.teach_on == "proxy" and self._teachers_are_asked
        return not replaced or on_proxies

    @property
    def _teachers_are_asked(self) -> bool:
        """Tell whether silos teach on proxies, or the simulator's masks do."""
        return self.settings.proxy_labels != "simulated"

    def _teach_on_proxies(
        self,
        state: FederationState,
        number: int,
        theta: State,
        teachers: Mapping[str, State],
        send: Send,
    ) -> State:
        """Let the silos of this round teach the accumulated model on proxies."""
        sites = list(self.requests.roster)
        site = self.settings.proxy_site or sites[(number - 1) % len(sites)]
        if site not in sites:
            log.warning("Round %s: the proxy site '%s' is absent.", number, site)
            return theta
        prototypes: dict[str, State] = {}
        if self._teachers_are_asked:
            if not teachers:
                return theta
            common = dict.fromkeys(sites, theta)
            there = replace(state, theta=theta, students=common)
            prototypes = self._ask_prototypes(there, number, send)
        else:  # the simulator's masks teach, and nobody's model has to travel
            teachers = {}
        replies = list(
            send(self.requests.proxy(site, number, theta, teachers, prototypes))
        )
        return reply_state(replies[0]) if replies else theta
