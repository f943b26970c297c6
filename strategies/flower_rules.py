"""Flower's own strategies over all hospitals, able to go on where a run ended.

FedAvg (McMahan et al., AISTATS 2017) and FedProx (Li et al., MLSys 2020) keep nothing
but the average between rounds, so only the numbers of the rounds have to be moved.
FedAvgM (Hsu et al., arXiv 1909.06335) and FedAdam (Reddi et al., ICLR 2021) keep
moments inside Flower's classes, where nobody can reach them: a run of theirs cannot be
gone on from. Both step from mean to mean as if all tensors were weights; running
statistics of batch normalisation are none, and their plain mean is taken. Flower's
FedAdam corrects the bias of its moments as Adam does, which algorithm 2 of the paper
does not, and its second moment starts at 0, not at tau^2 or more.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import (
    FedAdam,
    FedAvg,
    FedAvgM,
    FedProx,
    Result,
    Strategy,
)

from strategies import messages
from strategies.evaluation_settings import every_round
from strategies.federation_state import FederationState
from strategies.rival_settings import RivalSettings
from strategies.rivals.averaging import STATISTICS
from strategies.settings import SettingsError


def make_flower_strategy(
    name: str,
    settings: RivalSettings,
    roster: Mapping[str, int],
    state: FederationState | None = None,
    is_measured: Callable[[int], bool] = every_round,
) -> Strategy:
    """Build one of Flower's strategies.

    Args:
        name: One of `strategies.rivals.registry.FLOWERS`.
        settings: Its strengths.
        roster: Flower's node id of every hospital, by name.
        state: Where an earlier federation ended; None starts a new one.
        is_measured: Whether the hospitals measure the mean after a round.

    Returns:
        The strategy.

    Raises:
        SettingsError: If an earlier run cannot be gone on from with it.
    """
    moments: dict[str, Any] = {
        "server_learning_rate": settings.server_learning_rate,
        "server_momentum": settings.server_momentum,
    }
    if name == "fedavg":
        return ResumableFedAvg(roster, state=state, is_measured=is_measured)
    if name == "fedprox":
        return ResumableFedProx(
            roster,
            state=state,
            is_measured=is_measured,
            proximal_mu=settings.proximal_mu,
        )
    if state is not None:
        raise SettingsError(
            f"Flower's {name} keeps its moments to itself, so a run of it cannot be "
            "gone on from. Leave resume empty."
        )
    if name == "fedavgm":
        return AllHospitalsFedAvgM(roster, is_measured=is_measured, **moments)
    return AllHospitalsFedAdam(
        roster,
        is_measured=is_measured,
        eta=settings.server_learning_rate,
        beta_1=settings.server_momentum,
        beta_2=settings.server_second_moment,
        tau=settings.server_tau,
    )


class _AllHospitals(FedAvg):
    """All hospitals in every round, from round 1 or from a later one."""

    def __init__(
        self,
        roster: Mapping[str, int],
        *,
        state: FederationState | None = None,
        is_measured: Callable[[int], bool] = every_round,
        **own: Any,  # noqa: ANN401 - of Flower's class behind
    ) -> None:
        """Take all hospitals, weighted by their numbers of frames.

        Args:
            roster: Flower's node id of every hospital, by name.
            state: Where an earlier federation ended; None starts a new one.
            is_measured: Whether the hospitals measure the mean after a round.
            own: Strengths of Flower's class.
        """
        super().__init__(
            min_train_nodes=len(roster),
            min_evaluate_nodes=len(roster),
            min_available_nodes=len(roster),
            weighted_by_key=messages.NUM_EXAMPLES,
            arrayrecord_key=messages.ARRAYS,
            configrecord_key=messages.CONFIG,
            **own,
        )
        self.state = state
        self.is_measured = is_measured
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
        if not self.is_measured(server_round + self.done):
            return []
        return super().configure_evaluate(
            server_round + self.done, arrays, config, grid
        )


class ResumableFedAvg(_AllHospitals):
    """Flower's FedAvg."""


class ResumableFedProx(_AllHospitals, FedProx):
    """Flower's FedProx; the silo's half is `strategies/rivals/fedprox.py`."""


class _Moments(_AllHospitals):
    """Moves weights as Flower's class behind does, and nothing else."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Take the hospitals' mean in place of what a moment makes of statistics.

        Momentum overshoots: a variance that falls would fall below zero. Numbers keep
        their type, which FedAdam's step widens to double.
        """
        known = list(replies)
        arrays, metrics = super().aggregate_train(server_round, known)
        if arrays is None:
            return arrays, metrics
        # FedAvg's own average once more, which no moment has touched.
        mean, _ = FedAvg.aggregate_train(self, server_round, known)
        for name, plain in (mean or {}).items():
            if name.endswith(STATISTICS):
                arrays[name] = plain
            elif arrays[name].dtype != plain.dtype:
                arrays[name] = Array(arrays[name].numpy().astype(plain.dtype))
        return arrays, metrics


class AllHospitalsFedAvgM(_Moments, FedAvgM):
    """Flower's FedAvgM."""


class AllHospitalsFedAdam(_Moments, FedAdam):
    """Flower's FedAdam."""
