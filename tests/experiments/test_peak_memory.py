from pathlib import Path

import pytest
import torch

from experiments.benchmarks import peak_memory
from experiments.benchmarks.peak_memory import peak_mib

CPU = torch.device("cpu")


def filled(mib: int) -> torch.Tensor:
    return torch.ones(mib * 2**18)  # float32; written to, so that pages are real


def test_memory_freed_before_the_end_counts() -> None:
    def run() -> float:
        return filled(64).sum().item()

    run()
    assert peak_mib(run, CPU) == pytest.approx(64, abs=4)


def test_the_peak_counts_and_not_the_sum() -> None:
    def run() -> None:
        for mib in (16, 64, 32):
            filled(mib).sum()

    run()
    assert peak_mib(run, CPU) == pytest.approx(64, abs=4)


def test_room_left_between_blocks_in_use_does_not_blur_the_peak() -> None:
    def run() -> None:
        for mib in (16, 64, 32):
            filled(mib).sum()

    peak_mib(run, CPU)  # from now on glibc keeps blocks of up to 32 MiB in its heap
    blocks = [torch.ones(size) for size in (2**22, 2**10) * 8]
    kept = blocks[1::2]  # a small block above every large one that is freed
    del blocks
    assert peak_mib(run, CPU) == pytest.approx(64, abs=4)
    assert len(kept) == 8


def test_what_is_returned_counts() -> None:
    filled(64)
    assert peak_mib(lambda: filled(64), CPU) == pytest.approx(64, abs=4)


def test_memory_held_before_does_not_count() -> None:
    held = filled(128)
    held.sum()
    assert peak_mib(held.sum, CPU) < 4


def test_an_earlier_peak_does_not_count() -> None:
    filled(128)
    assert peak_mib(lambda: filled(16), CPU) == pytest.approx(16, abs=4)


def test_small_freed_blocks_are_not_taken_for_held_memory() -> None:
    def run() -> None:
        [torch.ones(2**14) for _ in range(1024)]  # 64 MiB in blocks of 64 KiB

    run()  # glibc keeps blocks of this size for itself
    assert peak_mib(run, CPU) == pytest.approx(64, abs=8)


def test_a_call_that_allocates_nothing_needs_next_to_nothing() -> None:
    assert peak_mib(lambda: None, CPU) < 1


def test_a_machine_that_does_not_tell_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(peak_memory, "_CLEAR_REFS", tmp_path / "none" / "clear_refs")
    with pytest.raises(RuntimeError, match="/proc"):
        peak_mib(lambda: None, CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_tells_the_same() -> None:
    device = torch.device("cuda")
    held = torch.ones(2**22, device=device)
    found = peak_mib(lambda: torch.ones(2**24, device=device).sum(), device)
    assert held.numel() == 2**22
    assert found == pytest.approx(64, abs=1)
