"""torch.export, PEFT adapters and official SAM keys."""

import copy
import json
from pathlib import Path

import pytest
import torch

from experiments.exporting.adapter import export_adapter
from experiments.exporting.official import export_official
from experiments.exporting.staging import ExportError, staged
from experiments.exporting.torch_export import export_torch
from experiments.model_source import ModelSource, open_model
from models.adapters import split_qkv
from models.assembly import Recipe, assemble_model
from models.network import SegmentationNetwork
from models.registry import build_model
from models.sam import Sam
from models.sam_checkpoint import official_state
from models.sam_sizes import SIZES, SamSize
from server.state_files import save_federation
from strategies.federation_state import FederationState

PLAIN = SamSize(
    width=32, depth=2, heads=2, global_blocks=(1,), window=2, embedding=32,
    decoder_width=64,
)  # fmt: skip
"""SAM without additions of ours, small."""


@pytest.mark.parametrize("name", ["sam-tiny", "unet"])
def test_a_pt2_archive_computes_the_same_after_loading(
    name: str, tmp_path: Path
) -> None:
    source = open_model("random", name=name, image_size=64, seed=2)
    path = tmp_path / "model.pt2"
    found = export_torch(source, path)
    assert max(found["differences"].values()) < 1e-4
    loaded = torch.export.load(path)
    used = {str(node.target) for node in loaded.graph.nodes if node.op != "placeholder"}
    assert not [name for name in used if "endofed" in name or "torchvision" in name]
    images = torch.rand(5, 1, 64, 64)
    with torch.no_grad():
        expected = source.network.eval()(images)
        torch.testing.assert_close(
            loaded.module()(images), expected, atol=1e-4, rtol=1e-4
        )


