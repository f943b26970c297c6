"""Clean a predicted mask: keep its wires, drop speckle, fragments and compact blobs.

arXiv 2410.07460 names "DBSCAN clustering and cluster-wise filtering" and gives neither
code nor parameters, so the rules and their numbers here are ours; say so wherever they
are reported. Foreground pixels are clustered by DBSCAN (Ester et al., KDD 1996; the
implementation of scikit-learn), which joins the pieces of a wire with small gaps; then
clusters are kept by the length of their centre line. Lengths are set for frames of
1024 px and scale with the frame. One class of one frame; numpy only.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models.overlap import Mask
from models.skeletons import build_graph, pruned_skeleton
from strategies.adaptation_settings import AdaptationSettings

REFERENCE_SIZE = 1024  # px, side of the frames that the settings speak of

MIN_RADIUS = 1.5
"""px. The eight neighbours of a pixel (up to 1.41 px) are never out of reach, or a wire
in one piece would fall apart in small frames: 4 px of 1024 are half a pixel of 128."""

MIN_PIXELS = 2  # of a dense neighbourhood: below, a lone pixel would be a cluster

MIN_ELONGATION = 2.0
"""Centre line over mean width (area / centre line) of what can be a piece of a wire.
Thinning takes half a width from either end: a straight bar passes from 3.7 widths on,
a disk and a square, whose pruned centre lines are a dot, never do."""


@dataclass(frozen=True)
class ClusterRules:
    """The settings of a cleaning in pixels of the frame at hand."""

    radius: float  # px, eps of DBSCAN
    pixels: int  # min_samples of DBSCAN, the pixel itself included
    min_length: float  # px, of centre lines
    min_share: float  # of the longest centre line
    keep_longest: int  # 0 = all

    @classmethod
    def of(cls, settings: AdaptationSettings, size: int) -> Self:
        """Scale the settings to a frame.

        The pixels that a line has within a radius grow with the radius and not with
        its square, so `cluster_pixels` scales like a length: 10 of 1024 px are 5 of
        512 and 2 of 256, rounded down. Lines one pixel wide are clusters in every
        direction up to about 400 px; beyond, where a wire is wider, they count as
        noise, as they do at 1024 px, where a line has 9 pixels within 4 px.

        Args:
            settings: Lengths in px of 1024.
            size: Side of the frame, px.

        Returns:
            The rules.
        """
        scale = size / REFERENCE_SIZE
        return cls(
            radius=max(settings.cluster_radius * scale, MIN_RADIUS),
            pixels=max(math.floor(settings.cluster_pixels * scale), MIN_PIXELS),
            min_length=settings.min_cluster * scale,
            min_share=settings.min_cluster_share,
            keep_longest=settings.keep_longest,
        )


class CleanedMask(NamedTuple):
    """A mask after cleaning."""

    mask: Mask  # (height, width), part of the mask before
    before: int  # clusters
    after: int  # clusters kept


class _Cluster(NamedTuple):
    pixels: NDArray[np.int64]  # (pixels, 2): row, column
    length: float  # px, of the centre line

    @property
    def is_compact(self) -> bool:
        return self.length**2 < MIN_ELONGATION * len(self.pixels)


def clean_mask(mask: Mask, settings: AdaptationSettings) -> CleanedMask:
    """Drop what is no piece of a wire from one class of one frame.

    Pixels outside of all clusters go; then compact clusters; then those whose centre
    line is shorter than `min_cluster` or than `min_cluster_share` of the longest one;
    then all but the `keep_longest` longest, if that is set. The union of the others
    stays, since a predicted wire may be broken.

    Args:
        mask: (height, width), bool.
        settings: With the cleaning "none" the mask stays as it is; its clusters are
            counted all the same.

    Returns:
        The cleaned mask, which may be empty.
    """
    rules = ClusterRules.of(settings, max(mask.shape))
    pixels = np.argwhere(mask)
    numbers = find_clusters(pixels, rules)
    count = int(numbers.max(initial=-1)) + 1
    if settings.cleaning == "none":
        return CleanedMask(mask.copy(), count, count)
    # Thinning is what takes time, and a line of n pixels is at most n diagonals long:
    # the hundreds of specks of a poor prediction are not looked at.
    enough = rules.min_length / math.sqrt(2)
    parts = [part for part in _split(pixels, numbers) if len(part) >= enough]
    kept = _choose([_measure(part) for part in parts], rules)
    cleaned = np.zeros_like(mask)
    for cluster in kept:
        cleaned[tuple(cluster.pixels.T)] = True
    return CleanedMask(cleaned, count, len(kept))


def find_clusters(pixels: NDArray[np.int64], rules: ClusterRules) -> NDArray[np.int64]:
    """Cluster pixels by DBSCAN on their Euclidean distances.

    Args:
        pixels: (pixels, 2), row and column; may be none.
        rules: Radius and number of pixels.

    Returns:
        (pixels,), number of the cluster from 0, or -1 for noise.
    """
    if not len(pixels):
        return np.empty(0, np.int64)
    # Here, because importing scikit-learn takes seconds, which all would pay for.
    from sklearn.cluster import DBSCAN

    # The sides of a k-d tree's boxes are whole numbers here. A ball tree rounds, and
    # then misses some pixels at exactly the radius.
    search = DBSCAN(eps=rules.radius, min_samples=rules.pixels, algorithm="kd_tree")
    numbers: NDArray[np.int64] = search.fit_predict(pixels).astype(np.int64)
    return numbers


def _split(
    pixels: NDArray[np.int64], numbers: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """Return the pixels of every cluster, (pixels, 2) each, without the noise."""
    order = np.argsort(numbers, kind="stable")
    places = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    return np.split(pixels[order], places)[1:]


def _measure(pixels: NDArray[np.int64]) -> _Cluster:
    """Measure the centre line of a cluster: 0 for a dot, the sum of parts if broken.

    Only the cluster's surroundings are thinned, which saves most of the time. Its
    own bounding box has no margin and so no background at its sides; one is added.
    """
    first = pixels.min(axis=0) - 1
    alone = np.zeros(pixels.max(axis=0) - first + 2, dtype=bool)
    alone[tuple((pixels - first).T)] = True
    steps = build_graph(pruned_skeleton(alone)).steps
    return _Cluster(pixels, float(steps.sum()) / 2)  # each step is seen from both ends


def _choose(clusters: list[_Cluster], rules: ClusterRules) -> list[_Cluster]:
    """Return the clusters that are kept, longest first."""
    wires = [cluster for cluster in clusters if not cluster.is_compact]
    wires.sort(key=lambda cluster: cluster.length, reverse=True)
    if not wires:
        return []
    shortest = max(rules.min_length, rules.min_share * wires[0].length)
    wires = [cluster for cluster in wires if cluster.length >= shortest]
    return wires[: rules.keep_longest or None]
