"""Which silo holds how many patients of which type of data.

The unseen-data setting of FedEFM (arXiv 2501.16992): "unseen data percentage" is the
share of a silo's data types that no other silo holds; 100 % means that no two silos
have a type in common. It counts **types**. Counted by frames it may differ: in the
paper's illustration the first silo has 50 % of unseen types and 73.6 % of unseen
frames. How the paper divided its own data is not published, and at 100 % its table and
its ablation disagree (FedEFM contradiction 2: 98.2 and 84.9 % accuracy), so that no
published number is a target here. Two more schemes stand
beside it: a type per silo, and the Dirichlet mixtures of Hsu et al., "Measuring the
Effects of Non-Identical Data Distribution" (arXiv 1909.06335, section 3).

Pure arithmetic on names and counts: no file is read, no frame made.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.data.errors import DataError

TOLERANCE = 2.5
"""Percentage points by which a reached unseen share may miss the wanted one before
more types are worth it."""
MOST_TYPES = 50
"""Of a silo when types are counted: enough to come within one point of any share."""


@dataclass(frozen=True, eq=False)
class Partition:
    """Who holds what.

    Attributes:
        types: Names of the data types, all different.
        patients: int64 (silos, types), >= 0; every silo has at least one patient. All
            patients have the same number of frames.
        wanted_unseen: Percent that was aimed at; None if the scheme has no such aim.

    Raises:
        DataError: If the numbers are not so.
    """

    types: tuple[str, ...]
    patients: NDArray[np.int64]
    wanted_unseen: float | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that are not of these types, and silos without patients."""
        if self.patients.ndim != 2 or self.patients.shape[1] != len(self.types):
            raise DataError(
                f"patients must be (silos, {len(self.types)}), got "
                f"{self.patients.shape}."
            )
        if self.patients.min() < 0 or self.patients.sum(axis=1).min() < 1:
            raise DataError("Every silo needs at least one patient, and none below 0.")

    def held(self) -> NDArray[np.bool_]:
        """Return (silos, types): does the silo have a patient of this type?"""
        return self.patients > 0

    def own(self) -> NDArray[np.bool_]:
        """Return (silos, types): does this silo hold the type, and no other silo?"""
        held = self.held()
        return held & (held.sum(axis=0) == 1)

    def unheld(self) -> tuple[str, ...]:
        """Return the types that no silo holds."""
        held = self.held().any(axis=0)
        return tuple(
            kind for kind, is_held in zip(self.types, held, strict=True) if not is_held
        )

    def unseen_by_type(self) -> NDArray[np.float64]:
        """Return per silo the percentage of its types that no other silo holds."""
        return 100 * self.own().sum(axis=1) / self.held().sum(axis=1)

    def unseen_by_frames(self) -> NDArray[np.float64]:
        """Return per silo the percentage of its frames whose type no other holds."""
        own = np.where(self.own(), self.patients, 0)
        return 100 * own.sum(axis=1) / self.patients.sum(axis=1)


def unseen_partition(
    types: Sequence[str],
    num_silos: int,
    unseen: float,
    *,
    patients_per_silo: int,
    seed: int,
) -> Partition:
    """Give every silo some types that all have and some that it alone has.

    All silos get the same numbers: s shared and e own types, so that each one's unseen
    share is 100 e / (e + s) percent. Of all pairs for which the types suffice (N e + s
    types for N silos), the nearest to the target is taken; of equally near ones that
    with most types. Types that are left over are held by nobody.

    Args:
        types: Names of the data types, all different.
        num_silos: N, >= 1.
        unseen: Target in percent of types, 0 to 100. 0 = all silos hold all types, 100
            = no two silos have a type in common. A lone silo always has 100.
        patients_per_silo: Patients of each silo, spread evenly over its types.
        seed: Decides which types are shared and which silo owns which.

    Returns:
        The partition; `unseen_by_type` says what was reached.

    Raises:
        DataError: If the arguments make no sense, or for 100 % with fewer types than
            silos.
    """
    _check(types, num_silos, patients_per_silo)
    if not 0 <= unseen <= 100:
        raise DataError(f"The unseen share must be 0 to 100 percent, got {unseen:g}.")
    if unseen == 100 and len(types) < num_silos:
        raise DataError(
            f"No type in common (100 % unseen) needs at least {num_silos} data types "
            f"for {num_silos} silos, got {len(types)}. Add types, such as random "
            "simulated domains (random-1, random-2, …), or take fewer silos."
        )
    most_types = min(len(types), patients_per_silo)
    pairs = _possible_pairs(num_silos, most_types)
    _, _, own, shared = min(
        (_miss(own, shared, unseen), -(num_silos * own + shared), own, shared)
        for own, shared in pairs
        if num_silos * own + shared <= len(types)
    )
    order = np.random.default_rng(seed).permutation(len(types))
    patients = np.zeros((num_silos, len(types)), np.int64)
    for silo in range(num_silos):
        first = shared + silo * own
        held = np.concatenate([order[:shared], order[first : first + own]])
        patients[silo, held] = _spread(patients_per_silo, len(held), silo)
    return Partition(tuple(types), patients, float(unseen))


