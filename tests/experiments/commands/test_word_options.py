"""Words and numbers with commas between, read the same by every command."""

import pytest

from experiments.commands.word_options import choose, parse_numbers, words
from strategies.settings import SettingsError


def test_words_lose_spaces_and_empty_ones() -> None:
    assert words(" random, foundation,,") == ("random", "foundation")
    assert words(" , ") == ()


def test_numbers_are_read_in_their_order() -> None:
    assert parse_numbers("--shots", "10, 1,5") == (10, 1, 5)
    assert parse_numbers("--seeds", "-1") == (-1,)
    assert parse_numbers("--silos", "1", at_least=1) == (1,)


@pytest.mark.parametrize("text", ["", "1,", "1,x", "1.5", "0,2"])
def test_what_is_no_number_or_too_small_is_told(text: str) -> None:
    wanted = f"--silos wants whole numbers of at least 1 .*, got '{text}'"
    with pytest.raises(SettingsError, match=wanted):
        parse_numbers("--silos", text, at_least=1)


def test_a_list_without_a_limit_says_none() -> None:
    with pytest.raises(SettingsError, match="whole numbers with commas between"):
        parse_numbers("--seeds", "a")


def test_all_or_some_of_what_is_allowed() -> None:
    assert choose("all", ("a", "b"), "--names") == ["a", "b"]
    assert choose("b, a", ("a", "b"), "--names") == ["b", "a"]
    for text in ("", "c", "a,c"):
        with pytest.raises(SettingsError, match="--names must be all or some of a, b"):
            choose(text, ("a", "b"), "--names")
