"""Which strategy a run uses, and where it goes on from."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from flwr.serverapp.strategy import Strategy

from models.assembly import assemble_model
from models.normalisation import normalisation_names
from models.weights import WeightsError, check_weights
from server.checkpoints import CheckpointError
from server.state_files import load_federation
from strategies.accumulation import State
from strategies.fedefm import FedEFM
from strategies.federation_state import FederationState
from strategies.flower_rules import make_flower_strategy
from strategies.rivals.method import Terms
from strategies.rivals.player import RivalStrategy
from strategies.rivals.registry import FLOWERS, RIVALS
from strategies.settings import RunSettings, SettingsError
from strategies.topologies.delays import DelayModel
from strategies.topologies.underlay import place_silos
from strategies.topology import Topology, build_topology, load_underlay


def make_strategy(
    settings: RunSettings,
    roster: Mapping[str, int],
    *,
    state: FederationState | None = None,
    topology: Topology | None = None,
    keep: Callable[[str, int, State], None] | None = None,
    annotated: Mapping[str, Sequence[str]] | None = None,
) -> Strategy:
    """Build the strategy that the settings name.

    Args:
        settings: The run's settings.
        roster: Node id of every hospital, by name.
        state: Where an earlier run ended, to go on from.
        topology: Of `make_topology`, for FedEFM.
        keep: Told every silo's own model as it arrives; only FedEFM tells them.
        annotated: Classes that every hospital annotates, by its name.

    Returns:
        FedEFM, one of Flower's own strategies over all hospitals, or a rival.

    Raises:
        ValueError: If the state is of other hospitals.
        SettingsError: If an earlier run cannot be gone on from with this strategy.
    """
    is_measured = partial(settings.evaluation.is_due, last=settings.num_rounds)
    if settings.strategy in FLOWERS:
        return make_flower_strategy(
            settings.strategy, settings.rival, roster, state, is_measured
        )
    if settings.strategy in RIVALS:
        return _make_rival(settings, roster, state, keep, is_measured)
    return FedEFM(
        settings.fedefm,
        roster,
        topology=topology,
        state=state,
        seed=settings.seed,
        keep=keep,
        is_measured=is_measured,
        annotated=annotated,
    )


def _make_rival(
    settings: RunSettings,
    roster: Mapping[str, int],
    state: FederationState | None,
    keep: Callable[[str, int, State], None] | None,
    is_measured: Callable[[int], bool],
) -> Strategy:
    model = assemble_model(settings.model.recipe(settings.seed))
    terms = Terms(
        settings=settings.rival,
        silos=tuple(sorted(roster)),
        steps=settings.train.steps,
        seed=settings.seed,
        local_names=normalisation_names(model),
    )
    kind = RIVALS[settings.strategy].method
    assert kind is not None, "Flower's own strategies are made elsewhere"
    method = kind(terms)
    return RivalStrategy(
        settings.strategy,
        method,
        roster,
        state=state,
        seed=settings.seed,
        keep=keep,
        is_measured=is_measured,
    )


def make_topology(settings: RunSettings, silos: list[str], theta: State) -> Topology:
    """Build who teaches whom.

    Args:
        settings: The run's settings.
        silos: Names of the hospitals that take part.
        theta: What travels; its size decides delays over a network.

    Returns:
        The topology.

    Raises:
        SettingsError: If design, network and hospitals do not fit together.
    """
    try:
        return _lay_out(settings, silos, theta)
    except ValueError as error:  # its text names settings, silos and no path
        raise SettingsError(str(error)) from None


def _lay_out(settings: RunSettings, silos: list[str], theta: State) -> Topology:
    fedefm = settings.fedefm
    size = sum(tensor.numel() * tensor.element_size() for tensor in theta.values())
    underlay = load_underlay(fedefm.underlay) if fedefm.underlay else None
    return build_topology(
        fedefm.topology,
        silos,
        underlay=underlay,
        seed=settings.seed,
        edges=_read_edges(fedefm.edges),
        delays=DelayModel(model_mbit=size * 8 / 1e6),
    )


def silo_positions(
    settings: RunSettings, topology: Topology
) -> dict[str, tuple[float, float]]:
    """Return where hospitals stand on the network's map.

    Args:
        settings: The run's settings.
        topology: Of the run.

    Returns:
        Latitude and longitude, degrees, of the silos whose place is known; none
        without a network.
    """
    if not settings.fedefm.underlay:
        return {}
    underlay = load_underlay(settings.fedefm.underlay)
    places = place_silos(topology.silos, underlay)
    return {
        silo: underlay.positions[node]
        for silo, node in places.items()
        if node in underlay.positions
    }


def load_earlier(settings: RunSettings, theta: State) -> FederationState | None:
    """Read the federation that a run goes on from.

    Args:
        settings: The run's settings; `resume` is the earlier run's folder, "" = none.
        theta: What the model of this run looks like.

    Returns:
        The earlier federation, or None for a new one.

    Raises:
        CheckpointError: If there is none, it is damaged, or it was trained with
            another model, strategy or seed.
    """
    if not settings.resume:
        return None
    try:
        state = load_federation(Path(settings.resume))
    except FileNotFoundError as error:
        raise CheckpointError(str(error)) from None
    if (state.strategy, state.seed) != (settings.strategy, settings.seed):
        raise CheckpointError(
            f"The earlier run has strategy '{state.strategy}' and seed {state.seed}, "
            f"this one '{settings.strategy}' and {settings.seed}. Resume with the "
            "earlier run's settings."
        )
    try:
        check_weights(state.theta, theta, source="the earlier run")
    except WeightsError as error:
        raise CheckpointError(str(error)) from None
    return state


def _read_edges(text: str) -> list[tuple[str, str]]:
    """Read "teacher>student, teacher>student"."""
    edges = []
    for part in filter(None, (one.strip() for one in text.split(","))):
        teacher, arrow, student = (one.strip() for one in part.partition(">"))
        if not (arrow and teacher and student):
            raise ValueError(
                "fedefm.edges wants 'teacher>student' with commas between, got "
                f"'{part}'."
            )
        edges.append((teacher, student))
    return edges
