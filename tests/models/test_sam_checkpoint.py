"""Official files, made with random weights by the original builder's modules."""

import os
from pathlib import Path

import pytest
import torch

from models.registry import build_model
from models.sam import Sam
from models.sam_checkpoint import load_official, save_official
from models.torchvision_ops import make_torchvision_importable
from models.weights import WeightsError

make_torchvision_importable()

from segment_anything import build_sam_vit_b  # noqa: E402


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT-B file as published: 1024 px, original keys, random weights."""
    torch.manual_seed(7)
    network = build_sam_vit_b()
    for name, parameter in network.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:  # zero at birth
            torch.nn.init.normal_(parameter, std=0.02)
    path = tmp_path_factory.mktemp("official") / "sam_vit_b.pth"
    torch.save(network.state_dict(), path)
    return path


def test_an_official_file_loads_at_its_own_size_without_changing_a_number(
    official: Path, tmp_path: Path
) -> None:
    model = build_model("sam-vit-b", image_size=1024, seed=0)
    load_official(model, official)
    save_official(model, tmp_path / "again.pth")
    before = torch.load(official, weights_only=True)
    after = torch.load(tmp_path / "again.pth", weights_only=True)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_it_predicts_what_the_original_predicts_at_a_smaller_size(
    official: Path, tmp_path: Path
) -> None:
    model = build_model("sam-vit-b", image_size=64, seed=0).eval()
    load_official(model, official)
    images = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    reference = small_original(model, tmp_path)
    colour = images.expand(-1, 3, -1, -1) * 255
    with torch.no_grad():
        features = reference.image_encoder(reference.preprocess(colour))
        sparse, dense = reference.prompt_encoder(None, None, None)
        masks, _ = reference.mask_decoder(
            image_embeddings=features,
            image_pe=reference.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        ours = model.encode(images)
        torch.testing.assert_close(ours, features, atol=1e-4, rtol=1e-4)
        found = model.decode(ours, images)
        torch.testing.assert_close(found, masks[:, :2], atol=1e-4, rtol=1e-4)


def small_original(model: Sam, folder: Path) -> torch.nn.Module:
    """Build segment_anything's own ViT-B for 64 px and load our export strictly."""
    save_official(model, folder / "small.pth")
    state = torch.load(folder / "small.pth", weights_only=True)
    reference = build_sam_vit_b()
    encoder, prompts = reference.image_encoder, reference.prompt_encoder
    encoder.img_size = 64
    encoder.pos_embed = torch.nn.Parameter(torch.zeros(1, 4, 4, 768))
    for block in encoder.blocks:
        if block.window_size == 0:
            block.attn.rel_pos_h = torch.nn.Parameter(torch.zeros(7, 64))
            block.attn.rel_pos_w = torch.nn.Parameter(torch.zeros(7, 64))
    prompts.image_embedding_size, prompts.input_image_size = (4, 4), (64, 64)
    reference.load_state_dict(state, strict=True)
    return reference.eval()


def test_position_tables_are_stretched_and_not_cut(official: Path) -> None:
    model = build_model("sam-vit-b", image_size=256, seed=0)
    load_official(model, official)
    large = torch.load(official, weights_only=True)["image_encoder.pos_embed"]
    small = model.image_encoder.pos_embed
    assert small.shape == (1, 16, 16, 768)
    # Bilinear at a quarter of the size: the mean of the two middle ones of four.
    expected = large[:, 1::4, 1::4] + large[:, 2::4, 1::4]
    expected = (expected + large[:, 1::4, 2::4] + large[:, 2::4, 2::4]) / 4
    torch.testing.assert_close(small.detach(), expected)


def test_other_files_are_refused_and_say_what_was_wanted(
    official: Path, tmp_path: Path
) -> None:
    tiny = build_model("sam-tiny", image_size=64, seed=0)
    with pytest.raises(WeightsError, match="of another size"):
        load_official(tiny, official)
    (tmp_path / "broken.pth").write_bytes(official.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="cannot be read"):
        load_official(tiny, tmp_path / "broken.pth")
    torch.save([1, 2, 3], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="got something else"):
        load_official(tiny, tmp_path / "list.pth")


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    torch.save({"weight": _Runs(marker)}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="cannot be read"):
        load_official(
            build_model("sam-tiny", image_size=64, seed=0), tmp_path / "evil.pth"
        )
    assert not marker.exists()


class _Runs:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.skipif(
    "SAM_CHECKPOINT" not in os.environ,
    reason="$SAM_CHECKPOINT does not name an official ViT-B file",
)
def test_a_real_official_file_loads() -> None:
    model = build_model("sam-vit-b", image_size=256, seed=0)
    load_official(model, Path(os.environ["SAM_CHECKPOINT"]))