def lora_run(folder: Path, training: str) -> SegmentationNetwork:
    """Write what a finished LoRA run leaves; return its network."""
    recipe = Recipe("sam-tiny", 32, seed=6, training=training, lora_rank=3)
    network = assemble_model(recipe)
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for tensor in network.trainable_state().values():
            tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
    folder.mkdir()
    settings = {
        "model.name": "sam-tiny",
        "model.image-size": 32,
        "model.training": training,
        "model.lora-rank": 3,
        "model.checkpoint": "",
        "seed": 6,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    theta = {name: one.clone() for name, one in network.trainable_state().items()}
    save_federation(folder, FederationState(2, theta, {"a": theta}, seed=6))
    return network.eval()


@pytest.mark.parametrize("training", ["lora", "lora-decoder"])
def test_a_run_gives_an_adapter_that_peft_loads_on_its_base(
    training: str, tmp_path: Path
) -> None:
    from peft import PeftModel

    network = lora_run(tmp_path / "run", training)
    output = tmp_path / "out"
    output.mkdir()
    export_adapter(tmp_path / "run", output)
    adapter = output / "adapter"
    if training == "lora":
        base = build_model("sam-tiny", image_size=32, seed=6)
        assert not (adapter / "base.safetensors").exists()
    else:
        base = open_model(str(adapter / "base.safetensors")).network
    assert isinstance(base, Sam)
    plain = copy.deepcopy(base).eval()
    split_qkv(base)
    loaded = PeftModel.from_pretrained(base, str(adapter)).eval()
    images = torch.rand(3, 1, 32, 32)
    with torch.no_grad():
        expected = network(images)
        torch.testing.assert_close(loaded(images), expected, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(plain(images), expected, atol=1e-3)


def test_a_run_without_adapters_or_state_is_refused(tmp_path: Path) -> None:
    lora_run(tmp_path / "run", "lora")
    settings = tmp_path / "run" / "settings.json"
    known = json.loads(settings.read_text())
    for changes, words in (
        ({"model.training": "full"}, "got 'full'"),
        ({"model.checkpoint": "custom"}, "--base"),
        ({"model.lora-rank": 4}, "were refused"),
    ):
        settings.write_text(json.dumps({**known, **changes}))
        with pytest.raises(ExportError, match=words):
            export_adapter(tmp_path / "run", tmp_path)
    with pytest.raises(ExportError, match="adapters merged"):
        export_adapter(tmp_path / "foundation.safetensors", tmp_path)


def test_official_keys_load_strictly_in_segment_anything_with_the_same_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from functools import partial

    from segment_anything.modeling import (
        ImageEncoderViT,
        MaskDecoder,
        PromptEncoder,
        TwoWayTransformer,
    )
    from segment_anything.modeling import Sam as OriginalSam

    monkeypatch.setitem(SIZES, "sam-vit-b", PLAIN)
    monkeypatch.setattr("experiments.exporting.official.OFFICIAL_SIZE", 64)
    source = open_model("random", name="sam-vit-b", image_size=64, seed=3)
    found = export_official(source, tmp_path / "sam.pth")
    original = OriginalSam(
        image_encoder=ImageEncoderViT(
            img_size=64, patch_size=16, embed_dim=32, depth=2, num_heads=2,
            mlp_ratio=4, out_chans=32, qkv_bias=True, use_rel_pos=True, window_size=2,
            global_attn_indexes=(1,), norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=32, image_embedding_size=(4, 4), input_image_size=(64, 64),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=32, mlp_dim=64, num_heads=8
            ),
            transformer_dim=32, iou_head_depth=3, iou_head_hidden_dim=32,
        ),
    ).eval()  # fmt: skip
    state = torch.load(tmp_path / "sam.pth", weights_only=True)
    original.load_state_dict(state, strict=True)
    images = torch.rand(1, 1, 64, 64)
    colour = (images * 255).expand(-1, 3, -1, -1)[0]
    with torch.no_grad():
        (answer,) = original(
            [{"image": colour, "original_size": (64, 64)}], multimask_output=True
        )
        network = source.network.eval()
        assert isinstance(network, Sam)
        logits = network.decode(network.encode(images), images)
    masks = [token - 1 for token in found["class-masks"]["tokens"]]
    torch.testing.assert_close(
        answer["low_res_logits"][:, masks], logits, atol=1e-4, rtol=1e-4
    )


def test_a_vit_b_of_another_size_loads_in_the_registry_of_segment_anything(
    tmp_path: Path,
) -> None:
    from segment_anything import sam_model_registry

    source = open_model("random", name="sam-vit-b", image_size=64, seed=0)
    export_official(source, tmp_path / "sam.pth")
    loaded = sam_model_registry["vit_b"](checkpoint=str(tmp_path / "sam.pth"))
    assert loaded.image_encoder.img_size == 1024
    network = source.network
    assert isinstance(network, Sam)
    state = loaded.state_dict()
    same = [
        name
        for name, tensor in official_state(network).items()
        if state[name].shape == tensor.shape
    ]
    assert all(torch.equal(state[one], network.state_dict()[one]) for one in same)
    changed = official_state(network).keys() - same
    assert all("pos" in name for name in changed)  # tables of positions only


@pytest.mark.parametrize(
    ("name", "words"), [("sam-tiny", "detail, logit_bias"), ("unet", "SAM family")]
)
def test_what_official_keys_cannot_hold_is_refused(
    name: str, words: str, tmp_path: Path
) -> None:
    source: ModelSource = open_model("random", name=name, image_size=32)
    with pytest.raises(ExportError, match=words):
        export_official(source, tmp_path / "sam.pth")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_no_file_and_an_earlier_one_as_it_was(
    tmp_path: Path,
) -> None:
    with pytest.raises(ExportError), staged(tmp_path / "new") as folder:
        (folder / "half").write_text("half")
        raise ExportError("no")
    assert not (tmp_path / "new").exists()
    kept = tmp_path / "model.onnx"
    kept.write_text("before")
    with pytest.raises(ExportError), staged(tmp_path) as folder:
        (folder / "model.onnx").write_text("half")
        raise ExportError("no")
    assert kept.read_text() == "before"
    with staged(tmp_path) as folder:
        (folder / "model.onnx").write_text("after")
    assert [one.name for one in tmp_path.iterdir()] == ["model.onnx"]
    assert kept.read_text() == "after"
