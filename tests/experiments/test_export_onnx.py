import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from experiments.exporting.onnx_export import (
    INPUT,
    OPSET,
    OUTPUT,
    export_onnx,
    open_session,
    write_graph,
)
from experiments.exporting.staging import ExportError
from experiments.model_source import ModelSource, open_model
from models.attention import FusedAttention
from models.deformable import DeformableConvolution
from models.exportable import SIZE_MULTIPLES
from models.sam_sizes import SIZES


def shaken(name: str, image_size: int) -> ModelSource:
    """A network whose every part matters, offsets and statistics included."""
    source = open_model("random", name=name, image_size=image_size, seed=1)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for part in source.network.modules():
            if isinstance(part, FusedAttention) and part.use_rel_pos:
                for table in (part.rel_pos_h, part.rel_pos_w):
                    table.copy_(torch.randn(table.shape, generator=generator))
        if "fga" in name:
            source.network.train()  # gives batch normalisation its statistics
            source.network(torch.rand(2, 1, image_size, image_size))
            for key, weight in source.network.named_parameters():
                if key.endswith("offset.bias"):  # moves by fractions of pixels
                    weight.copy_(2 * torch.randn(weight.shape, generator=generator))
    return source


@dataclass(frozen=True)
class Exported:
    source: ModelSource
    path: Path
    found: dict[str, Any]


@pytest.fixture(scope="module", params=["sam-tiny", "fga-net-small", "unet"])
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    """An export takes seconds to half a minute, so each network has one."""
    source = shaken(request.param, 64)
    path = tmp_path_factory.mktemp(request.param) / "model.onnx"
    return Exported(source, path, export_onnx(source, path))


def test_onnxruntime_computes_what_the_network_computes(exported: Exported) -> None:
    differences = exported.found["differences"]
    assert max(differences.values()) < 1e-4
    name = exported.source.recipe.name
    assert ("random, another size" in differences) == (name in SIZE_MULTIPLES)
    session = open_session(exported.path, threads=1)
    network = exported.source.network.eval()
    generator = torch.Generator().manual_seed(7)
    for batch in (1, 3, 5):  # five was in no check of the export
        images = torch.rand(batch, 1, 64, 64, generator=generator)
        (logits,) = session.run([OUTPUT], {INPUT: images.numpy()})
        with torch.no_grad():
            expected = network(images).numpy()
        np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=1e-4)


def test_a_vit_of_the_official_parts_exports_at_256_px(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ViT-B but narrow and of two blocks: at 256 px its windows of 14 patches do not
    # divide the 16 there are, so they are padded, as in the large one.
    small = replace(
        SIZES["sam-vit-b"], width=32, depth=2, heads=2, global_blocks=(1,),
        embedding=32, decoder_width=64,
    )  # fmt: skip
    monkeypatch.setitem(SIZES, "sam-vit-b", small)
    source = shaken("sam-vit-b", 256)
    found = export_onnx(source, tmp_path / "model.onnx")
    assert max(found["differences"].values()) < 1e-4
    images = torch.rand(3, 1, 256, 256, generator=torch.Generator().manual_seed(1))
    session = open_session(tmp_path / "model.onnx", threads=1)
    (logits,) = session.run([OUTPUT], {INPUT: images.numpy()})
    with torch.no_grad():
        expected = source.network.eval()(images).numpy()
    assert expected.std() > 0  # or there would be nothing to compare
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=1e-4)


def test_the_file_is_valid_and_says_what_it_is_for(exported: Exported) -> None:
    model = onnx.load(exported.path)
    onnx.checker.check_model(model, full_check=True)
    known = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(known["classes"]) == ["catheter", "guidewire"]
    assert known["network"] == exported.source.recipe.name
    assert known["image-size"] == "64"
    assert len(known["weights-digest"]) == 64
    assert "Research use only" in known["limits"]
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == OPSET


def test_any_runtime_knows_its_operators(exported: Exported) -> None:
    nodes = onnx.load(exported.path).graph.node
    assert {node.domain for node in nodes} <= {"", "ai.onnx"}
    deformable = "fga" in exported.source.recipe.name
    assert ("GridSample" in {node.op_type for node in nodes}) == deformable


@pytest.mark.parametrize("modulated", [False, True])
def test_a_deformable_convolution_exports_in_both_versions(
    modulated: bool, tmp_path: Path
) -> None:
    class Alone(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = DeformableConvolution(4, 6)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            moves = images.repeat(1, 7, 1, 1)[:, :27] * 3 - 1
            mask = moves[:, 18:].sigmoid() if modulated else None
            return self.layer(images, moves[:, :18], mask)

    torch.manual_seed(0)
    layer = Alone().eval()
    example = torch.rand(2, 4, 9, 7)
    shapes = ({0: torch.export.Dim("batch", min=1, max=64)},)
    path = tmp_path / "layer.onnx"
    write_graph(layer, example, path, shapes=shapes, metadata={})
    session = open_session(path, threads=1)
    for batch in (1, 3):
        images = torch.rand(batch, 4, 9, 7)
        (found,) = session.run([OUTPUT], {INPUT: images.numpy()})
        with torch.no_grad():
            expected = layer(images).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_operator_without_counterpart_is_named(tmp_path: Path) -> None:
    class Strange(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(images).real

    path = tmp_path / "strange.onnx"
    with pytest.raises(ExportError, match=r"operator aten\.linalg_eig "):
        write_graph(
            Strange(),
            torch.rand(2, 1, 4, 4),
            path,
            shapes=({0: torch.export.Dim("batch", min=1, max=64)},),
            metadata={},
        )
    assert not path.exists()


def test_a_network_too_large_for_one_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.exporting.onnx_export.LARGEST_FILE", 1000)
    with pytest.raises(ExportError, match="2 GB"):
        export_onnx(shaken("unet", 32), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
