"""A gate that must be right, and one that must guess."""

import dataclasses

import pytest
import torch

from clients.data.frames import FrameSet
from clients.data.simulator import simulate_frames
from experiments.benchmarks.gate_accuracy import gate_accuracy
from experiments.model_source import ModelSource, open_model
from strategies.fedefm_settings import FedEFMSettings
from strategies.settings import RunSettings

SIZE = 32


@pytest.fixture
def source() -> ModelSource:
    return open_model("random", name="sam-tiny", image_size=SIZE)


@pytest.fixture
def settings(run_settings: RunSettings) -> FedEFMSettings:
    return dataclasses.replace(
        run_settings.fedefm,
        score="standardised",
        prototypes=4,
        grid_size=2,
        tap="detail.stride_2",
    )


def frames(seed: int, *, bright: bool = False) -> FrameSet:
    found = simulate_frames(
        "human", patients=8, frames_per_patient=1, image_size=SIZE, seed=seed
    )
    dim = 0.2 * found.images
    return dataclasses.replace(found, images=dim + 0.8 if bright else dim)


def test_a_dark_hospital_and_a_bright_one_are_told_apart(
    source: ModelSource, settings: FedEFMSettings
) -> None:
    homes = {"dark": frames(1), "bright": frames(2, bright=True)}
    shown = {"dark": frames(3), "bright": frames(4, bright=True)}
    assert gate_accuracy(source, homes, shown, settings, draws=2) == 1.0
    crossed = {"dark": shown["bright"], "bright": shown["dark"]}
    assert gate_accuracy(source, homes, crossed, settings, draws=2) == 0.0


def test_hospitals_of_the_same_frames_cannot_be_told_apart(
    source: ModelSource, settings: FedEFMSettings
) -> None:
    same = frames(1)
    homes, shown = dict.fromkeys("ab", same), dict.fromkeys("ab", frames(3))
    assert gate_accuracy(source, homes, shown, settings, draws=2) == 0.5


def test_the_network_is_left_as_it_was(
    source: ModelSource, settings: FedEFMSettings
) -> None:
    state = {name: one.clone() for name, one in source.network.state_dict().items()}
    both = {"a": frames(1), "b": frames(2)}
    gate_accuracy(source, both, both, settings, draws=1)
    for name, one in source.network.state_dict().items():
        assert torch.equal(one, state[name])
