"""What a training changed leaves clipped and noisy, if the site says so."""

import math

import pytest
import torch
from torch import Tensor

from clients.data.errors import DataError
from clients.site_file import Privacy
from clients.site_privacy import guard_change

State = dict[str, Tensor]


@pytest.fixture
def received() -> State:
    return {
        "conv.weight": torch.zeros(3, 4),
        "conv.bias": torch.ones(5),
        "norm.running_var": torch.full((6,), 1e-3),
        "norm.num_batches_tracked": torch.tensor(4),
    }


@pytest.fixture
def trained(received: State) -> State:
    """Moved by 2 in each of 9 numbers of two tensors: an L2 norm of 6."""
    moved = {name: tensor.clone() for name, tensor in received.items()}
    moved["conv.weight"].view(-1)[:4] += 2
    moved["conv.bias"] -= 2
    moved["norm.num_batches_tracked"] += 1
    return moved


def change(one: State, other: State) -> Tensor:
    names = [name for name in one if one[name].is_floating_point()]
    return torch.cat([(one[name] - other[name]).reshape(-1) for name in names])


def test_without_a_norm_nothing_is_touched(trained: State, received: State) -> None:
    guarded = guard_change(trained, received, Privacy())
    assert all(guarded[name] is trained[name] for name in trained)


def test_a_change_within_the_norm_leaves_bit_for_bit(
    trained: State, received: State
) -> None:
    guarded = guard_change(trained, received, Privacy(clip_norm=6.001))
    assert all(guarded[name] is trained[name] for name in trained)


def test_a_larger_change_is_shortened_to_the_norm_and_keeps_its_direction(
    trained: State, received: State
) -> None:
    guarded = guard_change(trained, received, Privacy(clip_norm=1.5))
    kept = change(guarded, received)
    assert kept.norm().item() == pytest.approx(1.5, rel=1e-5)
    torch.testing.assert_close(kept, change(trained, received) * 1.5 / 6)


def test_counters_are_no_weights(trained: State, received: State) -> None:
    guarded = guard_change(trained, received, Privacy(0.1, 5.0))
    assert guarded["norm.num_batches_tracked"].item() == 5
    assert guarded.keys() == trained.keys()


def test_neither_what_was_trained_nor_what_came_is_changed_in_place(
    trained: State, received: State
) -> None:
    before = {name: tensor.clone() for name, tensor in trained.items()}
    guard_change(trained, received, Privacy(1.0, 1.0))
    assert all(torch.equal(trained[name], before[name]) for name in trained)
    assert received["conv.bias"].eq(1).all()


def test_noise_has_the_standard_deviation_that_the_site_wrote() -> None:
    still = {"weight": torch.zeros(200_000)}
    noise = guard_change(still, still, Privacy(clip_norm=2.0, noise_multiplier=0.25))
    found = noise["weight"]
    # The standard error of the standard deviation is 0.5 / sqrt(2 n) = 0.0008.
    assert found.std().item() == pytest.approx(0.5, abs=0.005)
    assert abs(found.mean().item()) < 5 * 0.5 / math.sqrt(200_000)


def test_noise_does_not_depend_on_any_seed_of_the_run(
    trained: State, received: State
) -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        found.append(guard_change(trained, received, Privacy(1.0, 1.0)))
    assert not torch.equal(found[0]["conv.weight"], found[1]["conv.weight"])


def test_no_variance_becomes_negative(trained: State, received: State) -> None:
    guarded = guard_change(trained, received, Privacy(1.0, 100.0))
    assert guarded["norm.running_var"].min().item() >= 0


def test_half_precision_stays_half_precision() -> None:
    still = {"weight": torch.zeros(10, dtype=torch.float16)}
    assert guard_change(still, still, Privacy(1.0, 1.0))["weight"].dtype == (
        torch.float16
    )


def test_a_change_that_is_no_number_does_not_leave(received: State) -> None:
    broken = {**received, "conv.bias": torch.full((5,), math.nan)}
    with pytest.raises(DataError, match="nothing leaves"):
        guard_change(broken, received, Privacy(clip_norm=1.0))
