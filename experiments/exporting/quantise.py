"""Smaller ONNX: half precision and eight bits.

Eight bits by onnxruntime: transformers dynamically (weights, and activations as they
come), convolutional networks statically with calibrated QDQ nodes. Where a deformable
convolution looks is computed in float32 in all of them: a position of 200 px has a
quarter of a pixel of rounding in half precision, and more than a pixel in eight bits.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.frames import Frames
from clients.data.tiles import predict_tiled
from experiments.exporting.frames import ExportFrames
from experiments.exporting.gains import one_by_one
from experiments.exporting.onnx_export import INPUT, open_session
from experiments.exporting.staging import ExportError
from experiments.model_source import ModelSource
from models.classes import CLASS_NAMES
from models.exportable import size_multiple

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

PRECISIONS = ("float32", "fp16", "int8")
_ENDS_OF_POSITIONS = ("Conv", "Sigmoid", "Gemm", "MatMul", "Shape")


def quantise(
    source: ModelSource, graph: Path, target: Path, precision: str, data: ExportFrames
) -> str:
    """Write a smaller copy of a graph.

    Args:
        source: The model of the graph.
        graph: Of `export_onnx`.
        target: File to write.
        precision: "fp16" or "int8".
        data: Calibrates a static quantisation.

    Returns:
        How it was done, in words.

    Raises:
        ExportError: If onnxruntime cannot convert the graph.
    """
    try:
        if precision == "fp16":
            how = _to_half(graph, target)
        elif size_multiple(source.recipe.name):
            how = _to_static_int8(source, graph, target, data.calibration)
        else:
            how = _to_dynamic_int8(graph, target)
        open_session(target, threads=1)  # a graph that does not load is no export
    except Exception as error:  # noqa: BLE001 - onnxruntime raises whatever it meets
        raise ExportError(
            f"onnxruntime cannot convert this network to {precision} "
            f"({type(error).__name__}). Export it with --precision float32."
        ) from None
    return how


def _to_half(graph: Path, target: Path) -> str:
    import onnx
    from onnxruntime.transformers.float16 import (
        DEFAULT_OP_BLOCK_LIST,
        convert_float_to_float16,
    )

    model = onnx.load(graph)
    half = convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, "GridSample"],
        node_block_list=[node.name for node in _position_nodes(model)],
    )
    _straighten(half, {node.name for node in model.graph.node})
    onnx.save(half, target)
    return "float16 weights and activations; inputs, outputs and positions float32"


def _straighten(half: "ModelProto", before: set[str]) -> None:
    """Drop casts that the converter put in twice, or to half precision and back.

    Args:
        half: Changed in place.
        before: Names of the nodes that were there before the converter.
    """
    from onnx import TensorProto
    from onnxruntime.transformers.onnx_model import OnnxModel

    def casts(node: "NodeProto | None", kind: int) -> bool:
        is_new = node is not None and node.name not in before
        return is_new and node.op_type == "Cast" and node.attribute[0].i == kind

    feeds = _producers(half)
    nodes = list({node.output[0]: node for node in half.graph.node}.values())
    straight = {}
    for node in nodes:
        above = feeds.get(node.input[0]) if node.input else None
        if casts(node, TensorProto.FLOAT) and casts(above, TensorProto.FLOAT16):
            straight[node.output[0]] = above.input[0]
    for node in nodes:
        for place, name in enumerate(node.input):
            node.input[place] = straight.get(name, name)
    kept = [node for node in nodes if node.output[0] not in straight]
    del half.graph.node[:]
    half.graph.node.extend(kept)
    OnnxModel(half).topological_sort()  # the converter appends its casts at the end


def _to_dynamic_int8(graph: Path, target: Path) -> str:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _silent():
        quantize_dynamic(
            _prepared(graph),
            target,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
    return "dynamic: weights of linear layers int8, activations uint8 as they come"


def _to_static_int8(
    source: ModelSource, graph: Path, target: Path, frames: Frames
) -> str:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    prepared = _prepared(graph)
    convolutions = [node for node in prepared.graph.node if node.op_type == "Conv"]
    feeds = _producers(prepared)
    moving = {
        feeds[name].name
        for node in _position_nodes(prepared)
        for name in node.input
        if name in feeds and feeds[name].op_type == "Conv"
    }
    with _silent():
        quantize_static(
            prepared,
            target,
            _Reader(frames, source),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "ConvTranspose", "MatMul"],
            # The last layer gives the logits: they are not rounded.
            nodes_to_exclude=sorted(moving | {convolutions[-1].name}),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    return (
        f"static QDQ: weights int8, activations uint8, calibrated (min, max) on "
        f"{len(frames)} frames; the last layer and positions float32"
    )


def _prepared(graph: Path) -> "ModelProto":
    """Fuse what can be fused; the graph keeps its metadata."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    ready = graph.with_name(f".{graph.stem}.prepared.onnx")
    try:
        with _silent():
            quant_pre_process(str(graph), str(ready), skip_symbolic_shape=True)
        model = onnx.load(ready)
    finally:
        ready.unlink(missing_ok=True)
    del model.graph.value_info[:]  # quantisation infers its own
    wanted = onnx.load(graph, load_external_data=False).metadata_props
    del model.metadata_props[:]
    model.metadata_props.extend(wanted)
    return model


def _producers(model: "ModelProto") -> "dict[str, NodeProto]":
    return {name: node for node in model.graph.node for name in node.output}


def _position_nodes(model: "ModelProto") -> "list[NodeProto]":
    """Find what lies between an offset's convolution and the sampling."""
    feeds = _producers(model)
    waiting = [
        node.input[1] for node in model.graph.node if node.op_type == "GridSample"
    ]
    found: dict[str, NodeProto] = {}
    while waiting:
        node = feeds.get(waiting.pop())
        if node is None or node.op_type in _ENDS_OF_POSITIONS or node.name in found:
            continue
        found[node.name] = node
        waiting += node.input
    return list(found.values())


class _Reader:
    """Calibration frames, one at a time, as onnxruntime asks for them."""

    def __init__(self, frames: Frames, source: ModelSource) -> None:
        self._images = iter(_tiles(frames, source))

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next input, None at the end."""
        image = next(self._images, None)
        return None if image is None else {INPUT: image}


def _tiles(frames: Frames, source: ModelSource) -> Iterator[NDArray[np.float32]]:
    """Yield what the network sees of every frame."""
    size = source.network.image_size
    for image in one_by_one(frames, source.data):
        if image.shape[-1] == size:
            yield image
            continue
        seen: list[NDArray[np.float32]] = []

        def keep(tile: torch.Tensor, seen: list[Any] = seen) -> torch.Tensor:
            seen.append(tile.numpy().copy())
            return tile.expand(-1, len(CLASS_NAMES), -1, -1)

        predict_tiled(keep, torch.from_numpy(image), size)
        yield from seen


class _silent:
    """Keep onnxruntime's advice from the screen."""

    def __enter__(self) -> None:
        """Raise the threshold of its logger, which is the root one."""
        self._level = logging.root.level
        logging.root.setLevel(logging.CRITICAL)

    def __exit__(self, *_: object) -> None:
        """Put it back."""
        logging.root.setLevel(self._level)
