from pathlib import Path

import pytest
import torch

from clients.data.errors import DataError
from experiments.adaptation.rows import pack, unpack
from experiments.adaptation.stage_files import (
    Computed,
    StageFiles,
    digest_of,
    frames_from_tensors,
    frames_to_tensors,
)
from tests.experiments.adaptation.small_study import small_target


class Work:
    """Counts how often it is done."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> Computed:
        self.times += 1
        return {"weights": torch.full((2,), float(self.times))}, {"said": self.times}


def test_a_stage_is_computed_once_and_read_back(tmp_path: Path) -> None:
    work, heard = Work(), []
    files = StageFiles(tmp_path / "stages", on_stage=lambda *one: heard.append(one))
    first = files.get("coarse", {"seed": 0}, work)
    again = StageFiles(tmp_path / "stages").get("coarse", {"seed": 0}, work)
    assert work.times == 1
    assert heard == [("coarse", False)]
    assert again.tensors["weights"].tolist() == first.tensors["weights"].tolist()
    assert again.facts == {"said": 1}
    assert again.seconds == first.seconds


def test_whatever_a_stage_depends_on_names_its_file(tmp_path: Path) -> None:
    work, files = Work(), StageFiles(tmp_path)
    keys = {
        files.get("coarse", {"seed": 0}, work).key,
        files.get("coarse", {"seed": 1}, work).key,
        files.get("fine", {"seed": 0}, work).key,
    }
    assert len(keys) == 3
    assert work.times == 3


def test_a_stage_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    files, work = StageFiles(tmp_path), Work()

    def break_off() -> Computed:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.get("coarse", {}, break_off)
    assert not list(tmp_path.iterdir())
    assert files.get("coarse", {}, work).facts == {"said": 1}


def test_a_stage_that_failed_is_not_tried_again(tmp_path: Path) -> None:
    tries = []

    def fail() -> Computed:
        tries.append(1)
        raise DataError("no label")

    files = StageFiles(tmp_path)
    for _ in range(2):
        with pytest.raises(DataError, match="no label"):
            files.get("fine", {}, fail)
    assert len(tries) == 1
    with pytest.raises(DataError):
        StageFiles(tmp_path).get("fine", {}, fail)
    assert len(tries) == 2


def test_weights_without_what_says_they_are_done_are_computed_again(
    tmp_path: Path,
) -> None:
    files, work = StageFiles(tmp_path), Work()
    files.get("coarse", {}, work).path.with_suffix(".json").unlink()
    assert files.get("coarse", {}, work).facts == {"said": 2}


@pytest.mark.parametrize("ending", [".safetensors", ".json"])
def test_a_damaged_stage_is_one_error_without_a_path(
    tmp_path: Path, ending: str
) -> None:
    files, work = StageFiles(tmp_path), Work()
    path = files.get("coarse", {}, work).path.with_suffix(ending)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DataError, match="'coarse' is damaged") as error:
        files.get("coarse", {}, work)
    assert str(tmp_path) not in str(error.value)


def test_the_order_of_what_a_stage_depends_on_does_not_matter() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 1.5})


def test_frames_come_back_as_they_were() -> None:
    frames = small_target().adaptation
    tensors = frames_to_tensors(frames)
    assert frames_from_tensors(tensors).digest() == frames.digest()
    del tensors["valid"]
    with pytest.raises(DataError, match="no frames"):
        frames_from_tensors(tensors)


@pytest.mark.parametrize("size", [7, 8, 33])
def test_packed_masks_come_back_as_they_were(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    masks = torch.randint(
        0, 2, (3, 2, size, size), generator=generator, dtype=torch.uint8
    )
    assert torch.equal(unpack(pack(masks)), masks)
