"""How long a message takes from one silo to another.

The delay of Marfoq et al. (NeurIPS 2020, arXiv 2010.12229, eq. 3): what the sender
computes, the latency of the way, and the time the model needs through the narrowest of
three places,

    d(i, j) = compute + latency(i, j)
              + max(M / A(i, j), outdegree(i) M / upload, indegree(j) M / download).

As in their simulator the latency is 0.0085 ms per km and 4 ms at least, and the
available bandwidth A is one capacity for all links, shared over the links of the way.
A round of overseas training sends weights there and back and, in this project, through
the server: these delays compare designs, they do not foretell the time of a run.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from strategies.topologies.underlay import Underlay, find_routes

MS_PER_S = 1000.0

Matrix = NDArray[np.float64]
"""(silos, silos): row = sender, that is the teacher; column = receiver."""


@dataclass(frozen=True)
class DelayModel:
    """What is sent, and what carries it.

    Raises:
        ValueError: If a number is out of its range.
    """

    model_mbit: float = 1400.0  # > 0; 44 M parameters in float32
    compute_ms: float = 25.0  # >= 0, of one round in a silo
    capacity_mbit_s: float = 1000.0  # > 0, of a link
    upload_mbit_s: float = math.inf  # > 0, of a silo's access, shared by its students
    download_mbit_s: float = math.inf  # > 0, the same, shared by its teachers
    latency_ms_per_km: float = 0.0085  # >= 0
    latency_base_ms: float = 4.0  # >= 0
    link_capacity: bool = False  # use the capacities of the network where it has them

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("model_mbit", "capacity_mbit_s"):
            if not (0 < getattr(self, name) < math.inf):
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}.")
        for name in ("upload_mbit_s", "download_mbit_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}.")
        for name in ("compute_ms", "latency_ms_per_km", "latency_base_ms"):
            if not (0 <= getattr(self, name) < math.inf):
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}.")


class Connections(NamedTuple):
    """What the network gives every pair of silos; both symmetric."""

    latency_ms: Matrix
    transfer_ms: Matrix  # of one model over the way, access links not counted


def connect(underlay: Underlay, nodes: Sequence[str], model: DelayModel) -> Connections:
    """Work out latency and transfer time between every two silos.

    Args:
        underlay: The network.
        nodes: Where the silos stand, in their order.
        model: What is sent over which capacities.

    Returns:
        Both matrices; the diagonal has no meaning.
    """
    routes = find_routes(underlay, nodes)
    capacity = np.full(routes.distance_km.shape, model.capacity_mbit_s)
    if model.link_capacity:
        known = ~np.isnan(routes.capacity_mbit_s)
        capacity[known] = routes.capacity_mbit_s[known]
    bandwidth = capacity / np.maximum(routes.hops, 1)
    return Connections(
        latency_ms=model.latency_ms_per_km * routes.distance_km + model.latency_base_ms,
        transfer_ms=MS_PER_S * model.model_mbit / bandwidth,
    )


def lone_delays(connections: Connections, model: DelayModel) -> Matrix:
    """Return the delay of every edge, were it the only one; symmetric.

    Designs are chosen on these, before it is known how many edges share an access
    link.

    Args:
        connections: From `connect`.
        model: What is sent.

    Returns:
        Delays in ms; zero on the diagonal.
    """
    delays = _delays(connections, model, upload_share=1, download_share=1)
    np.fill_diagonal(delays, 0.0)
    return delays


def edge_delays(
    connections: Connections, model: DelayModel, edges: NDArray[np.bool_]
) -> Matrix:
    """Return the delays of a design, its access links shared between its edges.

    Args:
        connections: From `connect`.
        model: What is sent.
        edges: (silos, silos), from teacher (row) to student (column); no self loops.

    Returns:
        Delays in ms; minus infinity where there is no edge; on the diagonal what a
        silo computes, for it also waits for itself.
    """
    delays = _delays(
        connections,
        model,
        upload_share=edges.sum(axis=1)[:, None],
        download_share=edges.sum(axis=0)[None, :],
    )
    delays = np.where(edges, delays, -np.inf)
    np.fill_diagonal(delays, model.compute_ms)
    return delays


def _delays(
    connections: Connections,
    model: DelayModel,
    *,
    upload_share: NDArray[np.int64] | int,
    download_share: NDArray[np.int64] | int,
) -> Matrix:
    upload_ms = MS_PER_S * model.model_mbit / model.upload_mbit_s * upload_share
    download_ms = MS_PER_S * model.model_mbit / model.download_mbit_s * download_share
    access_ms = np.maximum(upload_ms, download_ms)
    transfer_ms = np.maximum(connections.transfer_ms, access_ms)
    total: Matrix = model.compute_ms + connections.latency_ms + transfer_ms
    return total
