"""A network as a run trains it: built, started from a file, part of it frozen.

Every hospital and the server assemble the same network on their own; only what trains
travels. At the end the adapters are merged, so that a foundation model is a plain
network again whatever part of it was trained.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.adapters import merge_adapters
from models.hybrid_vit import FoundationClassifier, HybridViT
from models.linear_probe import LinearProbe
from models.network import SegmentationNetwork
from models.registry import build_model
from models.sam import Sam
from models.sam_checkpoint import load_official
from models.training_modes import choose_trainable
from models.transfer import PooledClassifier, encoder_parameters
from models.weights import check_weights, weights_digest


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a network's weights before the first step."""

    name: str  # in the registry
    image_size: int  # px
    seed: int
    training: str = "full"  # one of TRAINING_MODES
    lora_rank: int = 4
    deep_supervision: bool = False  # auxiliary heads; networks that offer them
    checkpoint: str = ""  # official SAM file on this machine, "" = random weights
    num_labels: int = 0  # >= 2: a classifier of whole frames on the encoder; 0 = none


def assemble_model(recipe: Recipe) -> SegmentationNetwork:
    """Build the network that a recipe describes.

    Args:
        recipe: The same at every site and at the server.

    Returns:
        The network on the CPU; what does not train is frozen. Equal recipes give
        equal weights, those of new adapters included.

    Raises:
        ValueError: If name, size or mode do not fit together, or a checkpoint is
            given for a network that is no SAM.
        WeightsError: If the checkpoint is of another network.
    """
    model = build_model(
        recipe.name,
        image_size=recipe.image_size,
        seed=recipe.seed,
        deep_supervision=recipe.deep_supervision,
    )
    if recipe.checkpoint:
        if not isinstance(model, Sam):
            raise ValueError(
                "model.checkpoint is an official SAM file, but model.name is "
                f"'{recipe.name}'. Choose a SAM or leave the checkpoint out."
            )
        load_official(model, Path(recipe.checkpoint))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)  # of the adapters' and the probe's first weights
        model = choose_trainable(model, recipe.training, rank=recipe.lora_rank)
        return _classifier(model, recipe.num_labels) if recipe.num_labels else model


def frozen_digest(model: SegmentationNetwork) -> str:
    """Fingerprint what does not travel: ends with different ones cannot work together.

    Args:
        model: As `assemble_model` returns it.

    Returns:
        64 hexadecimal digits, see `weights_digest`.
    """
    travels = model.trainable_state()
    state = model.state_dict()
    return weights_digest({name: state[name] for name in state if name not in travels})


def foundation_state(recipe: Recipe, theta: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a foundation model, enough to rebuild it without a file.

    Args:
        recipe: Of the run.
        theta: What travelled, accumulated.

    Returns:
        What travelled where all of the network trained from its seed; otherwise the
        whole network with its adapters merged.

    Raises:
        WeightsError: If theta is not of this recipe.
    """
    if recipe.training == "full" and not recipe.checkpoint:
        return dict(theta)
    model = assemble_model(recipe)
    check_weights(theta, model.trainable_state(), source="the federation")
    model.load_trainable_state(dict(theta))
    return dict(merged(model).state_dict())


def restore_model(state: Mapping[str, Tensor], recipe: Recipe) -> SegmentationNetwork:
    """Build a foundation model from its tensors; all of it trains afterwards.

    Args:
        state: Of `foundation_state`.
        recipe: Of the run that made it; a checkpoint is not needed any more.

    Returns:
        The plain network, or the probe or classifier on its encoder, on the CPU.

    Raises:
        WeightsError: If the tensors are not of this recipe.
    """
    model = build_model(
        recipe.name,
        image_size=recipe.image_size,
        seed=recipe.seed,
        deep_supervision=recipe.deep_supervision,
    )
    if recipe.training == "linear-probe":
        model = choose_trainable(model, recipe.training)
    if recipe.num_labels:
        model = _classifier(model, recipe.num_labels)
    travels = model.trainable_state()
    if recipe.training == "full" and not state.keys() - travels.keys():
        check_weights(state, travels, source="the foundation model")
        model.load_trainable_state(dict(state))
    else:
        check_weights(state, model.state_dict(), source="the foundation model")
        model.load_state_dict(dict(state), strict=True)
    return model


def merged(model: SegmentationNetwork) -> SegmentationNetwork:
    """Return a copy with its adapters folded in; a plain network is only copied.

    Args:
        model: As `assemble_model` returns it; stays as it is.

    Returns:
        A network with the same outputs within rounding and the original keys.
    """
    plain = copy.deepcopy(model)
    encoder = plain.sam if isinstance(plain, LinearProbe) else plain
    if isinstance(encoder, Sam):
        merge_adapters(encoder)
    return plain


def _classifier(model: SegmentationNetwork, num_labels: int) -> SegmentationNetwork:
    """Put a head for whole frames on an encoder; nothing but these two trains.

    On the hybrid of ResNet and transformer it is the model of FedEFM's released code.
    """
    encoder = getattr(model, "encoder", None)
    if isinstance(encoder, HybridViT):
        return FoundationClassifier(num_classes=num_labels, encoder=encoder)
    trained = encoder_parameters(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    return PooledClassifier(model, num_labels)
