"""Heads for whole frames that finetuning has learnt, reopened.

They lie in a file as other finetuned networks do, names of the network behind
`network.` and those of the linear layer behind `head.`; their card names the labels in
the order of the logits.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from models.assembly import Recipe, merged, restore_model
from models.linear_probe import LinearProbe
from models.network import SegmentationNetwork
from models.transfer import PooledClassifier
from models.weights import check_weights

CLASSIFY = "classify"
NETWORK, HEAD = "network.", "head."


def labels_of(card: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a finetuned classifier chooses from; empty for any other model.

    Args:
        card: Of a model.
    """
    task = card.get("task")
    if not isinstance(task, Mapping) or task.get("kind") != CLASSIFY:
        return ()
    return tuple(str(label) for label in task.get("labels", ()))


def plain_classifier(classifier: PooledClassifier) -> PooledClassifier:
    """Fold adapters in, and put the head on the encoder alone if a probe was between.

    Args:
        classifier: As it was trained; stays as it is.

    Returns:
        A classifier that needs no peft.
    """
    network = merged(classifier.network)
    if isinstance(network, LinearProbe):
        network = network.sam  # its features are those of the encoder
    plain = PooledClassifier(network, classifier.num_classes)
    plain.head.load_state_dict(classifier.head.state_dict())
    return plain


def restore_classifier(
    state: Mapping[str, Tensor], recipe: Recipe, num_labels: int
) -> SegmentationNetwork:
    """Build a classifier from its tensors.

    Args:
        state: Of `plain_classifier`.
        recipe: Of the plain network in it.
        num_labels: Of the head, >= 2.

    Returns:
        The classifier, on the CPU.

    Raises:
        WeightsError: If the tensors are not of this recipe or number of labels.
    """
    inner = _below(state, NETWORK)
    plain = restore_model(inner, replace(recipe, num_labels=0))
    classifier = PooledClassifier(plain, num_labels)
    head = _below(state, HEAD)
    check_weights(head, classifier.head.state_dict(), source="the head")
    classifier.head.load_state_dict(head)
    return classifier


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
    }
