"""Who holds what: the definition of unseen data, and three ways to reach it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.data.errors import DataError
from clients.partition import (
    Partition,
    by_site_partition,
    dirichlet_partition,
    num_types_needed,
    unseen_partition,
)

FOUR = ("human", "animal", "phantom", "simulation")
SILOS = st.integers(1, 20)
PERCENT = st.floats(0, 100)
SEEDS = st.integers(0, 2**31)


def names(count: int) -> list[str]:
    return [f"random-{number}" for number in range(count)]


def unseen_in_words(partition: Partition) -> list[float]:
    """Return the definition of methods/fedefm.md, section 5, on sets of names."""
    held = [
        {name for name, count in zip(partition.types, row, strict=True) if count}
        for row in partition.patients.tolist()
    ]
    found = []
    for number, mine in enumerate(held):
        others = set().union(*held[:number], *held[number + 1 :])
        found.append(100 * len(mine - others) / len(mine))
    return found


def test_the_illustration_of_the_paper_is_50_percent_by_type_and_74_by_frames() -> None:
    types = ("human", "animal", "simulation", "phantom")
    patients = np.array([[736, 264, 0, 0], [0, 658, 342, 0], [0, 0, 0, 1000]])
    found = Partition(types, patients)
    assert found.unseen_by_type().tolist() == [50, 50, 100]
    assert found.unseen_by_frames() == pytest.approx([73.6, 34.2, 100])
    assert found.own().sum() == 3


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 40), silos=SILOS, unseen=PERCENT, seed=SEEDS)
def test_every_silo_has_the_same_share_and_all_its_patients(
    count: int, silos: int, unseen: float, seed: int
) -> None:
    if unseen == 100 and count < silos:
        return
    found = unseen_partition(
        names(count), silos, unseen, patients_per_silo=24, seed=seed
    )
    assert found.patients.shape == (silos, count)
    assert found.patients.sum(axis=1).tolist() == [24] * silos
    shares = found.unseen_by_type()
    assert shares.tolist() == pytest.approx(unseen_in_words(found))
    assert len(set(shares.tolist())) == 1
    sizes = found.held().sum(axis=1)
    assert len(set(sizes.tolist())) == 1
    shared = found.held().all(axis=0)
    assert np.array_equal(found.held() & ~shared, found.own() & ~shared)
    if silos > 1:
        assert 0 <= shares[0] <= 100
        assert found.own()[:, shared].sum() == 0


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 14), silos=st.integers(2, 6), unseen=PERCENT)
def test_no_other_choice_of_own_and_shared_types_comes_nearer(
    count: int, silos: int, unseen: float
) -> None:
    if unseen == 100 and count < silos:
        return
    found = unseen_partition(names(count), silos, unseen, patients_per_silo=24, seed=0)
    reached = abs(found.unseen_by_type()[0] - unseen)
    for own in range(count + 1):
        for shared in range(count + 1):
            if own + shared and silos * own + shared <= count:
                assert reached <= abs(100 * own / (own + shared) - unseen) + 1e-9


@pytest.mark.parametrize("silos", [2, 4, 11, 20])
def test_100_percent_means_disjoint_silos_and_0_that_all_hold_all(silos: int) -> None:
    apart = unseen_partition(names(silos), silos, 100, patients_per_silo=9, seed=3)
    assert apart.held().sum(axis=0).tolist() == [1] * silos
    alike = unseen_partition(names(silos), silos, 0, patients_per_silo=40, seed=3)
    assert alike.held().all()


def test_100_percent_with_too_few_types_says_how_many_are_needed() -> None:
    with pytest.raises(DataError, match=r"at least 11 data types for 11 silos, got 6"):
        unseen_partition(names(6), 11, 100, patients_per_silo=24, seed=0)


def test_four_silos_need_a_fifth_type_to_be_half_unseen() -> None:
    assert num_types_needed(4, 50, patients_per_silo=24) == 5
    found = unseen_partition((*FOUR, "random-1"), 4, 50, patients_per_silo=24, seed=0)
    assert found.unseen_by_type().tolist() == [50] * 4
    assert sorted(found.held().sum(axis=0).tolist()) == [1, 1, 1, 1, 4]


@settings(max_examples=50, deadline=None)
@given(silos=SILOS, unseen=PERCENT, patients=st.integers(3, 60))
def test_the_types_that_are_needed_suffice_and_one_less_does_not(
    silos: int, unseen: float, patients: int
) -> None:
    needed = num_types_needed(silos, unseen, patients_per_silo=patients)

    def miss(count: int) -> float:
        found = unseen_partition(
            names(count), silos, unseen, patients_per_silo=patients, seed=0
        )
        return abs(found.unseen_by_type()[0] - unseen)

    reached = miss(needed)
    assert reached <= 2.5 or patients < 40 or silos == 1
    if needed > 1 and not (unseen == 100 and needed - 1 < silos):
        assert miss(needed - 1) > max(2.5, reached)


def test_a_lone_silo_shares_with_nobody() -> None:
    found = unseen_partition(FOUR, 1, 0, patients_per_silo=8, seed=0)
    assert found.patients.tolist() == [[2, 2, 2, 2]]
    assert found.unseen_by_type().tolist() == [100]


def test_the_seed_decides_which_types_are_shared() -> None:
    def held(seed: int) -> list[list[bool]]:
        return (
            unseen_partition(names(9), 4, 50, patients_per_silo=6, seed=seed)
            .held()
            .tolist()
        )

    assert held(1) == held(1)
    assert len({str(held(seed)) for seed in range(6)}) > 1


def test_patients_left_over_go_to_different_types() -> None:
    found = unseen_partition(names(2), 2, 0, patients_per_silo=3, seed=0)
    assert sorted(found.patients.tolist()) == [[1, 2], [2, 1]]


@pytest.mark.parametrize("unseen", [-1, 100.5, math.nan])
def test_a_percentage_outside_of_0_to_100_is_refused(unseen: float) -> None:
    with pytest.raises(DataError, match="0 to 100 percent"):
        unseen_partition(FOUR, 2, unseen, patients_per_silo=3, seed=0)


@settings(max_examples=50, deadline=None)
@given(
    count=st.integers(1, 12),
    silos=SILOS,
    alpha=st.floats(1e-3, 1e6),
    patients=st.integers(1, 50),
    seed=SEEDS,
)
def test_a_dirichlet_mixture_has_whole_patients_and_silos_of_one_size(
    count: int, silos: int, alpha: float, patients: int, seed: int
) -> None:
    found = dirichlet_partition(
        names(count), silos, alpha, patients_per_silo=patients, seed=seed
    )
    assert found.patients.sum(axis=1).tolist() == [patients] * silos
    assert found.patients.min() >= 0
    assert found.unseen_by_type().tolist() == pytest.approx(unseen_in_words(found))


def test_a_small_alpha_gives_silos_of_one_type_and_a_large_one_equal_silos() -> None:
    def types_held(alpha: float) -> float:
        found = dirichlet_partition(
            FOUR, 200, alpha, patients_per_silo=40, seed=5
        ).held()
        return float(found.sum(axis=1).mean())

    assert types_held(0.01) < 1.25
    assert types_held(100) > 3.99


def test_dirichlet_shares_have_their_theoretical_mean_and_spread() -> None:
    # Of a Dirichlet with K equal parameters a: mean 1/K, variance (K-1)/(K^2 (Ka+1)).
    found = dirichlet_partition(FOUR, 4000, 0.5, patients_per_silo=10_000, seed=2)
    shares = found.patients / 10_000
    assert shares.mean(axis=0) == pytest.approx([0.25] * 4, abs=0.015)
    assert shares.var(axis=0) == pytest.approx([3 / 16 / 3] * 4, rel=0.08)


@pytest.mark.parametrize("alpha", [0, -1, 1e-4, 1e7, math.inf, math.nan])
def test_an_alpha_that_makes_no_mixture_is_refused(alpha: float) -> None:
    with pytest.raises(DataError, match="alpha must be"):
        dirichlet_partition(FOUR, 2, alpha, patients_per_silo=3, seed=0)


def test_by_site_gives_each_silo_its_own_type() -> None:
    found = by_site_partition(FOUR, 4, patients_per_silo=7)
    assert np.array_equal(found.patients, 7 * np.eye(4, dtype=np.int64))
    assert found.unseen_by_type().tolist() == [100] * 4


def test_by_site_with_more_silos_than_types_several_hold_one() -> None:
    found = by_site_partition(FOUR[:3], 5, patients_per_silo=2)
    assert found.patients.argmax(axis=1).tolist() == [0, 1, 2, 0, 1]
    assert found.unseen_by_type().tolist() == [0, 0, 100, 0, 0]


def test_by_site_with_fewer_silos_than_types_no_type_is_lost() -> None:
    found = by_site_partition(FOUR, 3, patients_per_silo=5)
    assert found.patients.tolist() == [[3, 0, 0, 2], [0, 5, 0, 0], [0, 0, 5, 0]]
    with pytest.raises(DataError, match="need at least 4 patients per silo, got 3"):
        by_site_partition(FOUR, 1, patients_per_silo=3)


@pytest.mark.parametrize(
    ("types", "silos", "patients", "message"),
    [
        ((), 2, 3, "one or more different names"),
        (("human", "human"), 2, 3, "one or more different names"),
        (FOUR, 0, 3, "number of silos, got 0"),
        (FOUR, 2, 0, "number of patients per silo, got 0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    types: tuple[str, ...], silos: int, patients: int, message: str
) -> None:
    for build in (
        lambda: unseen_partition(types, silos, 50, patients_per_silo=patients, seed=0),
        lambda: dirichlet_partition(
            types, silos, 0.5, patients_per_silo=patients, seed=0
        ),
        lambda: by_site_partition(types, silos, patients_per_silo=patients),
    ):
        with pytest.raises(DataError, match=message):
            build()


@pytest.mark.parametrize(
    "patients", [[[1, 2]], [[0, 0, 0, 0]], [[2, -1, 0, 0]], [1, 2, 3, 4]]
)
def test_a_partition_of_impossible_numbers_is_refused(patients: list) -> None:
    with pytest.raises(DataError):
        Partition(FOUR, np.array(patients))
