"""What a run of a few-shot study starts with: a network, and which part of it trains.

The foundation as it is, or chance; all of the network, adapters, the decoder or a
linear probe; or another network whose encoder takes over what fits.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from experiments.finetuning.fewshot import FinetuneError, FinetuneSettings, FinetuneTask
from experiments.model_source import RANDOM, ModelSource
from models.assembly import Recipe
from models.linear_probe import LinearProbe
from models.network import SegmentationNetwork
from models.registry import build_model
from models.training_modes import choose_trainable
from models.transfer import (
    Transfer,
    TransferError,
    encoder_parameters,
    transfer_encoder,
)


@dataclass(frozen=True)
class StartingPoint:
    """A network before its first step."""

    network: SegmentationNetwork
    learnt: frozenset[str]  # encoder parameters that train and were learnt before
    transfer: Transfer | None = None  # where the encoder came from another network


def starts_of(source: ModelSource, settings: FinetuneSettings) -> tuple[str, ...]:
    """Return the starts of a study; from "random" there is no other.

    Args:
        source: What the user named.
        settings: Of the study.

    Returns:
        Some of STARTS.
    """
    return ("random",) if source.kind == RANDOM else settings.starts


def recipe_for(source: ModelSource, settings: FinetuneSettings) -> Recipe:
    """Return how the network that is finetuned is built.

    Args:
        source: What the user named.
        settings: Of the study; `network` may be another one.

    Returns:
        The recipe of a plain network, or of the source's probe.
    """
    if settings.network in ("", source.recipe.name):
        return replace(source.recipe, checkpoint="")
    return Recipe(name=settings.network, image_size=source.recipe.image_size, seed=0)


def check_methods(source: ModelSource, settings: FinetuneSettings) -> Transfer | None:
    """Refuse what cannot be done, before anything is trained.

    Args:
        source: What the user named.
        settings: Of the study.

    Returns:
        What another network's encoder takes over; None without another network.

    Raises:
        FinetuneError: If a method is not one of this network, or nothing fits.
    """
    transfer = None
    for start in starts_of(source, settings):
        for method in settings.methods:
            task = FinetuneTask(1, method, start, seed=0)
            transfer = starting_point(source, settings, task).transfer or transfer
    return transfer


def starting_point(
    source: ModelSource, settings: FinetuneSettings, task: FinetuneTask
) -> StartingPoint:
    """Build the network of one run.

    Args:
        source: What the user named; stays as it is.
        settings: Of the study.
        task: Start, method and seed.

    Returns:
        The network on the CPU; what does not train is frozen.

    Raises:
        FinetuneError: If the method is not one of this network, or nothing fits.
    """
    recipe = recipe_for(source, settings)
    transfer: Transfer | None = None
    network: SegmentationNetwork
    if task.start == "random":
        network = _refusing(lambda: _random(recipe, task.seed))
    elif recipe.name == source.recipe.name and not source.labels:
        network = copy.deepcopy(source.network)
    else:
        network = _refusing(lambda: _random(recipe, task.seed))
        try:
            transfer = transfer_encoder(network, source.network.state_dict())
        except TransferError as error:
            raise FinetuneError(str(error)) from None
    learnt = frozenset() if task.start == "random" else encoder_parameters(network)
    if transfer is not None:
        learnt &= transfer.names
    network = _trained_part(network, settings, task)
    trained = {name for name, one in network.named_parameters() if one.requires_grad}
    return StartingPoint(network, learnt & trained, transfer)


def _random(recipe: Recipe, seed: int) -> SegmentationNetwork:
    return build_model(
        recipe.name,
        image_size=recipe.image_size,
        seed=seed,
        deep_supervision=recipe.deep_supervision,
    )


def _trained_part(
    network: SegmentationNetwork, settings: FinetuneSettings, task: FinetuneTask
) -> SegmentationNetwork:
    if isinstance(network, LinearProbe):
        if task.method != "linear-probe":
            raise FinetuneError(
                "This checkpoint is a linear probe, whose decoder was never trained: "
                "use --methods linear-probe, or finetune another checkpoint."
            )
        return network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.seed)  # of the adapters' and the probe's first weights
        return _refusing(
            lambda: choose_trainable(network, task.method, rank=settings.lora_rank)
        )


def _refusing(build: Callable[[], SegmentationNetwork]) -> SegmentationNetwork:
    try:
        return build()
    except ValueError as error:
        raise FinetuneError(str(error)) from None