def num_types_needed(
    num_silos: int,
    unseen: float,
    *,
    patients_per_silo: int,
    tolerance: float = TOLERANCE,
) -> int:
    """Say how many data types an unseen share needs.

    Args:
        num_silos: N, >= 1.
        unseen: Target in percent of types, 0 to 100.
        patients_per_silo: A silo cannot hold more types than patients, nor, here,
            more than 50.
        tolerance: Percentage points by which the target may be missed, >= 0.

    Returns:
        The smallest number of types with which `unseen_partition` comes so near; if
        none does, the smallest with which it comes nearest.
    """
    pairs = _possible_pairs(num_silos, min(patients_per_silo, MOST_TYPES))
    misses = [_miss(own, shared, unseen) for own, shared in pairs]
    enough = max(tolerance, min(misses))
    return min(
        num_silos * own + shared
        for (own, shared), miss in zip(pairs, misses, strict=True)
        if miss <= enough
    )


def dirichlet_partition(
    types: Sequence[str],
    num_silos: int,
    alpha: float,
    *,
    patients_per_silo: int,
    seed: int,
) -> Partition:
    """Give every silo a random mixture of types, q ~ Dirichlet(alpha).

    Hsu et al. (arXiv 1909.06335, section 3) with a uniform prior over K types: all K
    parameters are alpha, and all silos have one size. A small alpha gives silos of
    nearly one type, a large one silos that are all alike.

    Args:
        types: Names of the K data types, all different.
        num_silos: >= 1.
        alpha: Of every type, 0.001 to 1,000,000: the paper's concentration times its
            prior, 1 / K.
        patients_per_silo: Patients of each silo; q times this many is rounded to whole
            patients by largest remainders.
        seed: Of the mixtures.

    Returns:
        The partition; there may be types that nobody holds.

    Raises:
        DataError: If the arguments make no sense.
    """
    _check(types, num_silos, patients_per_silo)
    if not 1e-3 <= alpha <= 1e6:
        raise DataError(f"alpha must be 0.001 to 1,000,000, got {alpha:g}.")
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(len(types), alpha), size=num_silos)
    patients = np.array([_round(share, patients_per_silo) for share in shares])
    return Partition(tuple(types), patients)


def by_site_partition(
    types: Sequence[str], num_silos: int, *, patients_per_silo: int
) -> Partition:
    """Give every type its own silo or silos, as hospitals differ by nature.

    Args:
        types: Names of the data types, all different.
        num_silos: >= 1. With more silos than types several hold one type; with fewer
            some hold several, so that every type is held.
        patients_per_silo: Patients of each silo, spread evenly over its types.

    Returns:
        The partition.

    Raises:
        DataError: If the arguments make no sense.
    """
    _check(types, num_silos, patients_per_silo)
    places = np.arange(max(num_silos, len(types)))
    held = np.zeros((num_silos, len(types)), bool)
    held[places % num_silos, places % len(types)] = True
    if held.sum(axis=1).max() > patients_per_silo:
        raise DataError(
            f"{len(types)} types in {num_silos} silos need at least "
            f"{held.sum(axis=1).max()} patients per silo, got {patients_per_silo}."
        )
    patients = np.zeros(held.shape, np.int64)
    for silo, row in enumerate(held):
        patients[silo, row] = _spread(patients_per_silo, int(row.sum()), silo)
    return Partition(tuple(types), patients)


def _check(types: Sequence[str], num_silos: int, patients_per_silo: int) -> None:
    if not types or len(set(types)) < len(types):
        raise DataError("The data types must be one or more different names.")
    for name, value in (("silos", num_silos), ("patients per silo", patients_per_silo)):
        if value < 1:
            raise DataError(f"At least 1 is needed as number of {name}, got {value}.")


def _possible_pairs(num_silos: int, most_types: int) -> list[tuple[int, int]]:
    """Return all (own, shared) with at most so many types in a silo."""
    return [
        (own, shared)
        for own in range(most_types + 1)
        # What a lone silo holds is shared with nobody.
        for shared in (range(most_types - own + 1) if num_silos > 1 else (0,))
        if own + shared > 0
    ]


def _miss(own: int, shared: int, unseen: float) -> float:
    return abs(100 * own / (own + shared) - unseen)


def _spread(count: int, places: int, start: int) -> NDArray[np.int64]:
    """Spread patients evenly; silos give the ones left over to different types."""
    even, over = divmod(count, places)
    return even + (np.roll(np.arange(places) < over, start)).astype(np.int64)


def _round(shares: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return whole numbers with the sum `count`, by largest remainders."""
    exact = shares * count
    whole = np.floor(exact).astype(np.int64)
    short = count - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:short]] += 1
    return whole
