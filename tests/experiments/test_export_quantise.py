"""Half precision where a deformable convolution looks: there it stays float32."""

from pathlib import Path

import numpy as np
import onnx
import torch

from experiments.exporting.onnx_export import INPUT, OUTPUT, open_session, write_graph
from experiments.exporting.quantise import _to_half
from models.deformable import DeformableConvolution


class Moved(torch.nn.Module):
    """Offsets from a convolution, as in FGA-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = torch.nn.Conv2d(1, 18, 3, padding=1)
        self.deform = DeformableConvolution(1, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.deform(images, self.offset(images))


def test_positions_are_never_rounded_to_half_precision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer, whole = Moved().eval(), tmp_path / "whole.onnx"
    shapes = ({0: torch.export.Dim("batch", min=1, max=64)},)
    write_graph(layer, torch.rand(2, 1, 16, 400), whole, shapes=shapes, metadata={})
    _to_half(whole, tmp_path / "half.onnx")

    model = onnx.load(tmp_path / "half.onnx")
    onnx.checker.check_model(model)
    feeds = {name: node for node in model.graph.node for name in node.output}
    waiting = [n.input[1] for n in model.graph.node if n.op_type == "GridSample"]
    kinds = set()
    while waiting:
        node = feeds.get(waiting.pop())
        if node is not None and node.op_type not in ("Conv", "Shape"):
            kinds |= {one.i for one in node.attribute if node.op_type == "Cast"}
            waiting += node.input
    assert onnx.TensorProto.FLOAT16 not in kinds
    assert onnx.TensorProto.FLOAT in kinds

    # At column 400 half precision has steps of a quarter of a pixel: on stripes of one
    # pixel that would be an error of a quarter of their height.
    stripes = torch.arange(400).remainder(2).float().expand(3, 1, 16, 400).contiguous()
    session = open_session(tmp_path / "half.onnx", threads=1)
    (found,) = session.run([OUTPUT], {INPUT: stripes.numpy()})
    with torch.no_grad():
        expected = layer(stripes).numpy()
    np.testing.assert_allclose(found, expected, atol=4e-3)
