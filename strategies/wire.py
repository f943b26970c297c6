"""Numbers of fewer bits on the wire: half the bytes, at an error that is measured.

Only what travels is rounded; both ends compute in float32. bfloat16 keeps the range of
float32 and about 3 digits, float16 about 4 digits within 6e-8 to 65,504.
"""

from collections.abc import Mapping

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor

WIRES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""What weights may travel as, by name."""

BFLOAT16 = "bfloat16"  # NumPy does not know it: its bytes travel as they are


def encode(state: Mapping[str, Tensor], wire: str = "float32") -> ArrayRecord:
    """Turn named tensors into a record, sorted by name, without pickling.

    Args:
        state: Tensors by name, on any device. float32 ones are rounded; others, such
            as counters, travel as they are.
        wire: A key of `WIRES`.

    Returns:
        The record.

    Raises:
        ValueError: If the wire is unknown, or a number is too large for it.
    """
    if wire not in WIRES:
        raise ValueError(f"wire must be one of {', '.join(WIRES)}, got '{wire}'.")
    return ArrayRecord(
        {name: _encode_one(name, state[name], WIRES[wire]) for name in sorted(state)}
    )


def decode(record: ArrayRecord) -> dict[str, Tensor]:
    """Turn a record into named tensors, sorted by name, that own their memory.

    Args:
        record: Of `encode`, or of Flower's own arrays.

    Returns:
        CPU tensors; half-width numbers as float32.
    """
    return {name: _decode_one(array) for name, array in sorted(record.items())}


def rounding_error(state: Mapping[str, Tensor], wire: str) -> float:
    """Measure what a wire costs.

    Args:
        state: Tensors by name.
        wire: A key of `WIRES`.

    Returns:
        L2 norm of the rounding over that of the tensors, over all float32 ones; 0 for
        float32.
    """
    if wire == "float32":
        return 0.0
    wrong = total = 0.0
    for tensor in state.values():
        if tensor.dtype == torch.float32:
            exact = tensor.detach().double()
            rounded = tensor.detach().to(WIRES[wire]).double()
            wrong += float((exact - rounded).square().sum())
            total += float(exact.square().sum())
    return (wrong / total) ** 0.5 if total else 0.0


def _encode_one(name: str, tensor: Tensor, wire: torch.dtype) -> Array:
    plain = tensor.detach().cpu().contiguous()
    if plain.dtype != torch.float32 or wire == torch.float32:
        return Array(plain.numpy())
    narrow = plain.to(wire)
    if not bool(torch.isfinite(narrow).all()) and bool(torch.isfinite(plain).all()):
        raise ValueError(
            f"'{name}' holds {float(plain.abs().max()):.3g}, too large for wire = "
            f"'{str(wire).removeprefix('torch.')}'. Use wire = 'bfloat16'."
        )
    if wire == torch.float16:
        return Array(narrow.numpy())
    raw = narrow.view(torch.int16).numpy()
    return Array(
        dtype=BFLOAT16, shape=tuple(plain.shape), stype=BFLOAT16, data=raw.tobytes()
    )


def _decode_one(array: Array) -> Tensor:
    if array.dtype == BFLOAT16:
        raw = np.frombuffer(array.data, dtype=np.int16).copy()
        return torch.from_numpy(raw).view(torch.bfloat16).float().reshape(array.shape)
    values = torch.from_numpy(np.array(array.numpy()))
    return values.float() if values.dtype == torch.float16 else values
