"""SAM's attention beside the original: time, memory and how far numbers are apart.

    endofed benchmark attention --sizes 256,512,1024 --scope layer

The original is `Attention` of `segment_anything`, which forms the whole attention
matrix; ours is `models/attention.py`, with the same weights. A layer is one that
attends over the whole image; an encoder has blocks with windows too. Variants are
measured in turn, so that a machine that gets slower slows all of them. Training is a
forward and a backward pass down to the input, without an optimiser.
"""

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import psutil
import torch
from torch import Tensor, nn

from experiments.benchmarks.peak_memory import MIB, peak_mib
from models.attention import FusedAttention
from models.registry import build_model
from models.sam import Sam
from models.sam_sizes import PATCH_SIZE, SIZES
from models.torchvision_ops import make_torchvision_importable

make_torchvision_importable()

from segment_anything.modeling.image_encoder import Attention  # noqa: E402 - as above

NETWORKS = ("sam-vit-b", "sam-tiny")
SCOPES = ("layer", "encoder")
PRECISIONS = ("float32", "bf16")
PASSES = ("inference", "training")
ORIGINAL = "original"
OURS = "ours"
CHECKPOINTED = "ours, checkpointed"

# Activations of a block kept for the backward pass beside the matrix, as multiples of
# its tokens: q, k, v, two norms, attended, projected, the MLP's four-wide two, sums.
_KEPT_PER_BLOCK = 18
_MATRICES_AT_ONCE = 3  # of a layer in the original's backward pass


@dataclass(frozen=True)
class Measurement:
    """One variant in one kind of pass."""

    scope: str
    size: int  # px
    passes: str  # one of PASSES
    variant: str
    milliseconds: float  # median
    peak_mib: float  # above weights and input; gradients count
    time_ratio: float  # to the original's
    memory_ratio: float  # to the original's
    output_difference: float  # largest, from the original in the same precision
    gradient_difference: float | None  # likewise, over the tensor's largest gradient


@dataclass(frozen=True)
class Skipped:
    """What was not measured and why."""

    scope: str
    size: int  # px
    reason: str


@dataclass(frozen=True)
class Setting:
    """What is the same for all variants."""

    network: str  # one of NETWORKS
    scope: str  # one of SCOPES
    size: int  # px, divisible by 16
    precision: str  # one of PRECISIONS
    device: torch.device


def measure_attention(
    setting: Setting,
    *,
    repeats: int,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Measurement] | Skipped:
    """Measure the original beside ours.

    Args:
        setting: What to measure.
        repeats: Measured passes of each; their median counts.
        progress: Told what is measured now.

    Returns:
        A measurement for every pass and variant, or why there is none.
    """
    needed, free = needed_bytes(setting), _free_bytes(setting.device)
    if needed > free:
        reason = (
            f"the original needs about {needed / MIB:.0f} MiB in training, "
            f"{free / MIB:.0f} MiB are free"
        )
        return Skipped(setting.scope, setting.size, reason)
    variants = _variants(setting)
    found: list[Measurement] = []
    for passes in PASSES:
        progress(f"{setting.scope}, {setting.size} px, {passes}")
        chosen = {
            name: variant
            for name, variant in variants.items()
            if passes == "training" or name != CHECKPOINTED
        }
        found += _compare(chosen, setting, passes, repeats)
    return found


