import pytest
import torch

from strategies.accumulation import Accumulator, State, accumulate


def test_two_sites_meet_in_the_middle() -> None:
    states = {
        "a": {"w": torch.tensor([1.0, 2.0]), "b": torch.tensor([[4.0]])},
        "b": {"w": torch.tensor([3.0, 6.0]), "b": torch.tensor([[0.0]])},
    }
    theta = accumulate(states)
    assert theta["w"].tolist() == [(1 + 3) / 2, (2 + 6) / 2]
    assert theta["b"].tolist() == [[(4 + 0) / 2]]


def test_the_sum_is_normalised_by_who_took_part() -> None:
    states = {name: {"w": torch.tensor([6.0])} for name in "abc"}
    assert accumulate(states)["w"].item() == 6
    states.pop("b")
    assert accumulate(states)["w"].item() == 6


def test_the_order_of_sites_changes_no_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    states = {name: {"w": torch.randn(100, generator=generator)} for name in "abcde"}
    backwards = dict(reversed(states.items()))
    assert torch.equal(accumulate(states)["w"], accumulate(backwards)["w"])


def test_number_types_are_kept() -> None:
    states = {"a": {"w": torch.ones(2, dtype=torch.float16)}}
    assert accumulate(states)["w"].dtype == torch.float16


def test_nobody_cannot_be_accumulated() -> None:
    with pytest.raises(ValueError, match="At least one site"):
        accumulate({})


def consensus_distance(states: dict[str, State]) -> float:
    accumulator = Accumulator()
    for state in states.values():
        accumulator.add(state)
    return accumulator.consensus_distance()


def test_equal_sites_have_no_distance() -> None:
    states = {name: {"w": torch.tensor([3.0, 4.0])} for name in "ab"}
    assert consensus_distance(states) == 0


def test_the_distance_is_relative_to_the_mean() -> None:
    # The mean is (3, 4) with norm 5; both sites lie 1 from it.
    states = {
        "a": {"w": torch.tensor([2.0, 4.0])},
        "b": {"w": torch.tensor([4.0, 4.0])},
    }
    assert consensus_distance(states) == pytest.approx(1 / 5)
