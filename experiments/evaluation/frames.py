"""Which frames models are measured on, and what is known of each of them.

All models of one evaluation get the frames of one `EvaluationFrames`, which is what
makes their differences paired. Sequences and patients have pseudonyms or numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.errors import DataError
from clients.data.frames import Frames
from clients.data.identity import SiteKey
from clients.data.splits import split_by_patient
from clients.sites import SiteSpec, load_frames
from experiments.evaluation.archive_facts import FrameFacts, facts_of_site
from experiments.evaluation.seen import held_out
from experiments.model_source import ModelSource
from models.classes import CLASS_NAMES
from strategies.data_settings import DataSettings

HELD_OUT = "held-out"
SPLITS = ("all", "train", "validation", "test", HELD_OUT)


@dataclass(frozen=True)
class SiteFrames:
    """The frames of one site, one entry of `facts` each."""

    name: str
    frames: Frames
    facts: FrameFacts
    patients_known: bool  # False = one sequence stands for one patient

    def __post_init__(self) -> None:
        """Refuse facts of other frames."""
        if len(self.facts) != len(self.frames):
            raise ValueError("Every frame needs its facts, and no other.")


@dataclass(frozen=True)
class EvaluationFrames:
    """The frames of all sites, and who is who among them.

    Attributes:
        sites: In the order of their names.
        classes: What is measured, in the order of CLASS_NAMES.
        side_px: Of every frame.
        notes: What a reader of the numbers has to know.
    """

    sites: tuple[SiteFrames, ...]
    classes: tuple[str, ...]
    side_px: int
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of frames of all sites."""
        return sum(len(site.frames) for site in self.sites)

    @property
    def site_numbers(self) -> NDArray[np.int64]:
        """Return the position of every frame's site in `sites`, (frames,)."""
        sizes = [len(site.frames) for site in self.sites]
        return np.repeat(np.arange(len(sizes)), sizes)

    @property
    def sequence_numbers(self) -> NDArray[np.int64]:
        """Return a number for every frame's sequence, from 0 over all sites."""
        return self._numbered(lambda site: site.frames.sequences.numpy())

    @property
    def patient_numbers(self) -> NDArray[np.int64]:
        """Return a number for every frame's patient; no two sites share one."""
        return self._numbered(lambda site: site.frames.patients.numpy())

    @property
    def known(self) -> NDArray[np.bool_]:
        """Return which classes are measured in which frames, (frames, classes)."""
        columns = [CLASS_NAMES.index(name) for name in self.classes]
        return np.concatenate(
            [site.frames.annotated.numpy()[:, columns] for site in self.sites]
        )

    def fact(self, name: str) -> NDArray:
        """Return one field of the facts of all frames, (frames,)."""
        return np.concatenate([getattr(site.facts, name) for site in self.sites])

    def _numbered(
        self, tokens_of: Callable[[SiteFrames], NDArray[np.int64]]
    ) -> NDArray[np.int64]:
        first, parts = 0, []
        for site in self.sites:
            _, numbers = np.unique(tokens_of(site), return_inverse=True)
            parts.append(numbers + first)
            first += int(numbers.max()) + 1
        return np.concatenate(parts)


def load_evaluation_frames(
    specs: Sequence[SiteSpec],
    *,
    settings: DataSettings,
    split: str,
    seed_of: Callable[[str], int],
    key: SiteKey | None = None,
    classes: Sequence[str] = CLASS_NAMES,
    sequences: Sequence[str] = (),
    models: Mapping[str, ModelSource] | None = None,
) -> EvaluationFrames:
    """Load the frames of sites, or of one part of them.

    Args:
        specs: The sites.
        settings: How frames are prepared; the size is not 0.
        split: One of SPLITS.
        seed_of: Gives the seed of a site's split and of its simulated frames.
        key: Of the site, for pseudonyms; None = the key file of this machine.
        classes: What the models know.
        sequences: Only these of the part, by pseudonym or number from 1; empty = all.
        models: By label; their cards say what is held out.

    Returns:
        The frames.

    Raises:
        DataError: If frames cannot be loaded or divided, or nobody looked for a class
            that is to be measured.
    """
    sites, notes = [], []
    for spec in specs:
        seed = seed_of(spec.name)
        frames = load_frames(spec, settings=settings, seed=seed, key=key)
        known = facts_of_site(spec, frames, settings, key)
        notes += [f"{spec.name}: {note}" for note in known.notes]
        if split == HELD_OUT:
            chosen = held_out(known.facts.sequence, models or {})
            frames, facts = _take(frames, known.facts, chosen)
        else:
            frames, facts = _take_split(spec.name, frames, known.facts, split, seed)
        if sequences:
            frames, facts = _take_sequences(frames, facts, sequences)
        if not bool(frames.annotated.any()):
            notes.append(
                f"{spec.name}: nobody has labelled its {len(frames)} frames, so they "
                "are in no number."
            )
        sites.append(SiteFrames(spec.name, frames, facts, known.patients_known))
    annotated = torch.cat([site.frames.annotated for site in sites]).any(dim=0)
    seen = [name for name, any_ in zip(CLASS_NAMES, annotated, strict=True) if any_]
    measured = tuple(name for name in seen if name in classes)
    if not measured:
        raise DataError(
            f"Nothing can be measured: the frames show {_listed(seen)}, the models "
            f"know {_listed(classes)}. Give data with a class that the models know."
        )
    return EvaluationFrames(
        tuple(sites),
        measured,
        settings.frame_size,
        (*notes, *_patient_notes(sites)),
    )


def _take_split(
    name: str, frames: Frames, facts: FrameFacts, split: str, seed: int
) -> tuple[Frames, FrameFacts]:
    if split == "all":
        return frames, facts
    try:
        part: Frames = getattr(split_by_patient(frames, seed=seed), split)
    except DataError as error:
        raise DataError(
            f"Site '{name}' has no {split} part: {error} Or use --split all."
        ) from None
    # Parts are whole patients, and frames keep their order.
    chosen = np.isin(frames.patients.numpy(), part.patients.unique().numpy())
    return part, facts.take(chosen)


def _take_sequences(
    frames: Frames, facts: FrameFacts, wanted: Sequence[str]
) -> tuple[Frames, FrameFacts]:
    numbers = np.array([str(one + 1) for one in frames.sequences.tolist()], object)
    names = [one.strip().upper() for one in wanted]
    chosen = np.zeros(len(facts), bool)
    for name in names:
        found = (facts.sequence == name) | (numbers == name)
        if not found.any():
            raise DataError(
                "A sequence that was named is not among the labelled ones of this "
                "part: give pseudonyms as `endofed data check` prints them (S-…), or "
                "numbers from 1 in the order of the folder."
            )
        chosen |= found
    return _take(frames, facts, chosen)


def _take(
    frames: Frames, facts: FrameFacts, chosen: NDArray[np.bool_]
) -> tuple[Frames, FrameFacts]:
    return frames.view(torch.from_numpy(np.flatnonzero(chosen))), facts.take(chosen)


def _patient_notes(sites: Sequence[SiteFrames]) -> list[str]:
    unknown = [site.name for site in sites if not site.patients_known]
    if not unknown:
        return []
    return [
        f"{_listed(unknown)}: patients are told apart by file names or studies only, "
        "so resampling is over sequences; were two of one patient, the intervals "
        "would be too narrow."
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"


def loading_settings(settings: DataSettings) -> DataSettings:
    """Return settings without what happens after frames are loaded.

    Args:
        settings: Of a model.

    Returns:
        Settings that are equal for two models if these see the same frames.
    """
    return replace(settings, normalise="unit", augmentation="none")
