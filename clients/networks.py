"""The network of a run at a hospital: built once, filled with what arrives."""

import copy
import functools
from collections.abc import Mapping

from torch import Tensor

from models.assembly import Recipe, assemble_model, frozen_digest
from models.network import SegmentationNetwork
from models.weights import check_weights


def receive_model(
    recipe: Recipe, state: Mapping[str, Tensor] | None, *, source: str
) -> SegmentationNetwork:
    """Build a network with weights that arrived.

    Args:
        recipe: Of the run, as this machine sees it.
        state: What travels, by name; None is as wrong as nothing.
        source: Where it comes from, for the message: "the global model".

    Returns:
        A network of its own on the CPU, in training mode.

    Raises:
        ValueError: If the recipe cannot be built.
        WeightsError: If the weights are not of this recipe.
    """
    model = copy.deepcopy(_template(recipe))
    check_weights(state or {}, model.trainable_state(), source=source)
    model.load_trainable_state(dict(state or {}))
    return model


def digest_of_frozen(recipe: Recipe) -> str:
    """Fingerprint the weights of a recipe that stay at home, see `frozen_digest`."""
    return frozen_digest(_template(recipe))


# Building and reading a file takes seconds for a large network, and a process serves
# many messages of the same run. One is enough: all hospitals have the same recipe.
@functools.lru_cache(maxsize=1)
def _template(recipe: Recipe) -> SegmentationNetwork:
    return assemble_model(recipe)
