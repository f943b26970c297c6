"""Two optimisers in turn move a model as one would."""

from collections.abc import Iterable

import torch
from torch import nn

from clients.carried_moments import put_moments, take_moments
from strategies.moments import Moments


def new_model() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def adamw(model: nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)


def descend(
    model: nn.Module, optimiser: torch.optim.AdamW, seeds: Iterable[int]
) -> None:
    for seed in seeds:
        inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
        optimiser.zero_grad()
        model(inputs).square().sum().backward()
        optimiser.step()


def test_who_carries_the_moments_steps_as_one_optimiser_would() -> None:
    whole, halves, afresh = new_model(), new_model(), new_model()
    descend(whole, adamw(whole), range(6))
    first = adamw(halves)
    descend(halves, first, range(3))
    carried = take_moments(first, halves, before=Moments())
    assert carried.steps == 3
    second = adamw(halves)
    put_moments(second, halves, Moments.from_state(carried.to_state()))
    descend(halves, second, range(3, 6))
    for one, other in zip(whole.parameters(), halves.parameters(), strict=True):
        assert torch.equal(one, other)
    for seeds in (range(3), range(3, 6)):
        descend(afresh, adamw(afresh), seeds)
    assert not torch.allclose(whole.weight, afresh.weight, atol=1e-3)


def test_what_came_is_not_changed_by_who_goes_on() -> None:
    model = new_model()
    moments = {name: torch.ones_like(one) for name, one in model.named_parameters()}
    optimiser = adamw(model)
    put_moments(optimiser, model, Moments(2, moments, moments))
    descend(model, optimiser, range(2))
    assert all(bool((one == 1).all()) for one in moments.values())


def test_where_no_step_was_taken_the_moments_stay() -> None:
    model, before = new_model(), Moments(5, {}, {})
    assert take_moments(adamw(model), model, before=before) is before


def test_a_frozen_part_has_no_moments() -> None:
    model = new_model()
    model.bias.requires_grad_(False)
    optimiser = torch.optim.AdamW([model.weight], lr=0.1, fused=True)
    descend(model, optimiser, range(1))
    assert take_moments(optimiser, model, before=Moments()).first.keys() == {"weight"}
