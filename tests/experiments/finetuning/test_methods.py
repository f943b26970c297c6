from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from experiments.finetuning.fewshot import FinetuneError, FinetuneSettings, FinetuneTask
from experiments.finetuning.methods import check_methods, recipe_for, starting_point
from experiments.finetuning.training import parameter_groups
from experiments.model_source import ModelSource, open_model
from models.registry import build_model

SIZE = 32
SETTINGS = FinetuneSettings()


@pytest.fixture(scope="module")
def foundation() -> ModelSource:
    source = open_model("random", name="sam-tiny", image_size=SIZE, seed=5)
    return replace(source, kind="foundation")


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_the_foundation_starts_from_its_weights_and_chance_from_its_seed(
    foundation: ModelSource,
) -> None:
    for start, seed in (("foundation", 5), ("random", 3)):
        point = starting_point(foundation, SETTINGS, FinetuneTask(1, "full", start, 3))
        wanted = build_model("sam-tiny", image_size=SIZE, seed=seed)
        assert same(point.network.state_dict(), wanted.state_dict())
        assert bool(point.learnt) == (start == "foundation")


def test_a_run_does_not_change_the_foundation(foundation: ModelSource) -> None:
    before = {k: v.clone() for k, v in foundation.network.state_dict().items()}
    task = FinetuneTask(1, "lora-decoder", "foundation", 0)
    network = starting_point(foundation, SETTINGS, task).network
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    assert same(foundation.network.state_dict(), before)


@pytest.mark.parametrize("method", ["lora", "decoder", "linear-probe"])
def test_new_and_frozen_parts_are_not_slowed_down(
    foundation: ModelSource, method: str
) -> None:
    task = FinetuneTask(1, method, "foundation", 0)
    point = starting_point(foundation, SETTINGS, task)
    assert point.learnt == frozenset()
    (group,) = parameter_groups(point.network, point.learnt, 0.1)
    assert group["scale"] == 1


def test_only_encoder_weights_that_were_learnt_are_slowed_down(
    foundation: ModelSource,
) -> None:
    task = FinetuneTask(1, "full", "foundation", 0)
    point = starting_point(foundation, SETTINGS, task)
    fast, slow = parameter_groups(point.network, point.learnt, 0.1)
    encoder = sum(p.numel() for p in point.network.image_encoder.parameters())
    assert sum(p.numel() for p in slow["params"]) == encoder
    assert (fast["scale"], slow["scale"]) == (1, 0.1)


def test_other_networks_train_in_full_only() -> None:
    source = open_model("random", name="unet", image_size=SIZE)
    with pytest.raises(FinetuneError, match="SAM family"):
        check_methods(source, replace(SETTINGS, methods=("full", "lora")))


def test_a_size_that_the_other_network_does_not_take_is_one_error(
    foundation: ModelSource,
) -> None:
    with pytest.raises(FinetuneError, match="64"):
        check_methods(foundation, replace(SETTINGS, network="fga-net-small"))


def test_another_network_gets_what_fits_or_is_refused(foundation: ModelSource) -> None:
    with pytest.raises(FinetuneError, match="nothing can be transferred"):
        check_methods(foundation, replace(SETTINGS, network="unet"))


def test_from_chance_there_is_one_start_only() -> None:
    source = open_model("random", name="unet", image_size=SIZE)
    assert check_methods(source, SETTINGS) is None
    assert recipe_for(source, SETTINGS) == source.recipe


def test_a_linear_probe_is_finetuned_as_one(foundation: ModelSource) -> None:
    task = FinetuneTask(1, "linear-probe", "foundation", 0)
    probe = starting_point(foundation, SETTINGS, task).network
    source = replace(foundation, network=probe)
    again = starting_point(source, SETTINGS, task)
    assert same(again.network.state_dict(), probe.state_dict())
    with pytest.raises(FinetuneError, match="is a linear probe"):
        check_methods(source, replace(SETTINGS, starts=("foundation",)))
