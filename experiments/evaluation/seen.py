"""Which sequences a finetuned model has seen, as its card says.

The card has the pseudonyms of the sequences it was trained and validated on. They are
those of a site's key: only where the key is the same can anything be recognised.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.data.errors import DataError
from experiments.model_source import ModelSource

SEEN_PARTS = ("train", "validation")


def seen_sequences(card: Mapping[str, Any]) -> frozenset[str]:
    """Read what a model was trained on or chosen by.

    Args:
        card: Of the model.

    Returns:
        Pseudonyms "S-…"; empty where the card names none.
    """
    return frozenset(
        name for part in SEEN_PARTS for name in _chosen(card).get(part, ())
    )


def held_out(
    sequences: NDArray[np.object_], models: Mapping[str, ModelSource]
) -> NDArray[np.bool_]:
    """Choose the frames that no model has seen.

    Args:
        sequences: Pseudonym of every frame's sequence.
        models: By label.

    Returns:
        (frames,), True = of a sequence that no card names.

    Raises:
        DataError: If no card names any, a card names only sequences of other data,
            or no frame is left.
    """
    seen = {label: seen_sequences(one.card) for label, one in models.items()}
    if not any(seen.values()):
        raise DataError(
            "--split held-out needs a model that was finetuned on this folder: no card "
            "says which sequences were used. Choose another split or --sequences."
        )
    for label, names in seen.items():
        if names and not names & set(sequences):
            raise DataError(
                f"Model {label} was finetuned on sequences that are not in this folder "
                "or have the pseudonyms of another site key (--key); use --split all "
                "if it is other data."
            )
    everything = frozenset().union(*seen.values())
    chosen = np.array([name not in everything for name in sequences], bool)
    if not chosen.any():
        raise DataError("The models have seen every sequence of this folder.")
    return chosen


def overlap_note(
    label: str, source: ModelSource, sequences: NDArray[np.object_]
) -> str:
    """Say whether a model has seen what it is measured on.

    Args:
        label: Of the model.
        source: The model.
        sequences: Pseudonyms of the frames that are measured.

    Returns:
        A sentence, "" if nothing is known of it.
    """
    measured = set(sequences)
    both = measured & seen_sequences(source.card)
    if not both:
        return ""
    return (
        f"Model {label} was trained or chosen on {len(both)} of these {len(measured)} "
        "sequences: its scores are too good."
    )


def seed_of_parts(card: Mapping[str, Any]) -> int | None:
    """Return the seed that divided a model's data; None where the card has none."""
    task = card.get("task")
    own = task.get("data-seed") if isinstance(task, Mapping) else None
    return own if own is not None else card.get("seed")


def _chosen(card: Mapping[str, Any]) -> Mapping[str, Any]:
    place: Any = card
    for name in ("task", "data", "chosen"):
        place = place.get(name) if isinstance(place, Mapping) else None
    return place if isinstance(place, Mapping) else {}
