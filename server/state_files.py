"""The federation of the last finished round, on disk, to go on from after a crash.

A state is a folder `checkpoints/round-0003` with the accumulated model, a file for
every silo that has a model of its own, and `state.json`. It is written under another
name and takes its own as a whole, so that after a crash it is either the old round or
the new one. Weights are safetensors: reading them runs no code.
"""

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from models.weights import load_weights, read_metadata, save_weights, weights_digest
from server.checkpoints import CHECKPOINTS_FOLDER, CheckpointError
from server.journal import write_json
from strategies.accumulation import State
from strategies.federation_state import FederationState

STATE_FORMAT = 1
STATE_FILE = "state.json"
THETA_FILE = "theta.safetensors"
ROUND_FOLDER = re.compile(r"round-(\d{4,})")


def save_federation(folder: Path, state: FederationState) -> Path:
    """Keep the federation of a round, replacing that of the round before.

    Args:
        folder: The run folder.
        state: After a round.

    Returns:
        The folder of the state.

    Raises:
        OSError: If it cannot be written; the state before it is still there then.
    """
    checkpoints = folder / CHECKPOINTS_FOLDER
    checkpoints.mkdir(exist_ok=True)
    target = checkpoints / f"round-{state.round_number:04d}"
    temporary = checkpoints / f".{target.name}.{uuid.uuid4().hex}.tmp"
    temporary.mkdir()
    try:
        _write(temporary, state)
        before = checkpoints / f".{target.name}.{uuid.uuid4().hex}.old"
        if target.exists():  # the same round again
            os.replace(target, before)
        os.replace(temporary, target)
        shutil.rmtree(before, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for other in _rounds(folder).values():
        if other != target:
            shutil.rmtree(other, ignore_errors=True)
    return target


class RoundKeeper:
    """Keeps the federation of every n-th round, and of the last one on leaving."""

    def __init__(self, folder: Path, every: int) -> None:
        """Keep in this run folder; the warm-up is round 0."""
        self._folder, self._every = folder, every
        self._waiting: FederationState | None = None

    def __enter__(self) -> "RoundKeeper":
        """Begin with nothing to keep."""
        return self

    def finished(self, state: FederationState) -> None:
        """Take the federation after a round; see `save_federation`."""
        self._waiting = state
        if state.round_number % self._every == 0:
            self._keep()

    def __exit__(self, *error: object) -> None:
        """Keep the last round, also where an error ends the run."""
        self._keep()

    def _keep(self) -> None:
        if self._waiting is not None:
            save_federation(self._folder, self._waiting)
            self._waiting = None


def save_silo(folder: Path, silo: str, round_number: int, state: State) -> Path:
    """Keep a silo's own model, for who wants it beside the accumulated one.

    Args:
        folder: The run folder.
        silo: Its name; it stands in the header of the file.
        round_number: After which round.
        state: What travelled of it.

    Returns:
        Path of the file in `checkpoints/silos`.
    """
    silos = folder / CHECKPOINTS_FOLDER / "silos"
    silos.mkdir(parents=True, exist_ok=True)
    path = silos / _silo_file(silo)
    save_weights(path, state, metadata={"silo": silo, "round": str(round_number)})
    return path


def kept_silos(folder: Path) -> Iterator[tuple[str, State]]:
    """Read the silos' own models that `save_silo` has kept, one after another.

    Args:
        folder: The run folder.

    Yields:
        Name and model, in the order of the names; nothing where none was kept.
    """
    paths = (folder / CHECKPOINTS_FOLDER / "silos").glob("silo-*.safetensors")
    named = {read_metadata(path)["silo"]: path for path in paths}
    for silo in sorted(named):
        yield silo, load_weights(named[silo])


def load_federation(folder: Path) -> FederationState:
    """Read the federation that was kept last.

    Args:
        folder: The run folder.

    Returns:
        The federation, ready for its next round.

    Raises:
        FileNotFoundError: If no round was kept.
        CheckpointError: If a file is missing, damaged, or of another version.
    """
    rounds = _rounds(folder)
    if not rounds:
        raise FileNotFoundError(
            "The run has kept no round to go on from. Give the folder of a run that "
            "finished its warm-up at least."
        )
    source = rounds[max(rounds)]
    card = _read_card(source)
    theta = _read_model(source / THETA_FILE, card["theta"])
    students = {
        silo: theta if entry is None else _read_model(source / _silo_file(silo), entry)
        for silo, entry in card["silos"].items()
    }
    return FederationState(
        round_number=card["round"],
        theta=theta,
        students=students,
        seed=card["seed"],
        strategy=card["strategy"],
        metrics=card["metrics"],
        memory={
            name: _read_model(source / _memory_file(name), digest)
            for name, digest in card.get("memory", {}).items()
        },
    )


def _write(folder: Path, state: FederationState) -> None:
    save_weights(folder / THETA_FILE, state.theta)
    silos: dict[str, str | None] = {}
    for silo, student in sorted(state.students.items()):
        silos[silo] = None
        if student is not state.theta:
            save_weights(folder / _silo_file(silo), student)
            silos[silo] = weights_digest(student)
    memory: dict[str, str] = {}
    for name, kept in sorted(state.memory.items()):
        save_weights(folder / _memory_file(name), kept)
        memory[name] = weights_digest(kept)
    content = {
        "format": STATE_FORMAT,
        "round": state.round_number,
        "seed": state.seed,
        "strategy": state.strategy,
        "theta": weights_digest(state.theta),
        "silos": silos,
        "metrics": dict(state.metrics),
        "memory": memory,
    }
    write_json(folder / STATE_FILE, content)


def _silo_file(silo: str) -> str:
    """Return a file name for any name that a silo may have."""
    return f"silo-{hashlib.sha256(silo.encode()).hexdigest()[:16]}.safetensors"


def _memory_file(name: str) -> str:
    """Return a file name for what a rival remembers."""
    return _silo_file(name).replace("silo-", "memory-", 1)


def _rounds(folder: Path) -> dict[int, Path]:
    found = {}
    for path in (folder / CHECKPOINTS_FOLDER).glob("round-*"):
        match = ROUND_FOLDER.fullmatch(path.name)
        if match and path.is_dir():
            found[int(match[1])] = path
    return found


def _read_card(folder: Path) -> Mapping[str, Any]:
    wanted = f"A state of format {STATE_FORMAT} was wanted"
    try:
        card = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise CheckpointError(
            f"{wanted}, but its {STATE_FILE} cannot be read. Restore the checkpoints "
            "folder from a copy."
        ) from None
    if not isinstance(card, dict) or card.get("format") != STATE_FORMAT:
        raise CheckpointError(
            f"{wanted}, got another. Go on with the version of EndoFed that wrote it."
        )
    return card


def _read_model(path: Path, digest: str) -> State:
    try:
        state = load_weights(path)
    except (FileNotFoundError, ValueError):
        state = {}
    if not state or weights_digest(state) != digest:
        raise CheckpointError(
            f"The kept round is damaged: {path.name} is missing or not what was "
            "written. Restore the checkpoints folder from a copy."
        )
    return state
