"""A SAM that trains with the prompts that are a batch's turn."""

import pytest
import torch
from torch import Tensor

from clients.data.batches import Batch
from clients.prompted_pass import TURNS, PromptedPass
from models.network import SegmentationNetwork, SegmentationOutput
from models.registry import build_model
from models.sam import Sam
from models.sam_prompts import Prompts
from strategies.settings import RunSettings, SettingsError, SettingValue


class Watched(Sam):
    """A SAM that remembers its prompts."""

    seen: list[Prompts | None]

    def forward_with_features(
        self, images: Tensor, prompts: Prompts | None = None
    ) -> SegmentationOutput:
        self.seen.append(prompts)
        return super().forward_with_features(images, prompts)


@pytest.fixture
def sam() -> Watched:
    model = build_model("sam-mini", image_size=32, seed=0)
    model.__class__ = Watched
    model.seen = []
    return model


def make_batch() -> Batch:
    masks = torch.zeros(2, 2, 32, 32, dtype=torch.uint8)
    masks[0, 0, 4:9, 6:20] = 1
    masks[1, 1, 10:12, 3:30] = 1  # of a class that nobody annotated
    return Batch(
        images=torch.rand(2, 1, 32, 32),
        masks=masks,
        annotated=torch.tensor([[True, False], [True, False]]),
        valid=torch.ones(2, 1, 32, 32, dtype=torch.bool),
        sequences=torch.arange(2),
    )


def test_half_of_the_batches_have_no_prompt(sam: Watched) -> None:
    look = PromptedPass("mixed", seed=1)
    for _ in range(2 * len(TURNS)):
        look(sam, make_batch())
    kinds = [
        "none" if one is None else "points" if one.boxes is None else "box"
        for one in sam.seen
    ]
    assert kinds == [*TURNS, *TURNS]


def test_a_box_is_around_what_is_annotated(sam: Watched) -> None:
    look = PromptedPass("mixed", seed=1)
    look(sam, make_batch())
    look(sam, make_batch())
    prompts = sam.seen[1]
    assert prompts is not None
    assert prompts.boxes.tolist() == [[6, 4, 19, 8], [0, 0, 31, 31]]


def test_the_seed_decides_the_points(sam: Watched) -> None:
    for seed in (1, 1, 2):
        look = PromptedPass("mixed", seed)
        for _ in TURNS:
            look(sam, make_batch())
    first, again, other = (sam.seen[4 * n + 3].points for n in range(3))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("prompts", "name"), [("none", "sam-mini"), ("mixed", "unet")])
def test_without_the_setting_or_without_a_sam_there_are_none(
    prompts: str, name: str
) -> None:
    model: SegmentationNetwork = build_model(name, image_size=32, seed=0).eval()
    look, batch = PromptedPass(prompts, seed=1), make_batch()
    with torch.no_grad():
        for _ in TURNS:
            assert torch.equal(look(model, batch).logits, model(batch.images))


def test_prompts_for_another_network_are_refused(
    run_config: dict[str, SettingValue],
) -> None:
    config = {**run_config, "model.name": "unet", "train.prompts": "mixed"}
    with pytest.raises(SettingsError, match="for the SAM family"):
        RunSettings.from_run_config(config)
