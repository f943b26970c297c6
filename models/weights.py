"""Named tensors in and out of files, and the check of tensors that arrive.

Files are safetensors (https://github.com/huggingface/safetensors): a header and raw
bytes, so that reading one never runs code, as unpickling would. A checkpoint is
replaced as a whole or not at all. This module does not know which network the tensors
belong to: the caller says what it expects.
"""

import hashlib
import math
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

VARIANCE = "running_var"
"""How names of the running variances of batch normalisation end."""


class WeightsError(ValueError):
    """Received weights are not what was expected; the message lists every problem."""


def save_weights(
    path: Path,
    state: Mapping[str, Tensor],
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors to a file that is either complete or not there.

    The bytes go to a temporary file in the same folder, reach the disk and only then
    take the name, so that an interruption leaves the earlier file as it was.

    Args:
        path: Where to write; the folder must exist. An earlier file is replaced.
        state: Tensors by name, on any device; they are not changed.
        metadata: Texts to keep in the header.

    Raises:
        OSError: If the folder cannot be written.
    """
    # Own copies: safetensors refuses tensors that share memory.
    copies = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in sorted(state.items())
    }
    content = save(copies, metadata=dict(metadata) if metadata else None)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush_folder(path.parent)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file.

    Args:
        path: A file of `save_weights`, or any other safetensors file.

    Returns:
        Tensors by name, sorted, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no safetensors file, or only the beginning of one.
    """
    _check_is_file(path)
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ValueError(_unreadable(error)) from None
    return dict(sorted(state.items()))


def read_metadata(path: Path) -> dict[str, str]:
    """Read the texts in a file's header, without reading its tensors.

    Args:
        path: A safetensors file.

    Returns:
        The texts by name; empty when the file has none.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no safetensors file, or only the beginning of one.
    """
    _check_is_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(_unreadable(error)) from None


def check_weights(
    received: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    *,
    source: str,
    max_norm: float = 1e6,
) -> None:
    """Refuse tensors that do not fit, before anything is computed with them.

    Args:
        received: What arrived.
        expected: Tensors with the right names, shapes and number types.
        source: Where `received` comes from, for the message: "site 'a'".
        max_norm: Largest L2 norm over all tensors together, > 0. A variance of batch
            normalisation counts as its standard deviation: of a healthy network in
            which features grow large it passes a million.

    Raises:
        WeightsError: If names are missing or unknown, shapes or number types differ,
            a number is not finite or the norm is too large. Every problem is listed.
    """
    problems = [f"'{name}' is missing" for name in sorted(expected.keys() - received)]
    problems += [f"'{name}' is unknown" for name in sorted(received.keys() - expected)]
    squares = {name: _square(name, one) for name, one in received.items()}
    bad = {
        name: count
        for name, square in squares.items()
        if not math.isfinite(square) and (count := _count_not_finite(received[name]))
    }
    for name in sorted(received.keys() & expected):
        problems += _misfits(name, received[name], expected[name], bad.get(name, 0))
    norm = math.sqrt(math.fsum(squares.values())) if not bad else math.nan
    if norm > max_norm:
        problems.append(f"the L2 norm must be at most {max_norm:g}, got {norm:g}")
    if problems:
        raise WeightsError(
            f"Weights from {source} were refused, {len(problems)} problem(s): "
            f"{'; '.join(problems)}. Check that both ends run the same model settings "
            "and that training did not diverge."
        )


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """Compute a fingerprint of tensors: equal if and only if every bit is.

    Args:
        state: Tensors by name; neither their order nor their device matters.

    Returns:
        SHA-256 over names, number types, shapes and bytes, 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        # Lengths and the fixed order of parts keep different states apart.
        header = f"{len(name)}:{name}:{tensor.dtype}:{tuple(tensor.shape)}:"
        digest.update(header.encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _misfits(name: str, tensor: Tensor, wanted: Tensor, bad: int) -> list[str]:
    problems = []
    if tensor.shape != wanted.shape:
        problems.append(
            f"'{name}' must have shape {tuple(wanted.shape)}, got {tuple(tensor.shape)}"
        )
    if tensor.dtype != wanted.dtype:
        problems.append(f"'{name}' must be {wanted.dtype}, got {tensor.dtype}")
    if bad:
        problems.append(
            f"'{name}' must be finite, got {bad} of {tensor.numel()} values that "
            "are not"
        )
    return problems


def _count_not_finite(tensor: Tensor) -> int:
    return tensor.numel() - int(torch.isfinite(tensor).sum())


def _square(name: str, tensor: Tensor) -> float:
    """Return the sum of squares; of variances those of their roots, in one unit.

    It is finite only if all numbers are; of float64 ones some finite squares are not.
    """
    is_float = tensor.dtype in (torch.float32, torch.float64)
    numbers = tensor if is_float else tensor.double()
    order = 1 if name.endswith(VARIANCE) else 2
    norm = float(torch.linalg.vector_norm(numbers, order, dtype=torch.float64))
    return norm if order == 1 else norm * norm


def _check_is_file(path: Path) -> None:
    # The message names no path: paths can carry names that must not reach a log.
    if not path.exists():
        raise FileNotFoundError(
            "The weights file does not exist. Check the folder of the run and whether "
            "the run got as far as its first checkpoint."
        )
    if not path.is_file():
        raise ValueError("A weights file was wanted, got a folder.")


def _unreadable(error: SafetensorError) -> str:
    return (
        "A complete safetensors file was wanted, got something else or only the "
        f"beginning of one ({error}). Restore the file from a copy or write it again."
    )


def _flush_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut."""
    if os.name != "posix":
        return  # elsewhere folders cannot be opened
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
