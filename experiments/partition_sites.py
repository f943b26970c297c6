"""Writes a partition as a sites file of simulated silos."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli_w

from clients.data.errors import DataError
from clients.partition import Partition
from clients.sites import load_sites


def silo_names(count: int) -> list[str]:
    """Return names that sort in the order of their numbers: silo-01, silo-02.

    Args:
        count: Of the silos.

    Returns:
        One name a silo.
    """
    digits = len(str(count))
    return [f"silo-{number:0{digits}d}" for number in range(1, count + 1)]


def write_sites(
    partition: Partition, path: Path, frames_per_patient: int, command: str
) -> None:
    """Write a partition as a sites file and read it again.

    Args:
        partition: Who holds how many patients of which simulated domain.
        path: File to write or replace; it appears only if it can be read.
        frames_per_patient: Of every patient.
        command: That made the partition, for the file's first lines.

    Raises:
        DataError: If the file cannot be written, or is none that can be read.
    """
    sites = [
        _site_table(name, partition.types, row, frames_per_patient)
        for name, row in zip(
            silo_names(len(partition.patients)),
            partition.patients.tolist(),
            strict=True,
        )
    ]
    header = "".join(f"# {line}\n" for line in _header(partition, command))
    unchecked = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unchecked.write_text(
            f"{header}\n{tomli_w.dumps({'site': sites})}", encoding="utf-8"
        )
        load_sites(str(unchecked))
        unchecked.replace(path)
    except OSError:
        raise DataError(
            "The sites file cannot be written: name a file in a folder that exists and "
            "that this program's user may write to."
        ) from None
    finally:
        unchecked.unlink(missing_ok=True)


def reached_share(partition: Partition) -> str:
    """Say how much unseen data the silos have.

    Args:
        partition: Who holds what.

    Returns:
        Part of a sentence: means over the silos, beside the wanted share.
    """
    wanted = partition.wanted_unseen
    aim = "" if wanted is None else f"wanted {wanted:g} % by type, reached "
    by_type = partition.unseen_by_type().mean()
    by_frames = partition.unseen_by_frames().mean()
    return f"{aim}{by_type:.1f} % by type, {by_frames:.1f} % by frames"


def _site_table(
    name: str, types: Sequence[str], patients: Sequence[int], frames_per_patient: int
) -> dict[str, Any]:
    sources = [
        {"domain": kind, "patients": count, "frames-per-patient": frames_per_patient}
        for kind, count in zip(types, patients, strict=True)
        if count
    ]
    return {"name": name, **(sources[0] if len(sources) == 1 else {"source": sources})}


def _header(partition: Partition, command: str) -> list[str]:
    lines = [
        "Made by:",
        f"  {command}",
        "Unseen data (of a silo, what is of types that no other silo holds; mean over",
        f"silos): {reached_share(partition)}.",
    ]
    left_over = partition.unheld()
    return lines + ([f"No silo holds: {', '.join(left_over)}."] if left_over else [])
