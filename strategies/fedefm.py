"""FedEFM: federated multishot distillation weighted by Earth Mover's Distance.

"FedEFM: Federated Endovascular Foundation Model with Unseen Data" (arXiv 2501.16992).
A round, synchronous from theta(k):

1. *overseas*: every silo's model is trained by its neighbours on their frames (eq. 1),
2. *return*: the copies come home as teachers, relayed by the server,
3. *distil*: every silo learns from its labels and its teachers, each weighed by the
   EMD between their features on the silo's own batch (eqs. 2 to 12),
4. *accumulate*: Theta is the mean of the silos that took part (eq. 13, normalised).

Round 0 is the local warm-up of the paper's text. Published numbers for temperature,
beta and steps do not exist; `FedEFMSettings` says which defaults are ours and why.
This class moves weights; it knows neither networks nor frames.
"""

from collections.abc import Callable, Iterable, Mapping
from logging import INFO

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from flwr.supercore import log

from strategies import messages
from strategies.accumulation import State, accumulate
from strategies.settings import FedEFMSettings
from strategies.topology import TOPOLOGIES, Neighbours


class FedEFM(Strategy):
    """Multishot foundation federated distillation, relayed by the server.

    The silos' models live here, between rounds and in simulation and deployment
    alike; a hospital keeps nothing.
    """

    def __init__(self, settings: FedEFMSettings, roster: Mapping[str, int]) -> None:
        """Set up the silos.

        Args:
            settings: Topology, feedback and what the hospitals do with the teachers.
            roster: Flower's node id of every hospital, by name.

        Raises:
            ValueError: If there is no hospital.
        """
        if not roster:
            raise ValueError("FedEFM needs at least one hospital, the roster is empty.")
        self.settings = settings
        self.roster = dict(sorted(roster.items()))
        self.neighbours: Neighbours = TOPOLOGIES[settings.topology](list(roster))
        self.students: dict[str, ArrayRecord] = {}
        self.teachers: dict[str, dict[str, ArrayRecord]] = {}

    def summary(self) -> None:
        """Log every setting and who teaches whom."""
        log(INFO, "\t├──> FedEFM: %s", self.settings)
        for student, hosts in self.neighbours.items():
            log(INFO, "\t├── %s learns from %s", student, ", ".join(hosts) or "nobody")

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
        """Run the warm-up and the federated rounds.

        Args:
            grid: Sends requests and returns replies.
            initial_arrays: theta(0), the same for all silos.
            num_rounds: Rounds after the warm-up.
            timeout: Seconds that one phase may take.
            train_config: Not used; the hospitals read the run's settings.
            evaluate_config: Not used.
            evaluate_fn: Called with the round and Theta at the end of every round,
                the warm-up included.

        Returns:
            Theta and what `evaluate_fn` said of it.
        """
        self.summary()
        self.students = dict.fromkeys(self.roster, initial_arrays)
        theta = initial_arrays
        result = Result()
        config = ConfigRecord()
        for server_round in range(num_rounds + 1):
            log(INFO, "[ROUND %s/%s]", server_round, num_rounds)
            if server_round > 0:
                self._overseas(server_round, grid, timeout)
            requests = self.configure_train(server_round, theta, config, grid)
            replies = grid.send_and_receive(requests, timeout=timeout)
            accumulated, _ = self.aggregate_train(server_round, replies)
            theta = theta if accumulated is None else accumulated
            requests = self.configure_evaluate(server_round, theta, config, grid)
            replies = grid.send_and_receive(requests, timeout=timeout)
            self.aggregate_evaluate(server_round, replies)
            if evaluate_fn and (metrics := evaluate_fn(server_round, theta)):
                result.evaluate_metrics_serverapp[server_round] = metrics
            if self.settings.feedback == "mean":
                self.students = dict.fromkeys(self.roster, theta)
        result.arrays = theta
        return result

    def configure_overseas(self, server_round: int) -> list[Message]:
        """Send every silo's model to each of its neighbours, eq. (1)."""
        return [
            self._message(
                host,
                messages.OVERSEAS,
                round_number=server_round,
                arrays=self.students[student],
                owner=student,
            )
            for student, hosts in self.neighbours.items()
            for host in hosts
        ]

    def collect_teachers(self, replies: Iterable[Message]) -> None:
        """Keep the copies that came back, by student and host."""
        self.teachers = {student: {} for student in self.roster}
        for reply in _valid(replies):
            student = messages.reply_owner(reply)
            record = reply.content.array_records[messages.ARRAYS]
            self.teachers[student][self._site_of(reply)] = record

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask every silo for its local step: on labels in round 0, then distilled."""
        return [
            self._message(
                site,
                messages.TRAIN if server_round == 0 else messages.DISTIL,
                round_number=server_round,
                arrays=student,
                teachers=self.teachers.get(site, {}),
            )
            for site, student in self.students.items()
        ]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Write theta(k+1) and accumulate the silos that took part, eq. (13).

        A silo that did not answer keeps theta(k) and is left out of the mean.
        """
        states: dict[str, State] = {}
        for reply in _valid(replies):
            site = self._site_of(reply)
            self.students[site] = reply.content.array_records[messages.ARRAYS]
            states[site] = messages.to_state(self.students[site])
        if not states:
            return None, None
        return messages.from_state(accumulate(states)), None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask every silo to measure Theta on its validation frames."""
        return [
            self._message(
                site,
                messages.EVALUATE,
                round_number=server_round,
                arrays=arrays,
                split="validation",
            )
            for site in self.roster
        ]

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Leave the counts to the grid's owner, who adds them over the sites."""
        return None

    def _overseas(self, server_round: int, grid: Grid, timeout: float) -> None:
        requests = self.configure_overseas(server_round)
        replies = grid.send_and_receive(requests, timeout=timeout) if requests else []
        self.collect_teachers(replies)

    def _message(
        self,
        site: str,
        message_type: str,
        *,
        round_number: int,
        arrays: ArrayRecord,
        owner: str = "",
        split: str = "train",
        teachers: Mapping[str, ArrayRecord] | None = None,
    ) -> Message:
        content = messages.pack_job(
            round_number=round_number,
            arrays=arrays,
            owner=owner,
            split=split,
            teachers=teachers,
        )
        return Message(content, self.roster[site], message_type)

    def _site_of(self, reply: Message) -> str:
        node = reply.metadata.src_node_id
        return next(site for site, known in self.roster.items() if known == node)


def _valid(replies: Iterable[Message]) -> list[Message]:
    return [reply for reply in replies if not reply.has_error()]
