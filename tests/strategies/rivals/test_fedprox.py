"""FedProx: the silo's pull towards what arrived."""

import torch

from strategies.rivals.fedprox import ProximalTerm
from strategies.settings import RunSettings
from tests.strategies.rivals.toy_federation import Scales, step, visit

ANCHOR = {"weight": torch.tensor([1.0, -2.0])}


def test_the_squared_distance_is_added_by_half_its_strength() -> None:
    # 10 + 0.5 / 2 * (2^2 + 4^2)
    found = ProximalTerm(ANCHOR, 0.5).loss(step(Scales(3.0, 2.0), label_loss=10.0))
    assert found.item() == 10 + 0.25 * 20


def test_its_gradient_is_strength_times_the_distance() -> None:
    model = Scales(3.0, 2.0)
    ProximalTerm(ANCHOR, 0.5).loss(step(model)).backward()
    assert model.weight.grad is not None
    assert model.weight.grad.tolist() == [0.5 * 2, 0.5 * 4]


def test_the_anchor_is_what_arrived(run_settings: RunSettings) -> None:
    term = ProximalTerm.of(visit(run_settings, ANCHOR, proximal_mu=2.0))
    assert term.loss(step(Scales(2.0, -2.0))).item() == 1.0


def test_without_strength_neither_loss_nor_gradient_change() -> None:
    model = Scales(3.0, 2.0)
    found = ProximalTerm(ANCHOR, 0.0).loss(step(model, label_loss=10.0))
    found.backward()
    assert found.item() == 10.0
    assert model.weight.grad is not None
    assert model.weight.grad.tolist() == [0.0, 0.0]


def test_a_frozen_weight_needs_no_anchor() -> None:
    model = Scales(3.0, 2.0)
    model.weight.requires_grad_(requires_grad=False)
    assert ProximalTerm({}, 1.0).loss(step(model, label_loss=10.0)).item() == 10.0


def test_nothing_is_reported_beside_the_weights() -> None:
    assert ProximalTerm(ANCHOR, 1.0).report() == {}
