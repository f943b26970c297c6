"""Who teaches whom.

A topology gives every silo i its in-neighbours N(i): the hosts that train a copy of
i's model and send it back as a teacher (FedEFM, arXiv 2501.16992, eq. 2). Silos are
known by name and always handled in sorted order.
"""

from collections.abc import Callable, Sequence

Neighbours = dict[str, tuple[str, ...]]
"""For every silo, sorted, the hosts that teach it, sorted."""


def ring(silos: Sequence[str]) -> Neighbours:
    """Let every silo learn from the one before it, the first from the last.

    Args:
        silos: Distinct names.

    Returns:
        One teacher a silo; none for a lone silo.
    """
    ordered = sorted(silos)
    if len(ordered) < 2:
        return dict.fromkeys(ordered, ())
    return {silo: (ordered[index - 1],) for index, silo in enumerate(ordered)}


def complete(silos: Sequence[str]) -> Neighbours:
    """Let every silo learn from all others.

    Args:
        silos: Distinct names.

    Returns:
        All other silos as teachers of each.
    """
    ordered = sorted(silos)
    return {
        silo: tuple(other for other in ordered if other != silo) for silo in ordered
    }


TOPOLOGIES: dict[str, Callable[[Sequence[str]], Neighbours]] = {
    "ring": ring,
    "complete": complete,
}
