"""Flower's federated averaging, able to go on where an earlier run ended.

FedAvg (McMahan et al., AISTATS 2017) keeps nothing but the average between rounds, so
only the numbers of the rounds have to be moved.
"""

from collections.abc import Callable, Iterable, Mapping

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result

from strategies import messages
from strategies.federation_state import FederationState


class ResumableFedAvg(FedAvg):
    """Flower's FedAvg over all hospitals, from round 1 or from a later one."""

    def __init__(
        self, roster: Mapping[str, int], *, state: FederationState | None = None
    ) -> None:
        """Average all hospitals, weighted by their numbers of frames.

        Args:
            roster: Flower's node id of every hospital, by name.
            state: Where an earlier federation ended; None starts a new one.
        """
        super().__init__(
            min_train_nodes=len(roster),
            min_evaluate_nodes=len(roster),
            min_available_nodes=len(roster),
            weighted_by_key=messages.NUM_EXAMPLES,
            arrayrecord_key=messages.ARRAYS,
            configrecord_key=messages.CONFIG,
        )
        self.state = state
        self.done = 0 if state is None else max(state.round_number, 0)

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
        """Run the rounds that are left; the arguments are those of Flower's `start`."""
        if self.state is not None:
            initial_arrays = messages.from_state(self.state.theta)

        def told(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
            return (
                evaluate_fn(server_round + self.done, arrays) if evaluate_fn else None
            )

        return super().start(
            grid,
            initial_arrays,
            max(num_rounds - self.done, 0),
            timeout,
            train_config,
            evaluate_config,
            told,
        )

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask all hospitals to train, with the number of the whole run's round."""
        return super().configure_train(server_round + self.done, arrays, config, grid)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask all hospitals to measure, with the number of the whole run's round."""
        return super().configure_evaluate(
            server_round + self.done, arrays, config, grid
        )
