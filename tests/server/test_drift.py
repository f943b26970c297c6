import math

import pytest

from server.drift import DriftWatch, warned_rounds


def warnings(*distances: float | None) -> list[int]:
    """Return at which distances, counted from 0, there was a warning."""
    watch = DriftWatch()
    return [place for place, one in enumerate(distances) if watch.note(one)]


def test_three_rounds_of_growth_are_warned_of_in_the_third() -> None:
    assert warnings(1.0, 1.1, 1.21, 1.34) == [3]
    assert warnings(1.0, 1.1, 1.21) == []


def test_five_percent_is_not_yet_growth() -> None:
    assert warnings(1.0, 1.05, 1.11, 1.18, 1.25) == [4]  # the first step does not count
    assert warnings(1.0, 1.04, 1.08, 1.12, 1.16) == []


def test_a_round_without_growth_begins_the_count_anew() -> None:
    assert warnings(1.0, 1.1, 1.2, 1.2, 1.4, 1.6) == []
    assert warnings(1.0, 1.1, 1.2, 1.2, 1.4, 1.6, 1.8) == [6]


def test_growth_below_what_there_was_is_a_wave() -> None:
    assert warnings(1, 0.5, 0.6, 0.7, 0.8) == []
    assert warnings(1, 0.5, 0.6, 0.7, 0.8, 0.9, 1.1) == [6]


def test_it_is_told_once_until_the_distance_falls() -> None:
    assert warnings(1, 2, 3, 4, 5, 6, 7, 8) == [3]
    assert warnings(1, 2, 3, 4, 4, 5, 6, 7) == [3]  # it stood still, it did not fall
    assert warnings(1, 2, 3, 4, 3.9, 5, 6, 7) == [3, 7]


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_a_round_without_a_distance_is_passed_over(missing: float | None) -> None:
    assert warnings(1, 2, missing, 3, missing, 4) == [5]
    assert warnings(missing, missing) == []


def test_rounding_is_no_growth() -> None:
    assert warnings(0.0, 1e-9, 1e-8, 1e-7, 9e-7) == []
    assert warnings(0.0, 1e-3, 1e-2, 1e-1) == [3]


def test_the_warning_says_how_far_and_what_to_do() -> None:
    watch = DriftWatch()
    [text] = filter(None, map(watch.note, [0.01, 0.02, 0.04, 0.08]))
    assert "more than 5% in each of 3 rounds, to 0.08" in text
    assert "fedefm.feedback" in text
    assert watch.growing_rounds == 3


def test_rounds_of_a_series_are_named_by_their_number() -> None:
    assert warned_rounds([(0, 1.0), (2, 2.0), (4, 3.0), (5, 4.0)]) == [5]
