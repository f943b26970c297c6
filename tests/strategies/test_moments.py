"""What AdamW remembers, packed, unpacked and looked at before it is used."""

import pytest
import torch

from models.weights import WeightsError
from strategies.accumulation import State
from strategies.moments import Moments, check_moments

MODEL = {"w": torch.zeros(2), "running_mean": torch.zeros(3)}


def good() -> State:
    first, second = torch.tensor([-1.0, 2.0]), torch.tensor([0.0, 4.0])
    return Moments(7, {"w": first}, {"w": second}).to_state()


def test_moments_are_read_as_they_were_written() -> None:
    found = Moments.from_state(good())
    assert found.steps == 7
    assert found.first["w"].tolist() == [-1.0, 2.0]
    assert found.second["w"].tolist() == [0.0, 4.0]
    check_moments(good(), MODEL, source="silo")
    none = Moments().to_state()
    check_moments(none, MODEL, source="silo")
    assert Moments.from_state(none) == Moments()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"steps": torch.tensor([1.5])}, "a whole number"),
        ({"steps": torch.tensor([-1.0])}, "a whole number"),
        ({"steps": torch.tensor([torch.inf])}, "a whole number"),
        ({"steps": torch.tensor([1.0, 2.0])}, "a whole number"),
        ({"first.v": torch.zeros(2)}, "a first and a second"),
        ({"third.w": torch.zeros(2)}, "and no other"),
        ({"first.v": torch.zeros(2), "second.v": torch.zeros(2)}, "trains no v"),
        ({"second.w": torch.tensor([0.0, -1e-9])}, "negative"),
        ({"second.w": torch.tensor([0.0, torch.nan])}, "silo"),
        ({"first.w": torch.zeros(3)}, "silo"),
    ],
)
def test_moments_that_adamw_cannot_have_are_refused(changes: State, told: str) -> None:
    with pytest.raises(WeightsError, match=told):
        check_moments({**good(), **changes}, MODEL, source="silo")


def test_without_their_number_of_steps_moments_are_refused() -> None:
    state = good()
    del state["steps"]
    with pytest.raises(WeightsError, match="from silo cannot be used"):
        check_moments(state, MODEL, source="silo")
