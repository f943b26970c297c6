"""A folder of simulated frames for the loader benchmark, and the page cache under it.

Frames repeat: a few are simulated, the others are these, shifted, flipped and with
another noise, so that every file is decoded for itself and none compresses better than
a real one would.
"""

import errno
import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from clients.data.simulator import DOMAINS, simulate_frames

FRAMES_PER_SEQUENCE = 20
NUM_SIMULATED = 16
NOISE = 3.0  # grey values of 255, standard deviation

_PROBES = 32  # files in which is looked whether dropping worked


def write_archive(folder: Path, *, num_frames: int, size: int, seed: int) -> int:
    """Write pairs of images and masks, and wait until they are on disk.

    Args:
        folder: Gets images/PNNNN_NN.png and masks/ of the same names, 8 bit.
        num_frames: Frames to write, >= 1.
        size: Side of a frame, px.
        seed: Of the simulator, the shifts and the noise.

    Returns:
        Bytes of all files.
    """
    generator = np.random.default_rng(seed)
    simulated = _simulate(size, seed)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    total = 0
    for number in range(num_frames):
        image, mask = simulated[number % len(simulated)]
        image, mask = _change(image, mask, generator)
        sequence, frame = divmod(number, FRAMES_PER_SEQUENCE)
        name = f"P{sequence:04d}_{frame:02d}.png"
        total += _write(folder / "images" / name, image)
        total += _write(folder / "masks" / name, mask)
    os.sync()
    return total


def drop_from_memory(folder: Path) -> float:
    """Ask the operating system to forget what it has read of a folder.

    Args:
        folder: With all that lies below; nothing of it may be mapped any more.

    Returns:
        Share of the files, of those looked at, that are really forgotten; 0 on a
        memory file system, and where the system does not tell.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    _forget(files)
    probes = files[:: max(len(files) // _PROBES, 1)]
    forgotten = sum(not _is_in_memory(path) for path in probes)
    _forget(probes)  # looking may have read them
    return forgotten / max(len(probes), 1)


def _simulate(size: int, seed: int) -> list[tuple[NDArray[np.uint8], ...]]:
    frames = simulate_frames(
        next(iter(DOMAINS)),
        patients=NUM_SIMULATED // 4,
        frames_per_patient=4,
        image_size=size,
        seed=seed,
    )
    images = (frames.images[:, 0] * 255).round().to(dtype=frames.masks.dtype)
    bits = frames.masks[:, 0] + 2 * frames.masks[:, 1]
    return list(zip(images.numpy(), bits.numpy(), strict=True))


def _change(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], generator: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    shift = tuple(generator.integers(-8, 9, 2))
    flip = 1 - 2 * generator.integers(0, 2)
    moved, label = (
        np.ascontiguousarray(np.roll(one, shift, (0, 1))[:, ::flip])
        for one in (image, mask)
    )
    noise = generator.standard_normal(moved.shape, dtype=np.float32) * NOISE
    return np.clip(np.rint(moved + noise), 0, 255).astype(np.uint8), label


def _write(path: Path, pixels: NDArray[np.uint8]) -> int:
    encoded = cv2.imencode(".png", pixels)[1].tobytes()
    path.write_bytes(encoded)
    return len(encoded)


def _forget(files: Iterable[Path]) -> None:
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # what is not on disk yet is never forgotten
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _is_in_memory(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.preadv(descriptor, [bytearray(1)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
    finally:
        os.close(descriptor)
    return True
