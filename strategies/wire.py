"""Numbers of fewer bits on the wire: half the bytes, at an error that is measured.

Only what travels is rounded; both ends compute in float32. bfloat16 keeps the range of
float32 and about 3 digits, float16 about 4 digits within 6e-8 to 65,504.

A network has hundreds of small tensors, and each array of a record is a request of its
own to the server and back: over a line with 200 ms of delay that was most of a phase.
So the small ones travel together, as one array of safetensors.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import safetensors.torch
import torch
from flwr.app import Array, ArrayRecord
from safetensors import SafetensorError
from torch import Tensor

from models.weights import WeightsError

WIRES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""What weights may travel as, by name."""

BFLOAT16 = "bfloat16"  # NumPy does not know it: its bytes travel as they are
BUNDLE = "safetensors"
"""Name and serialisation type of the array that holds small tensors."""
SMALL_BYTES = 2**18
"""An array of fewer bytes is small. Large ones keep a request of their own, which
costs little beside their bytes, and are not copied for the journey."""


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
        {
            name: _array(_narrow(name, state[name], WIRES[wire]))
            for name in sorted(state)
        }
    )


def decode(record: ArrayRecord) -> dict[str, Tensor]:
    """Turn a record into named tensors, sorted by name, that own their memory.

    Args:
        record: Of `encode`, also after `bundle`, or of Flower's own arrays.

    Returns:
        CPU tensors; half-width numbers as float32.

    Raises:
        WeightsError: If the bytes of an array are not what it says of itself.
    """
    found = {}
    for name, array in record.items():
        try:
            stored = _unpack(array) if _is_bundle(array) else {name: _read(array)}
        except (SafetensorError, ValueError, TypeError, KeyError, EOFError) as error:
            raise WeightsError(
                "Weights arrived that cannot be read: an array's bytes are not of the "
                "kind that it names. Run the same version of EndoFed at both ends."
            ) from error
        found.update(stored)
    return {name: _widen(tensor) for name, tensor in sorted(found.items())}


def pack(state: Mapping[str, Tensor], wire: str = "float32") -> ArrayRecord:
    """Turn named tensors into what travels: `bundle` of `encode`, in one go.

    A small tensor is not made an array of its own first, which with hundreds of them
    takes longer than their journey.

    Args:
        state: As for `encode`.
        wire: A key of `WIRES`.

    Returns:
        The record.

    Raises:
        ValueError: As `encode`.
    """
    if wire not in WIRES:
        raise ValueError(f"wire must be one of {', '.join(WIRES)}, got '{wire}'.")
    small: dict[str, Tensor] = {}
    large: dict[str, Tensor] = {}
    for name in sorted(state):
        narrow = _narrow(name, state[name], WIRES[wire])
        (small if narrow.nbytes < SMALL_BYTES else large)[name] = narrow
    if len(small) < 2:
        return ArrayRecord({name: _array(one) for name, one in (small | large).items()})
    arrays = {name: _array(one) for name, one in large.items()}
    # Copies: two names may stand for one memory, which safetensors refuses.
    packed = _bundled({name: one.clone() for name, one in small.items()})
    return ArrayRecord({BUNDLE: packed, **arrays})


def bundle(record: ArrayRecord) -> ArrayRecord:
    """Put the small arrays of a record together for the journey.

    Args:
        record: Of `encode`; one that is bundled already is returned as it is.

    Returns:
        A record of the same tensors; the large arrays are those of `record`.
    """
    small = {
        name: array for name, array in record.items() if len(array.data) < SMALL_BYTES
    }
    if len(small) < 2:
        return record
    packed = _bundled({name: _read(array) for name, array in small.items()})
    large = {name: array for name, array in record.items() if name not in small}
    return ArrayRecord({BUNDLE: packed, **large})


def unbundle(record: ArrayRecord) -> ArrayRecord:
    """Give every tensor its own array again, as Flower's own strategies average them.

    Args:
        record: As it arrived.

    Returns:
        A record of float32 arrays sorted by name; what needs no change is not copied.

    Raises:
        WeightsError: As `decode`.
    """
    packed = ArrayRecord(
        {
            name: array
            for name, array in record.items()
            if _is_bundle(array) or array.dtype in (BFLOAT16, "float16")
        }
    )
    if not packed:
        return record
    plain = {name: array for name, array in record.items() if name not in packed}
    plain.update(encode(decode(packed)))
    return ArrayRecord({name: plain[name] for name in sorted(plain)})


class Item(NamedTuple):
    """A tensor as it travels."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    num_bytes: int


def itemise(record: ArrayRecord) -> list[Item]:
    """List what a record carries, also inside a bundle.

    Args:
        record: Of `encode` or `bundle`.

    Returns:
        Every tensor, sorted by name; the headers around them, some bytes each, are
        not counted.
    """
    items = []
    for name, array in record.items():
        stored = _unpack(array) if _is_bundle(array) else {name: _read(array)}
        for key, tensor in stored.items():
            dtype = str(tensor.dtype).removeprefix("torch.")
            items.append(Item(key, tuple(tensor.shape), dtype, tensor.nbytes))
    return sorted(items)


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


def _narrow(name: str, tensor: Tensor, wire: torch.dtype) -> Tensor:
    """Return a tensor on the CPU as it travels; float32 is rounded."""
    plain = tensor.detach().cpu().contiguous()
    if plain.dtype != torch.float32 or wire == torch.float32:
        return plain
    narrow = plain.to(wire)
    if not bool(torch.isfinite(narrow).all()) and bool(torch.isfinite(plain).all()):
        raise ValueError(
            f"'{name}' holds {float(plain.abs().max()):.3g}, too large for wire = "
            f"'{str(wire).removeprefix('torch.')}'. Use wire = 'bfloat16'."
        )
    return narrow


def _array(tensor: Tensor) -> Array:
    if tensor.dtype != torch.bfloat16:
        return Array(tensor.numpy())
    raw = tensor.view(torch.int16).numpy()
    return Array(
        dtype=BFLOAT16, shape=tuple(tensor.shape), stype=BFLOAT16, data=raw.tobytes()
    )


def _bundled(tensors: Mapping[str, Tensor]) -> Array:
    data = safetensors.torch.save(dict(tensors))
    return Array(dtype="uint8", shape=(len(data),), stype=BUNDLE, data=data)


def _is_bundle(array: Array) -> bool:
    return bool(array.stype == BUNDLE)


def _unpack(array: Array) -> dict[str, Tensor]:
    return safetensors.torch.load(array.data)


def _read(array: Array) -> Tensor:
    """Return an array's numbers as they travelled."""
    if array.dtype == BFLOAT16:
        raw = np.frombuffer(array.data, dtype=np.int16).copy()
        return torch.from_numpy(raw).view(torch.bfloat16).reshape(array.shape)
    return torch.from_numpy(np.require(array.numpy(), requirements=["W", "O"]))


def _widen(tensor: Tensor) -> Tensor:
    is_narrow = tensor.dtype in (torch.bfloat16, torch.float16)
    return tensor.float() if is_narrow else tensor
