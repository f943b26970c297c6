"""How much memory one call needs, on a GPU or on a CPU (Linux).

On a GPU the allocator of PyTorch counts. On a CPU the kernel does: it keeps the largest
resident size of the process (`VmHWM`), which can be set back before the call (proc(5),
`/proc/pid/clear_refs`, value 5). Call `run` once before measuring: the first call also
loads code and fills caches.
"""

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

MIB = 2**20
_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"

# mallopt(3), and where glibc's own thresholds stop growing on a 64-bit machine.
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_SMALL_BLOCK = 64 * 1024
_LARGEST_THRESHOLD = 32 * MIB
_LARGEST_ROOM = 4096 * MIB


def peak_mib(
    run: Callable[[], object], device: torch.device, *, is_exact: bool = True
) -> float:
    """Measure the most memory that one call needed above what was held before it.

    What the call returns is freed after it and counts. On a CPU everything that the
    process does meanwhile counts, to within a MiB: measure in one thread of Python.

    Args:
        run: Called once.
        device: A GPU, or the CPU of a Linux machine.
        is_exact: On a CPU, keep freed blocks from being counted. It slows everything
            that allocates often; in a fresh process and for large numbers leave it.

    Returns:
        MiB, >= 0.

    Raises:
        RuntimeError: If this machine does not tell the memory of a process.
    """
    gc.collect()
    if device.type == "cuda":
        return _peak_of_gpu(run, device)
    return _peak_of_process(run, is_exact)


def _peak_of_gpu(run: Callable[[], object], device: torch.device) -> float:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / MIB


def _peak_of_process(run: Callable[[], object], is_exact: bool) -> float:
    with _blocks_returned_when_freed() if is_exact else nullcontext():
        try:
            _CLEAR_REFS.write_text(_RESET_PEAK, encoding="ascii")
            before = _status_kib("VmRSS")
        except OSError:
            raise RuntimeError(
                "Peak memory on a CPU is read from Linux's /proc, which this machine "
                "does not offer; measure on Linux or on a GPU."
            ) from None
        run()
        # The kernel counts in batches per thread: the two may disagree by some pages.
        return max(0.0, (_status_kib("VmHWM") - before) / 1024)


@contextmanager
def _blocks_returned_when_freed() -> Iterator[None]:
    """Keep glibc from holding back freed blocks, which would count although unused.

    Blocks are mapped and unmapped one by one, and the room that earlier calls left
    between blocks in use is taken. Afterwards glibc holds back as much as it comes to
    by itself in a long run.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "malloc_trim"):  # another C library: measure as it is
        yield
        return
    library.malloc.restype = ctypes.c_void_p
    library.malloc.argtypes = [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    library.mallopt(_MMAP_THRESHOLD, _SMALL_BLOCK)
    library.malloc_trim(0)
    taken = _take_room(library)
    try:
        yield
    finally:
        for address in taken:
            library.free(address)
        library.mallopt(_MMAP_THRESHOLD, _LARGEST_THRESHOLD)
        library.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_THRESHOLD)


def _take_room(library: ctypes.CDLL) -> list[int]:
    """Allocate, untouched, all room of the heap that a large block could take."""
    taken: list[int] = []
    size = _LARGEST_ROOM
    while size >= _SMALL_BLOCK:
        address = library.malloc(size)
        if address is None:
            size //= 2
        elif _is_mapped(address):  # no such room left
            library.free(address)
            size //= 2
        else:
            taken.append(address)
    return taken


def _is_mapped(address: int) -> bool:
    """Return whether glibc mapped this block by itself: the second bit of its size."""
    before = address - ctypes.sizeof(ctypes.c_size_t)
    return bool(ctypes.c_size_t.from_address(before).value & 2)


def _status_kib(field: str) -> int:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise OSError(f"{_STATUS} has no {field}")
