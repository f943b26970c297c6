"""Ticks, units and texts of a report."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from experiments.report.axes import round_ticks, shortened, tick_texts, ticks
from experiments.report.formats import data_size, duration, moment, number, short
from experiments.report.heat_chart import whole_tenths
from experiments.report.markup import Cell, table, tag
from experiments.report.plain_text import cleaned, without_paths


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cannot open /home/jane/x.dcm", "cannot open [path]"),
        ("cannot open '/home/Jane Doe/x.dcm'.", "cannot open [path]."),
        ("~/runs/a failed", "[path] failed"),
        (r"C:\Users\jane\x.dcm is bad", "[path] is bad"),
        (r"\\server\share\x", "[path]"),
        ("file:///srv/x", "[path]"),
        ("/root", "[path]"),
        ("val/dice and/or 3/4 of 1/2", "val/dice and/or 3/4 of 1/2"),
        ("a </script> b", "a </script> b"),
        ("teacher → student 0.5 / 0.6", "teacher → student 0.5 / 0.6"),
        ("rounds: 5, sites: 4", "rounds: 5, sites: 4"),
    ],
)
def test_paths_are_taken_out_and_nothing_else(text: str, expected: str) -> None:
    assert without_paths(text) == expected


def test_cleaning_reaches_keys_and_lists_and_replaces_nan() -> None:
    found = cleaned({"/a/b": [math.nan, {"x": "~/c"}], "n": 3})
    assert found == {"[path]": [None, {"x": "[path]"}], "n": 3}


@given(low=st.floats(-1e6, 1e6), span=st.floats(0, 1e6), count=st.integers(2, 9))
def test_ticks_enclose_the_range_in_round_steps(
    low: float, span: float, count: int
) -> None:
    found = ticks(low, low + span, count)
    slack = 1e-6 * max(1.0, abs(low), span)
    assert found[0] <= low + slack
    assert found[-1] >= low + span - slack
    steps = [b - a for a, b in pairwise(found)]
    assert 1 <= len(steps) <= 2 * count + 2
    mantissa = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-6)
    assert min(abs(mantissa - one) for one in (1, 2, 5, 10)) < 1e-2


def test_a_share_has_ticks_from_nought_to_one() -> None:
    assert tick_texts(ticks(0, 1)) == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]


@pytest.mark.parametrize("last", [0, 1, 6, 7, 20, 61, 200, 999])
def test_few_rounds_are_named_and_all_of_them_exist(last: int) -> None:
    rounds = list(range(last + 1))
    found = round_ticks(rounds)
    assert 1 <= len(found) <= 11
    assert set(found) <= set(rounds)


def test_long_names_keep_their_number() -> None:
    assert shortened("hospital-of-somewhere-12", 12) == "hospita…e-12"
    assert shortened("bench-lab", 9) == "bench-lab"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (data_size(0), "0 B"),
        (data_size(999), "999 B"),
        (data_size(51_897_344), "51.9 MB"),
        (data_size(6.5e9), "6.5 GB"),
        (data_size(None), "–"),
        (duration(2.5), "2.5 s"),
        (duration(218), "3 min 38 s"),
        (duration(7500), "2 h 5 min"),
        (moment(1795270184.5), "2026-11-21 14:09 UTC"),
        (moment(1e300), "–"),
        (number(0.67649), "0.676"),
        (number(None), "–"),
        (short(12.0), "12"),
        (short(12345.6), "12,346"),
        (short(0.61), "0.610"),
        (short(27.25), "27.2"),
    ],
)
def test_numbers_are_written_for_people(found: str, expected: str) -> None:
    assert found == expected


def test_heat_covers_whole_tenths_around_the_numbers() -> None:
    assert whole_tenths([0.93, None, 0.95]) == pytest.approx((0.9, 1.0))
    assert whole_tenths([0.5]) == pytest.approx((0.5, 0.6))
    assert whole_tenths([None]) == (0.0, 1.0)


def test_texts_and_attributes_are_escaped_and_markup_is_not() -> None:
    inner = tag("b", "1 < 2")
    found = tag("p", inner, class_='"x"')
    assert found == Markup('<p class="&#34;x&#34;"><b>1 &lt; 2</b></p>')


def test_a_table_scrolls_in_a_box_and_marks_its_heads() -> None:
    found = table(["a", "b"], [["<row>", Cell("1", heat=0.9)]], caption="All & more")
    assert '<p class="caption">All &amp; more</p><div class="scroll"' in found
    assert '<th scope="row">&lt;row&gt;</th>' in found
    assert '<td class="hot" style="--heat:90%">1</td>' in found
