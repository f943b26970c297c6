"""Batch normalisation that remembers every class apart.

"Balanced normalisation" of Su et al., "Towards Real-World Test-Time Adaptation: Tri-Net
Self-Training with Balanced Normalization" (TRIBE), AAAI 2024, with gamma = 0. Running
statistics of a stream follow what is seen most; here each class has its own, and what
normalises is their balanced mixture:

    mu = mean_k mu_k,    var = mean_k [ var_k + (mu_k - mu)^2 ]

The paper classifies images. In segmentation a frame shows several classes, so what
counts as one sample of a class is the region of it in one frame (ours). The released
code divides the variance of means by K - 1; this is the paper's formula.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class BalancedNorm2d(nn.Module):
    """A batch normalisation with a mean and a variance for each of K classes."""

    means: Tensor
    variances: Tensor

    def __init__(self, norm: nn.BatchNorm2d, *, num_classes: int) -> None:
        """Begin with the running statistics of a trained layer, for every class.

        Args:
            norm: With weights and running statistics; its weights are copied.
            num_classes: K.

        Raises:
            ValueError: If there are no running statistics.
        """
        super().__init__()
        self.weight = nn.Parameter(norm.weight.detach().clone())
        self.bias = nn.Parameter(norm.bias.detach().clone())
        self.eps = norm.eps
        self.momentum = max(5e-4 * num_classes, 0.01)
        mean, variance = norm.running_mean, norm.running_var
        if mean is None or variance is None:
            raise ValueError("A layer with running statistics was wanted, got none.")
        self.register_buffer("means", mean.detach().repeat(num_classes, 1))
        self.register_buffer("variances", variance.detach().repeat(num_classes, 1))
        self.regions: Tensor | None = None

    def forward(self, features: Tensor) -> Tensor:
        """Normalise; follow the statistics first if regions were given.

        Args:
            features: (batch, channels, h, w).

        Returns:
            The same shape.
        """
        if self.regions is not None:
            self._follow(features.detach(), self.regions)
            self.regions = None
        mean, variance = self.mixture()
        return functional.batch_norm(
            features, mean, variance, self.weight, self.bias, eps=self.eps
        )

    def mixture(self) -> tuple[Tensor, Tensor]:
        """Return mean and variance (channels,) of the balanced mixture of classes."""
        variance = self.variances.mean(dim=0)
        spread = self.means.var(dim=0, unbiased=False)
        return self.means.mean(dim=0), variance + spread

    def plain(self) -> nn.BatchNorm2d:
        """Return an ordinary layer that computes the same."""
        norm = nn.BatchNorm2d(len(self.weight), eps=self.eps)
        mean, variance = self.mixture()
        with torch.no_grad():
            norm.weight.copy_(self.weight)
            norm.bias.copy_(self.bias)
        norm.running_mean, norm.running_var = mean.clone(), variance.clone()
        return norm.to(self.weight.device).eval()

    @torch.no_grad()
    def _follow(self, features: Tensor, regions: Tensor) -> None:
        """Move each class towards the batch: momentum a sample, less if many."""
        cells = share_cells(regions, features.shape[-2:])
        for label in range(len(self.means)):
            inside = cells[:, label, None]  # (batch, 1, h, w)
            size = inside.sum(dim=(2, 3))  # (batch, 1)
            seen = size[:, 0] > 0
            count = int(seen.sum())
            if count == 0:
                continue
            rate = min(self.momentum, 1 / count)
            gap = (features - self.means[label, :, None, None]) * inside
            mean_gap = (gap.sum(dim=(2, 3)) / size.clamp(min=1))[seen]
            square = (gap.square().sum(dim=(2, 3)) / size.clamp(min=1))[seen]
            step = rate * mean_gap.sum(dim=0)
            growth = rate * (square.sum(dim=0) - count * self.variances[label])
            self.variances[label] += growth - step.square()
            self.means[label] += step


def share_cells(regions: Tensor, size: torch.Size) -> Tensor:
    """Bring regions to the grid of features.

    Devices are thinner than a cell: a cell belongs to the last class that touches it.

    Args:
        regions: bool (batch, classes, height, width), background first.
        size: (h, w).

    Returns:
        float32 (batch, classes, h, w) in {0, 1}, at most one class a cell.
    """
    touched = functional.adaptive_max_pool2d(regions.float(), tuple(size))
    later = touched.flip(1).cumsum(dim=1).flip(1) - touched
    return touched * (later == 0)


def balance(network: nn.Module, *, num_classes: int) -> list[BalancedNorm2d]:
    """Replace every batch normalisation that has running statistics and weights.

    Args:
        network: Changed in place; it predicts as before.
        num_classes: K.

    Returns:
        The new layers; none if there was nothing to replace.
    """
    found = []
    for name, norm in list(network.named_modules()):
        if isinstance(norm, nn.BatchNorm2d) and has_statistics(norm):
            found.append(BalancedNorm2d(norm, num_classes=num_classes))
            _put(network, name, found[-1])
    return found


def make_plain(network: nn.Module) -> None:
    """Undo `balance`, in place, keeping what was learnt."""
    for name, norm in list(network.named_modules()):
        if isinstance(norm, BalancedNorm2d):
            _put(network, name, norm.plain())


def has_statistics(norm: nn.BatchNorm2d) -> bool:
    """Tell whether a layer has running statistics and weights."""
    return norm.affine and norm.running_mean is not None


def _put(network: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, layer)
