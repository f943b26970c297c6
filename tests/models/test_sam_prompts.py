import pytest
import torch

from models.registry import build_model
from models.sam import Sam
from models.sam_prompts import Prompts, boxes_around

SIZE = 64


@pytest.fixture(scope="module")
def model() -> Sam:
    network = build_model("sam-tiny", image_size=SIZE, seed=0).eval()
    network.detail = None  # the original architecture
    network.logit_bias = None
    return network


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


POINTS = torch.tensor([[[10.0, 20.0], [40.0, 5.0]]]).repeat(3, 1, 1) + torch.arange(
    3
).view(3, 1, 1)
LABELS = torch.tensor([[1, 0]]).repeat(3, 1)
BOXES = torch.tensor([[5.0, 6.0, 40.0, 50.0]]).repeat(3, 1) + torch.arange(3).view(3, 1)
MASKS = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize(
    "prompts",
    [
        {"boxes": BOXES},
        {"points": POINTS, "point_labels": LABELS},
        {"masks": MASKS},
        {"points": POINTS, "point_labels": LABELS, "boxes": BOXES, "masks": MASKS},
    ],
)
def test_prompts_of_a_batch_do_what_the_original_does_image_by_image(
    model: Sam, images: torch.Tensor, prompts: dict[str, torch.Tensor], batch: int
) -> None:
    given = {name: part[:batch] for name, part in prompts.items()}
    with torch.no_grad():
        features = model.encode(images[:batch])
        ours = model.decode(features, images[:batch], Prompts(**given))
        for index in range(batch):
            one = Prompts(**{k: part[index : index + 1] for k, part in given.items()})
            sparse, dense = model.prompt_encoder(one.pair(), one.boxes, one.masks)
            masks, _ = model.mask_decoder(
                image_embeddings=features[index : index + 1],
                image_pe=model.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse.expand(1, -1, -1),
                dense_prompt_embeddings=dense,
                multimask_output=True,
            )
            torch.testing.assert_close(ours[index], masks[0], atol=1e-4, rtol=1e-4)


def test_a_prompt_changes_the_answer(model: Sam, images: torch.Tensor) -> None:
    with torch.no_grad():
        without = model(images)
        with_box = model.forward_with_features(images, Prompts(boxes=BOXES)).logits
    assert with_box.shape == without.shape
    assert not torch.allclose(with_box, without, atol=1e-3)


def test_a_box_goes_around_the_mask_and_around_all_where_there_is_none() -> None:
    masks = torch.zeros(2, 20, 30)
    masks[0, 4:9, 7:12] = 1
    assert boxes_around(masks).tolist() == [[7, 4, 11, 8], [0, 0, 29, 19]]
    assert boxes_around(masks, margin_px=6)[0].tolist() == [1, 0, 17, 14]


def test_prompts_that_do_not_fit_are_refused(model: Sam, images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="come together"):
        Prompts(points=POINTS)
    with pytest.raises(ValueError, match="were wanted"):
        Prompts(points=POINTS, point_labels=LABELS[:, :1])
    with pytest.raises(ValueError, match=r"boxes must be \(batch, 4\)"):
        Prompts(boxes=BOXES[:, :3])
    with pytest.raises(ValueError, match=r"one batch size, got \[1, 3\]"):
        Prompts(boxes=BOXES, masks=MASKS[:1])
    with pytest.raises(ValueError, match="for 3 image"):
        model.forward_with_features(images, Prompts(boxes=BOXES[:2]))
