"""ONNX: the graph that other programs run, checked with onnxruntime.

`torch.onnx.export` with the dynamo exporter; there is no second path. The deformable
convolution of FGA-Net becomes GridSample and a matrix product
(`models/deformable.py`), as few runtimes know ONNX's DeformConv.
"""

import contextlib
import io
import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.exporting.checks import check_inputs, compare
from experiments.exporting.staging import ExportError
from experiments.model_source import ModelSource
from models.classes import CLASS_NAMES
from models.exportable import (
    Exportable,
    dynamic_shapes,
    example_images,
    size_multiple,
)
from models.network import SegmentationNetwork, SegmentationOutput
from models.weights import weights_digest
from server.checkpoints import LIMITS

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

OPSET = 20  # GridSample as it is now, and Gelu as one node
INPUT, OUTPUT = "images", "logits"
LARGEST_FILE = 2**31 - 2**20  # of protobuf, without room for the graph itself
LICENCE = "Apache-2.0 (this package and segment-anything); weights: of their training"


def export_onnx(source: ModelSource, path: Path) -> dict[str, Any]:
    """Write a network as ONNX and compare it with onnxruntime.

    Args:
        source: The model; stays as it is.
        path: File to write, in a folder that exists.

    Returns:
        For `export.json`: opset, which axes vary, the largest differences.

    Raises:
        ExportError: If the network is too large for one file, has an operator that
            ONNX has not, or the results differ.
    """
    weight = sum(tensor.nbytes for tensor in source.network.state_dict().values())
    if weight > LARGEST_FILE:
        raise ExportError(
            f"One ONNX file holds 2 GB, this network has {weight / 1e9:.1f} GB of "
            "weights. Export it with --to torch-export."
        )
    name = source.recipe.name
    any_size = size_multiple(name) > 0
    plain = Exportable(source.network, any_size=any_size)
    write_graph(
        plain,
        example_images(source.network),
        path,
        shapes=dynamic_shapes(name),
        metadata=metadata_of(source),
    )
    found = OnnxNetwork(path, source.network)
    differences = compare(plain, found, check_inputs(source))
    return {
        "opset": OPSET,
        "exporter": f"torch {torch.__version__}, dynamo",
        "input": f"{INPUT}: float32 (batch, 1, height, width)",
        "output": f"{OUTPUT}: float32 (batch, {len(CLASS_NAMES)}, height, width)",
        "dynamic-batch": True,
        "size": f"any multiple of {size_multiple(name)} px, at least "
        f"{2 * size_multiple(name)}"
        if any_size
        else f"{source.network.image_size} px",
        "differences": differences,
    }


def write_graph(
    module: nn.Module,
    example: Tensor,
    path: Path,
    *,
    shapes: tuple[dict[int, Any]],
    metadata: Mapping[str, str],
) -> None:
    """Translate a module.

    Args:
        module: In evaluation mode.
        example: Of its one argument.
        path: File to write.
        shapes: Which axes vary.
        metadata: Texts to keep in the file.

    Raises:
        ExportError: If it cannot be translated; names the operator where one is to
            blame.
    """
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=shapes,
                verbose=False,
            )
    except Exception as error:  # noqa: BLE001 - the exporter raises whatever it meets
        raise ExportError(
            f"ONNX cannot hold this network: {_blame(error)}. Export it with --to "
            "torch-export, or choose another network."
        ) from None
    if program is None:
        raise ExportError("The exporter returned nothing; please report it.")
    program.model.metadata_props.update(metadata)
    graph = program.model_proto
    # Shapes in between, which every reader infers: after the exporter's optimiser some
    # of them are those of earlier nodes, which quantisation refuses.
    del graph.graph.value_info[:]
    path.write_bytes(graph.SerializeToString())


def metadata_of(source: ModelSource) -> dict[str, str]:
    """Return what a user of the graph has to know, as texts.

    Args:
        source: The model.
    """
    data = source.data
    return {
        "producer": "endofed",
        "network": source.recipe.name,
        "kind": source.kind,
        "classes": json.dumps(CLASS_NAMES),
        "output": "one sigmoid a class; a logit above 0 is a device",
        "image-size": str(source.network.image_size),
        "normalisation": "grey values clipped at the percentiles "
        f"{data.clip_percentile} and {100 - data.clip_percentile} of the valid region "
        "and scaled to 0 to 1"
        + (", then z-scores over it" if data.normalise == "z-score" else "")
        + "; 0 behind the collimator",
        "frame-size": str(data.frame_size),
        "crop": data.crop,
        "polarity": data.polarity,
        "weights-digest": digest_of(source),
        "licence": LICENCE,
        "limits": LIMITS,
    }


def digest_of(source: ModelSource) -> str:
    """Return the digest of the card, or of all tensors where there is none."""
    digest = source.card.get("weights-digest")
    return str(digest or weights_digest(source.network.state_dict()))


class OnnxNetwork(SegmentationNetwork):
    """An ONNX file behind the interface of a network, on the CPU."""

    def __init__(
        self, path: Path, like: SegmentationNetwork, *, threads: int = 0
    ) -> None:
        """Open a file.

        Args:
            path: Of `export_onnx`, or quantised.
            like: Has its size and classes.
            threads: Of one pass; 0 = as many as PyTorch has.
        """
        super().__init__()
        self.image_size, self.num_classes = like.image_size, like.num_classes
        self.session = open_session(path, threads or torch.get_num_threads())

    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        """Segment images; a graph gives no features."""
        found = self.session.run([OUTPUT], {INPUT: images.numpy().astype(np.float32)})
        return SegmentationOutput(torch.from_numpy(found[0]), images.new_empty(0))


def open_session(path: Path, threads: int) -> "InferenceSession":
    """Open a graph on the CPU, without chatter.

    Args:
        path: Of the file.
        threads: Of one pass, >= 1.
    """
    import onnxruntime  # takes a second

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )


def _blame(error: BaseException) -> str:
    """Find the operator in the texts of an error and its causes."""
    texts = []
    cause: BaseException | None = error
    while cause is not None and len(texts) < 10:
        texts.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    for text in texts:
        for pattern in (
            r"OpOverload\(op='([\w.:]+)'",
            r"No ONNX function found for <?([\w.:]+)",
            r"operator '?([\w]+::[\w.]+)",
        ):
            match = re.search(pattern, text)
            if match:
                return f"the operator {match[1]} has no counterpart"
    return f"the exporter failed ({type(error).__name__})"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and warnings from the screen."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
