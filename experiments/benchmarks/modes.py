"""The ways in which the benchmark of networks runs a forward pass."""

import copy
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from models.inference import optimise_for_inference

MODES = ("eager", "channels-last", "fused", "bf16", "compiled")
COMPILERS = ("c++", "g++", "clang++")

Run = Callable[[], Tensor]


def in_mode(network: nn.Module, images: Tensor, mode: str) -> Run:
    """Return a pass through a network in one mode.

    Args:
        network: In evaluation mode, on the device of the images; not changed.
        images: (batch, 1, size, size).
        mode: One of `MODES`: channels-last stores a pixel's channels side by side,
            fused folds batch normalisations into convolutions, bf16 is autocast.

    Returns:
        A function without arguments that returns the logits. A compiled one compiles
        when it is called first.

    Raises:
        RuntimeError: If the mode needs a C++ compiler and there is none.
    """
    module, inputs = network, images
    context: Callable[[], AbstractContextManager[Any]] = nullcontext
    if mode == "channels-last":
        # A copy: the other modes keep the usual order.
        module = copy.deepcopy(network).to(memory_format=torch.channels_last)
        inputs = images.to(memory_format=torch.channels_last)
    elif mode == "fused":
        module = optimise_for_inference(network)
    elif mode == "bf16":

        def context() -> AbstractContextManager[Any]:
            return torch.autocast(images.device.type, dtype=torch.bfloat16)

    elif mode == "compiled":
        _check_compiler(images.device)
        module = torch.compile(network)

    def run() -> Tensor:
        with torch.inference_mode(), context():
            logits: Tensor = module(inputs)
        return logits

    return run


def _check_compiler(device: torch.device) -> None:
    names = [name for name in (os.environ.get("CXX"), *COMPILERS) if name]
    if device.type == "cpu" and not any(shutil.which(name) for name in names):
        raise RuntimeError(
            "torch.compile needs a C++ compiler on a CPU and none was found "
            f"({', '.join(names)}); install one or set CXX."
        )
