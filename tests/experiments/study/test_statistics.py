"""Spreads, paired differences and reach, by hand arithmetic."""

import math

import pytest

from experiments.study.statistics import (
    Summary,
    best_of,
    crossed_difference,
    paired_difference,
    reach,
    summarise,
)


def test_the_deviation_is_the_samples() -> None:
    found = summarise([1.0, 2.0, 3.0, 6.0])
    assert found is not None
    assert (found.mean, found.count) == (3.0, 4)
    assert found.sd == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 3))


def test_one_seed_has_no_deviation_and_none_has_nothing() -> None:
    assert summarise([0.5]) == Summary(0.5, None, 1)
    assert summarise([]) is None


def test_what_is_no_number_is_left_out_and_not_counted() -> None:
    assert summarise([None, 2.0, math.nan, 4.0]) == Summary(3.0, math.sqrt(2), 2)
    assert summarise([None, math.inf]) is None


def test_differences_are_of_the_seeds_that_both_have() -> None:
    found = paired_difference({0: 0.5, 1: 0.7, 5: 0.9}, {1: 0.6, 0: 0.6, 7: 0.1})
    assert found is not None
    assert found.mean == pytest.approx(0.0)
    assert (found.wins, found.count) == (1, 2)


def test_rows_without_a_common_seed_have_no_difference() -> None:
    assert paired_difference({0: 0.5}, {1: 0.5}) is None
    assert paired_difference({0: None}, {0: 0.5}) is None


def test_two_seeds_claim_no_interval() -> None:
    found = paired_difference({0: 0.5, 1: 0.7}, {0: 0.4, 1: 0.4})
    assert found is not None
    assert (found.low, found.high, found.wins) == (None, None, 2)


def test_three_seeds_give_the_range_of_their_differences() -> None:
    found = paired_difference({0: 3.0, 1: 5.0, 2: 4.0}, {0: 1.0, 1: 1.0, 2: 1.0})
    assert found is not None
    assert found.mean == pytest.approx(3.0)
    assert (found.low, found.high) == (2.0, 4.0)


def test_more_seeds_narrow_the_interval_to_within_the_range() -> None:
    row = {seed: float(seed % 2) for seed in range(20)}
    found = paired_difference(row, dict.fromkeys(row, 0.0))
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert 0.1 < found.low < 0.4 < 0.6 < found.high < 0.9
    assert found == paired_difference(row, dict.fromkeys(row, 0.0))


def test_equal_differences_have_an_interval_of_one_point() -> None:
    found = paired_difference(dict.fromkeys(range(3), 2.0), dict.fromkeys(range(3), 1))
    assert found is not None
    assert (found.low, found.high) == (1.0, 1.0)


def test_over_sites_the_difference_is_that_of_their_mean() -> None:
    row = {seed: {"a": 1.0, "b": 3.0, "c": 5.0 + seed} for seed in range(3)}
    other = {seed: dict.fromkeys("abc", 1.0) for seed in range(3)}
    found = crossed_difference(row, other)
    assert found is not None
    # Sites differ by 0, 2 and 4, 5, 6: the mean of 2, 7/3 and 8/3.
    assert found.mean == pytest.approx(7 / 3)
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low < 1 < 4 < found.high <= 6
    assert (found.wins, found.count) == (3, 3)


def test_a_site_without_a_score_in_one_seed_is_left_out_in_all() -> None:
    row = {0: {"a": 1.0, "b": 9.0}, 1: {"a": 2.0, "b": None}}
    other = {0: {"a": 0.0, "b": 0.0}, 1: {"a": 0.0, "b": 0.0}}
    found = crossed_difference(row, other)
    assert found is not None
    assert (found.mean, found.low, found.high) == (1.5, None, None)


def test_without_common_sites_there_is_nothing_to_compare() -> None:
    assert crossed_difference({0: {"a": 1.0}}, {0: {"b": 1.0}}) is None
    assert crossed_difference({}, {0: {"b": 1.0}}) is None


def test_reach_is_the_first_point_that_comes_so_far() -> None:
    curve = [
        {"round": one, "dice": dice, "bytes": 10 * one, "steps": 2 * one}
        for one, dice in ((1, 0.1), (2, None), (3, 0.6), (4, 0.5), (5, 0.9))
    ]
    assert reach(curve, 0.6) == (3, 30, 6)
    assert reach(curve, 0.91) is None
    assert reach([], 0.1) is None


def test_the_best_has_the_highest_mean_and_ties_lie_within_its_deviation() -> None:
    means = {
        "a": Summary(0.70, 0.10, 3),
        "b": Summary(0.72, 0.03, 3),
        "c": Summary(0.68, 0.50, 3),
    }
    assert best_of(means) == ("b", ["a"])
    assert best_of({}) is None


def test_with_one_seed_only_equal_rows_are_ties() -> None:
    means = {
        "a": Summary(0.5, None, 1),
        "b": Summary(0.5, None, 1),
        "c": Summary(0.49, None, 1),
    }
    assert best_of(means) == ("a", ["b"])


def test_nothing_is_reached_where_the_upper_bound_learned_nothing() -> None:
    curve = [{"dice": 0.0, "round": 1, "bytes": 10, "steps": 2}]
    assert reach(curve, 0.0) is None
    assert reach([{**curve[0], "dice": 0.5}], 0.5) is not None
