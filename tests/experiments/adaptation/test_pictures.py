import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from numpy.typing import NDArray
from torch import Tensor

from clients.data.errors import DataError
from clients.data.frames import FrameSet
from experiments.adaptation.pictures import (
    draw_adaptation,
    draw_cleaning,
    spread_over,
)
from experiments.overlays import CLASS_COLOURS

BOTH = ("catheter", "guidewire")
SIZE = 24


def frame_set(count: int = 3, *, labels: Tensor | None = None) -> FrameSet:
    nothing = torch.zeros(count, 2, SIZE, SIZE, dtype=torch.uint8)
    return FrameSet(
        images=torch.full((count, 1, SIZE, SIZE), 0.5),
        masks=nothing if labels is None else labels,
        annotated=torch.full((count, 2), labels is not None),
        sequences=torch.arange(count),
    )


def masks(*classes: int, count: int = 3) -> Tensor:
    found = torch.zeros(count, 2, SIZE, SIZE, dtype=torch.uint8)
    for index in classes:
        found[:, index, 4 + 10 * index : 8 + 10 * index, :] = 1
    return found


def has_colour(pixels: NDArray[np.float32], name: str) -> bool:
    wanted = np.array(to_rgb(CLASS_COLOURS[name]))
    return bool((np.abs(pixels[..., :3] - wanted).max(axis=-1) < 0.02).any())


def columns_of(path: Path, count: int) -> list[set[str]]:
    """Return the classes whose colour is in each column, without the legend."""
    pixels: NDArray[np.float32] = imread(path)
    body = pixels[: int(0.9 * len(pixels))]
    return [
        {name for name in BOTH if has_colour(part, name)}
        for part in np.array_split(body, count, axis=1)
    ]


@pytest.fixture
def captions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What stands below the panels, in the order of drawing."""
    said: list[str] = []
    monkeypatch.setattr(Axes, "set_xlabel", lambda _, text, **__: said.append(text))
    return said


def test_unlabelled_frames_are_drawn_without_truth(tmp_path: Path) -> None:
    columns = {"pseudo-label": masks(0), "direct transfer": masks(), "ours": masks(1)}
    path = draw_adaptation(
        frame_set(), columns, tmp_path / "new" / "a.png", title="T", classes=BOTH
    )
    assert columns_of(path, 4) == [set(), {"catheter"}, set(), {"guidewire"}]


def test_unlabelled_frames_have_sizes_instead_of_scores(
    tmp_path: Path, captions: list[str]
) -> None:
    draw_adaptation(
        frame_set(1),
        {"ours": masks(1, count=1)},
        tmp_path / "a.png",
        title="T",
        classes=BOTH,
    )
    assert captions == [f"px: catheter 0, guidewire {4 * SIZE}"]


def test_labelled_frames_are_drawn_beside_their_truth(
    tmp_path: Path, captions: list[str]
) -> None:
    frames = frame_set(1, labels=masks(0, count=1))
    path = draw_adaptation(
        frames,
        {"ours": masks(0, 1, count=1)},
        tmp_path / "a.png",
        title="T",
        classes=BOTH,
    )
    assert columns_of(path, 3) == [set(), {"catheter"}, set(BOTH)]
    assert captions == ["Dice: catheter 1.00, guidewire 0.00"]


def test_a_class_that_is_not_adapted_is_not_drawn(tmp_path: Path) -> None:
    for number, labels in enumerate((None, masks(0, 1))):
        path = draw_adaptation(
            frame_set(labels=labels),
            {"ours": masks(0, 1)},
            tmp_path / f"{number}.png",
            title="T",
            classes=("guidewire",),
        )
        drawn = columns_of(path, 2 if labels is None else 3)
        assert drawn[-1] == {"guidewire"}
        assert "catheter" not in set().union(*drawn)


def test_empty_masks_are_drawn_in_silence(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_adaptation(
            frame_set(), {"ours": masks()}, tmp_path / "a.png", title="T", classes=BOTH
        )


def test_cleaning_goes_from_the_frame_that_lost_least_to_the_one_that_lost_most(
    tmp_path: Path, captions: list[str]
) -> None:
    before, after = masks(1), masks(1)
    before[0, 1, 20, :10] = 1  # loses 10 px
    after[1] = 0  # loses all 96 px
    path = draw_cleaning(
        frame_set(), before, after, tmp_path / "a.png", title="T", classes=BOTH
    )
    assert captions == [
        f"px: catheter 0, guidewire {count}" for count in (96, 106, 96, 96, 96, 0)
    ]
    assert columns_of(path, 3) == [set(), {"guidewire"}, {"guidewire"}]


def test_frames_are_chosen_evenly_with_the_first_and_the_last() -> None:
    assert spread_over(torch.arange(11), 3).tolist() == [0, 5, 10]
    assert spread_over(torch.tensor([7, 3]), 6).tolist() == [7, 3]
    assert spread_over(torch.arange(5), 1).tolist() == [0]


def test_no_more_frames_than_wanted_are_drawn(
    tmp_path: Path, captions: list[str]
) -> None:
    draw_adaptation(
        frame_set(5),
        {"a": masks(count=5), "b": masks(count=5)},
        tmp_path / "a.png",
        title="T",
        classes=BOTH,
        limit=2,
    )
    assert len(captions) == 2 * 2


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(DataError, match=r"\(3, 2, 24, 24\) were wanted.*\(2, 2, 24"):
        draw_adaptation(
            frame_set(), {"ours": masks(count=2)}, path, title="T", classes=BOTH
        )
    with pytest.raises(DataError, match=r"0 prediction\(s\)"):
        draw_adaptation(frame_set(), {}, path, title="T", classes=BOTH)
    with pytest.raises(DataError, match=r"got 1.*stent"):
        draw_adaptation(
            frame_set(), {"ours": masks()}, path, title="T", classes=("stent",)
        )
    with pytest.raises(DataError, match="were wanted, one set a frame"):
        draw_cleaning(
            frame_set(), masks(), masks(count=1), path, title="T", classes=BOTH
        )
    assert not path.exists()
