"""The loader benchmark runs, on a few small frames, and what it writes adds up."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from experiments.benchmarks.loader import PREPARED_FROM, main
from experiments.benchmarks.loader_archive import drop_from_memory, write_archive


def test_the_benchmark_measures_everything_and_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results" / "loader.json"
    small = "--frames 62 --size 32 --source-size 48 --seconds 0.01 --models sam-tiny"
    main([*small.split(), "--folder", str(tmp_path), "--output", str(output)])
    result = json.loads(output.read_text())
    assert list(result["seconds-to-first-batch"]) == list(PREPARED_FROM)
    assert min(result["seconds-to-first-batch"].values()) > 0
    rates = result["loader-frames-per-second"]
    assert len(rates) == 4
    consumed = result["training-frames-per-second"]["sam-tiny"]
    assert result["loader-over-training"]["sam-tiny"] == pytest.approx(
        rates["stored, light"] / consumed
    )
    memory = result["memory-mib"]
    assert memory["in-memory-calculated"] == pytest.approx(62 * 32 * 32 * 7 / 2**20)
    assert memory["peak"] > memory["before"] > 0
    assert "--frames 62" in result["command"]
    assert result["settings"]["batch-size"] == 8
    assert str(tmp_path) not in json.dumps({**result, "command": ""})
    assert "training sam-tiny" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_the_archive_holds_different_frames_with_their_masks(tmp_path: Path) -> None:
    written = write_archive(tmp_path / "a", num_frames=45, size=64, seed=3)
    images = sorted((tmp_path / "a" / "images").iterdir())
    masks = sorted((tmp_path / "a" / "masks").iterdir())
    assert [path.name for path in images] == [path.name for path in masks]
    assert len({path.read_bytes() for path in images}) == 45
    assert len({path.stem.split("_")[0] for path in images}) == 3
    assert written == sum(path.stat().st_size for path in [*images, *masks])
    shown = cv2.imread(str(images[0]), cv2.IMREAD_UNCHANGED)
    mask = cv2.imread(str(masks[0]), cv2.IMREAD_UNCHANGED)
    assert shown.shape == mask.shape == (64, 64)
    assert set(np.unique(mask)) <= {0, 1, 2, 3}
    assert mask.any()


def test_the_same_seed_writes_the_same_archive(tmp_path: Path) -> None:
    contents = []
    for name in "ab":
        write_archive(tmp_path / name, num_frames=3, size=64, seed=1)
        files = sorted((tmp_path / name).rglob("*.png"))
        contents.append([path.read_bytes() for path in files])
    assert contents[0] == contents[1]


def test_dropping_tells_a_share_and_keeps_the_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 10_000)
    assert drop_from_memory(tmp_path) in (0.0, 1.0)  # 0 on a memory file system
    assert (tmp_path / "file").read_bytes() == b"x" * 10_000
