"""Every stage's output as a file, named by what it depends on.

The name of a file ends in a digest of all that decides its content: an interrupted run
finds what it had finished, variants that agree up to a stage share it, and a change of
settings computes what it changes and nothing else. The weights come first and the
JSON beside them last: it says that a stage is done.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from clients.data.errors import DataError
from clients.data.frames import TENSORS, FrameSet
from clients.optimisation import TrainingError
from models.weights import load_weights, save_weights
from server.journal import to_jsonable, write_json

FORMAT = 1
"""Raised when the same settings would give other bits."""

_log = logging.getLogger(__name__)

Computed = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors of a stage and what there is to say of it, plain JSON."""


@dataclass(frozen=True)
class Stage:
    """What a stage has left behind."""

    key: str  # of what it depends on
    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    seconds: float  # that computing it took, in whichever run that was
    path: Path  # of the weights; what belongs to them lies beside


class StageFiles:
    """A folder of stages."""

    def __init__(
        self, folder: Path, *, on_stage: Callable[[str, bool], None] | None = None
    ) -> None:
        """Open a folder, which is made with its first stage.

        Args:
            folder: Of the stages.
            on_stage: Hears the name of a stage before it is computed (False) or
                where it was found done (True).
        """
        self._folder = folder
        self._on_stage = on_stage or (lambda name, is_done: None)
        self._failed: dict[str, DataError | TrainingError] = {}

    def get(
        self,
        name: str,
        depends_on: Mapping[str, Any],
        compute: Callable[[], Computed],
    ) -> Stage:
        """Return a stage, computed now unless its file is there.

        Args:
            name: Of the stage; begins the names of its files.
            depends_on: Plain JSON; all that decides the result.
            compute: Returns the result.

        Returns:
            The stage, read back from its file either way.

        Raises:
            DataError: If a file is damaged, or out of `compute`; a stage that failed
                is not tried again.
            TrainingError: Out of `compute`.
        """
        key = digest_of({"stage": name, "format": FORMAT, **depends_on})
        path = self._folder / f"{name}-{key}.safetensors"
        facts_path = path.with_suffix(".json")
        is_done = facts_path.is_file() and path.is_file()
        if key in self._failed:
            raise self._failed[key]
        self._on_stage(name, is_done)
        if not is_done:
            started = time.perf_counter()
            try:
                tensors, facts = compute()
            except (DataError, TrainingError) as error:
                self._failed[key] = error
                raise
            seconds = time.perf_counter() - started
            self._folder.mkdir(parents=True, exist_ok=True)
            save_weights(path, tensors)
            write_json(facts_path, {"seconds": seconds, "facts": facts})
            _log.info("Stage %s took %.1f s.", name, seconds)
        return _read(name, key, path)


def digest_of(content: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that change whenever the content does.

    Args:
        content: Plain JSON.

    Returns:
        The beginning of a SHA-256.
    """
    text = json.dumps(to_jsonable(content), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def frames_to_tensors(frames: FrameSet, prefix: str = "") -> dict[str, Tensor]:
    """Return the tensors of frames by name, to be kept."""
    return {f"{prefix}{name}": getattr(frames, name) for name in TENSORS}


def frames_from_tensors(tensors: Mapping[str, Tensor], prefix: str = "") -> FrameSet:
    """Return frames out of what `frames_to_tensors` returned.

    Raises:
        DataError: If they are no frames.
    """
    try:
        return FrameSet(**{name: tensors[f"{prefix}{name}"] for name in TENSORS})
    except KeyError:
        raise DataError("A stage file holds no frames; remove it.") from None


def _read(name: str, key: str, path: Path) -> Stage:
    try:
        content = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return Stage(
            key=key,
            tensors=load_weights(path),
            facts=content["facts"],
            seconds=float(content["seconds"]),
            path=path,
        )
    except (ValueError, KeyError, TypeError):
        raise DataError(
            f"The kept stage '{name}' is damaged. Remove its two files (their names "
            f"begin with {name}-{key}) from the folder of stages and resume."
        ) from None