def needed_bytes(setting: Setting) -> int:
    """Estimate what the original needs to train on one image, in float32."""
    size = SIZES[setting.network]
    tokens = (setting.size // PATCH_SIZE) ** 2
    whole = 4 * size.heads * tokens**2
    kept = 4 * tokens * size.width * _KEPT_PER_BLOCK
    if setting.scope == "layer":
        return _MATRICES_AT_ONCE * whole + kept
    windows = size.depth - len(size.global_blocks)
    in_windows = 4 * size.heads * tokens * size.window**2
    weights = 12 * size.depth * size.width**2 * 4
    return (
        len(size.global_blocks) * whole
        + windows * in_windows
        + (_MATRICES_AT_ONCE - 1) * whole
        + size.depth * kept
        + 3 * weights  # of both networks, and the gradients of one
    )


class _Variant:
    """A module on an input, with what it may be asked to do."""

    def __init__(
        self, module: nn.Module, forward: Callable[[Tensor], Tensor], setting: Setting
    ) -> None:
        self.module = module
        self.forward = forward
        self.setting = setting

    def infer(self, inputs: Tensor) -> Tensor:
        with torch.inference_mode(), self._precision():
            return self.forward(inputs)

    def train(self, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return outputs and all gradients, and keep none."""
        inputs = inputs.detach().requires_grad_()
        with self._precision():
            output = self.forward(inputs)
        generator = torch.Generator().manual_seed(1)
        direction = torch.randn(output.shape, generator=generator).to(output)
        output.backward(direction)
        leaves = [inputs, *self.module.parameters()]
        gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
        self.module.zero_grad(set_to_none=True)
        return output.detach(), gradients

    def _precision(self) -> torch.autocast:
        return torch.autocast(
            self.setting.device.type,
            dtype=torch.bfloat16,
            enabled=self.setting.precision == "bf16",
        )


def _compare(
    variants: dict[str, _Variant], setting: Setting, passes: str, repeats: int
) -> list[Measurement]:
    inputs = _inputs(setting)
    runs: dict[str, Callable[[], object]] = {
        name: partial(one.infer if passes == "inference" else one.train, inputs)
        for name, one in variants.items()
    }
    differences = _differences(runs)  # also the first pass, which is not timed
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            seconds[name].append(_seconds(run, setting.device))
    milliseconds = {name: 1000 * statistics.median(seconds[name]) for name in runs}
    peaks = {name: peak_mib(run, setting.device) for name, run in runs.items()}
    return [
        Measurement(
            setting.scope,
            setting.size,
            passes,
            name,
            milliseconds[name],
            peaks[name],
            milliseconds[name] / milliseconds[ORIGINAL],
            peaks[name] / max(peaks[ORIGINAL], 1e-9),
            *differences[name],
        )
        for name in runs
    ]


def _differences(
    runs: dict[str, Callable[[], object]],
) -> dict[str, tuple[float, float | None]]:
    """Return how far outputs and gradients are from the original's."""
    expected = runs[ORIGINAL]()
    found: dict[str, tuple[float, float | None]] = {}
    for name, run in runs.items():
        result = run()
        if isinstance(result, Tensor) and isinstance(expected, Tensor):
            found[name] = (_largest(result, expected), None)
        elif isinstance(result, tuple) and isinstance(expected, tuple):
            pairs = zip(result[1], expected[1], strict=True)
            ratios = [
                _largest(one, other) / max(float(other.abs().max()), 1e-12)
                for one, other in pairs
            ]
            found[name] = (_largest(result[0], expected[0]), max(ratios))
    return found


def _largest(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).abs().max())


def _variants(setting: Setting) -> dict[str, _Variant]:
    if setting.scope == "layer":
        size, grid = SIZES[setting.network], setting.size // PATCH_SIZE
        original = _attention(size.width, size.heads, (grid, grid))
        _draw_positions(original)
        original = original.to(setting.device)
        ours = FusedAttention(copy.deepcopy(original))
        return {
            ORIGINAL: _Variant(original, original, setting),
            OURS: _Variant(ours, ours, setting),
        }
    sam = build_model(setting.network, image_size=setting.size, seed=0)
    assert isinstance(sam, Sam)
    _draw_positions(sam)
    sam = sam.to(setting.device)
    before, again = copy.deepcopy(sam), copy.copy(sam)
    again.activation_checkpointing = True  # shares its weights with ours
    for block in before.image_encoder.blocks:
        block.attn = _original_of(block.attn).to(setting.device)
    return {
        name: _Variant(one.image_encoder, one.encode, setting)
        for name, one in ((ORIGINAL, before), (OURS, sam), (CHECKPOINTED, again))
    }


def _attention(width: int, heads: int, grid: tuple[int, int]) -> Attention:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Attention(width, num_heads=heads, use_rel_pos=True, input_size=grid)


def _original_of(fused: FusedAttention) -> Attention:
    """Return the layer of `segment_anything` with the same weights."""
    grid = (len(fused.rel_pos_h) + 1) // 2, (len(fused.rel_pos_w) + 1) // 2
    original = _attention(fused.proj.in_features, fused.num_heads, grid)
    original.load_state_dict(fused.state_dict())
    return original


def _draw_positions(module: nn.Module) -> None:
    """Draw relative positions: they start at zero, where a mistake would not show."""
    generator = torch.Generator().manual_seed(2)
    for name, parameter in module.named_parameters():
        if "rel_pos" in name:
            nn.init.normal_(parameter, std=0.1, generator=generator)


def _inputs(setting: Setting) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    if setting.scope == "encoder":
        shape: tuple[int, ...] = (1, 1, setting.size, setting.size)
        return torch.rand(shape, generator=generator).to(setting.device)
    grid, width = setting.size // PATCH_SIZE, SIZES[setting.network].width
    shape = (1, grid, grid, width)
    return torch.randn(shape, generator=generator).to(setting.device)


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
