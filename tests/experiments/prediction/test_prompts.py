from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from clients.data.errors import DataError
from clients.data.placement import Placement
from clients.data.preprocessing import prepare_frame
from experiments.model_source import open_model
from experiments.prediction.predictor import Predictor
from experiments.prediction.prompts import PixelPrompts


def test_prompts_are_moved_to_the_pixels_of_the_network() -> None:
    # 40 rows, 80 columns: 20 rows of padding above, then a scale of 32 / 80.
    placement = Placement.of((40, 80), 32)
    prompts = PixelPrompts.parse("9.5,19.5,49.5,29.5", "0,0,1;79,39,0")
    placed = prompts.place([placement, placement])
    # x: (9.5 + 0.5) * 0.4 - 0.5 = 3.5; y: (19.5 + 0.5 + 20) * 0.4 - 0.5 = 15.5
    expected = torch.tensor([3.5, 15.5, 19.5, 19.5])
    assert torch.allclose(placed.boxes, expected.repeat(2, 1))
    # (0 + 0.5) * 0.4 - 0.5 = -0.3; (0.5 + 20) * 0.4 - 0.5 = 7.7; 31.3; 23.3
    points = torch.tensor([[-0.3, 7.7], [31.3, 23.3]])
    assert torch.allclose(placed.points, points.repeat(2, 1, 1), atol=1e-5)
    assert placed.point_labels.tolist() == [[1, 0], [1, 0]]


@pytest.mark.parametrize(
    ("box", "points"),
    [("1,2,3", ""), ("5,5,1,9", ""), ("", "1,2"), ("", "1,2,5"), ("", "a,b,1"),
     ("nan,1,2,3", "")],
)  # fmt: skip
def test_what_is_no_prompt_is_refused(box: str, points: str) -> None:
    with pytest.raises(DataError, match=r"--(box|points) wants"):
        PixelPrompts.parse(box, points)


def test_a_prompt_outside_the_frame_is_refused() -> None:
    prompts = PixelPrompts.parse("", "41,10,1")
    with pytest.raises(DataError, match="outside the frame of 40×60 px"):
        prompts.place([Placement.of((60, 40), 32)])


def test_a_box_changes_what_a_sam_sees_and_other_networks_refuse_it() -> None:
    sam = open_model("random", name="sam-tiny", image_size=32, seed=1)
    predictor = Predictor(sam, device=torch.device("cpu"))
    grey = np.random.default_rng(0).uniform(0, 255, (40, 80))
    prepared = prepare_frame(grey, sam.data, invert=False)
    prompts = PixelPrompts.parse("10,5,60,30", "")
    predictor.check_prompts(prompts, 32)
    plain = predictor.probabilities([prepared, prepared])
    prompted = predictor.probabilities([prepared, prepared], prompts)
    assert prompted.shape == plain.shape == (2, 2, 32, 32)
    assert np.abs(prompted - plain).max() > 1e-4
    with pytest.raises(DataError, match="tile by tile"):
        predictor.check_prompts(prompts, 64)
    other = open_model("random", name="unet", image_size=32)
    with pytest.raises(DataError, match="takes no prompts"):
        Predictor(other, device=torch.device("cpu")).check_prompts(prompts, 32)


def test_half_precision_and_folding_change_little() -> None:
    unet = open_model("random", name="unet", image_size=32)
    grey = np.random.default_rng(0).uniform(0, 255, (32, 32))
    prepared = [prepare_frame(grey, unet.data, invert=False)]
    cpu = torch.device("cpu")
    plain = Predictor(unet, device=cpu).probabilities(prepared)
    folded = Predictor(unet, device=cpu, folded=True).probabilities(prepared)
    half = Predictor(unet, device=cpu, precision="bf16").probabilities(prepared)
    assert np.abs(folded - plain).max() < 1e-5
    assert 0 < np.abs(half - plain).max() < 0.05


def test_a_compiled_network_predicts_what_the_plain_one_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unet = open_model("random", name="unet", image_size=32)
    passed = []

    def compiler(network: torch.nn.Module) -> Callable[[Tensor], Tensor]:
        return lambda images: passed.append(len(images)) or network(images)

    monkeypatch.setattr(torch, "compile", compiler)  # the real one takes a minute
    grey = np.random.default_rng(0).uniform(0, 255, (32, 32))
    prepared = [prepare_frame(grey, unet.data, invert=False)] * 3
    cpu = torch.device("cpu")
    compiled = Predictor(unet, device=cpu, compiled=True).probabilities(prepared)
    assert passed == [3]
    assert np.array_equal(compiled, Predictor(unet, device=cpu).probabilities(prepared))
