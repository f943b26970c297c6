"""Lets `segment_anything` be imported where torchvision has no compiled operators.

`import segment_anything` imports torchvision, whose Python half registers shape
functions for `torchvision::nms` and `torchvision::qnms`. Beside a torch build of
another kind (a CPU torch, a CUDA torchvision) the compiled half does not load and
that registration fails. Declaring the two operators' schemas first is enough: the
networks here call neither. Where the compiled half loads, nothing is declared.
"""

import importlib.machinery
import importlib.util
from pathlib import Path

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# The declarations live as long as the library object does.
_declared: list[torch.library.Library] = []


def compiled_operators_load() -> bool:
    """Tell whether torchvision's compiled operators work beside this torch.

    Returns:
        True when `torchvision::nms` is registered, after loading the compiled
        half if it is there.

    Raises:
        ModuleNotFoundError: If torchvision is not installed.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "segment_anything needs torchvision; install it with "
            "`pip install --constraint constraints.txt torchvision`."
        )
    if _declared:  # by us, so the operators themselves are missing
        return False
    if not _is_registered():
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            compiled = Path(spec.origin).parent / f"_C{suffix}"
            if compiled.is_file():
                try:
                    torch.ops.load_library(str(compiled))
                except OSError:  # built for another torch
                    continue
    return _is_registered()


def make_torchvision_importable() -> None:
    """Declare the two schemas when, and only when, the compiled half is missing."""
    if _declared or compiled_operators_load():
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    _declared.append(library)


def _is_registered() -> bool:
    return hasattr(torch.ops.torchvision, "nms")
