import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.morphology import remove_small_objects

from models.overlap import skeleton
from models.skeletons import build_graph, local_radii, pruned_skeleton


def draw(*rows: str) -> np.ndarray:
    return np.array([[character == "#" for character in row] for row in rows])


def test_a_corner_is_no_branching_and_a_hooked_end_is_one_end() -> None:
    staircase = draw(
        "##...",
        ".##..",
        "..###",
    )
    graph = build_graph(staircase)
    assert graph.degrees.max() == 2
    assert graph.pixels[graph.ends].tolist() == [[0, 0], [2, 4]]


def test_arc_length_counts_diagonal_steps_as_root_two() -> None:
    graph = build_graph(
        draw(
            "##...#",
            "..#...",
            "...#..",
        )
    )
    lengths = graph.arc_lengths(0)
    # (0,0) (0,1) (0,5) (1,2) (2,3): the pixel of its own is out of reach.
    expected = [0, 1, np.inf, 1 + 2**0.5, 1 + 2 * 2**0.5]
    assert lengths == pytest.approx(expected)


def test_a_branching_has_three_neighbours_and_three_ends() -> None:
    graph = build_graph(
        draw(
            "#####",
            "..#..",
            "..#..",
        )
    )
    assert (graph.degrees >= 3).sum() == 1
    assert graph.pixels[graph.ends].tolist() == [[0, 0], [0, 4], [2, 2]]


def wide_wire(bump: int) -> np.ndarray:
    """Draw a wire 13 px wide with something `bump` px high in its middle."""
    mask = np.zeros((60, 120), bool)
    mask[30:43, 10:110] = True
    mask[30 - bump : 30, 60:63] = True
    return mask


def test_a_bump_gives_a_spur_that_is_pruned_and_a_branch_is_kept() -> None:
    bump, branch = wide_wire(3), wide_wire(20)
    assert len(build_graph(skeleton(bump)).ends) > 2
    assert len(build_graph(pruned_skeleton(bump)).ends) == 2
    assert len(build_graph(pruned_skeleton(branch)).ends) == 3


@pytest.mark.parametrize("seed", range(4))
def test_a_wire_with_a_rough_outline_has_two_ends(seed: int) -> None:
    rows, columns = np.indices((60, 140))
    noise = np.random.default_rng(seed).normal(size=rows.shape)
    noise = gaussian_filter(noise, 1) / gaussian_filter(noise, 1).std()
    outside = np.maximum(np.abs(columns - 70) - 50, 0)
    rough = np.hypot(rows - 30, outside) + 0.7 * noise < 5
    rough = remove_small_objects(rough, max_size=50)
    assert len(build_graph(skeleton(rough)).ends) > 2
    assert len(build_graph(pruned_skeleton(rough)).ends) == 2


def test_pruning_keeps_the_length_of_a_wire_with_forked_ends() -> None:
    plain = wide_wire(0)
    lines, pruned = skeleton(plain), pruned_skeleton(plain)
    graph = build_graph(pruned)
    assert len(graph.ends) == 2
    assert (pruned & ~lines).sum() == 0
    reach = np.ptp(np.argwhere(pruned)[:, 1])
    assert reach >= np.ptp(np.argwhere(lines)[:, 1]) - 2


def test_a_thin_wire_with_a_short_branch_is_not_pruned() -> None:
    thin = np.zeros((20, 20), bool)
    thin[10, 2:18] = True
    thin[7:10, 9] = True
    assert (pruned_skeleton(thin) == skeleton(thin)).all()


@pytest.mark.parametrize("fill", [False, True])
def test_empty_and_full_masks_have_a_skeleton_graph(fill: bool) -> None:
    mask = np.full((12, 14), fill)
    assert pruned_skeleton(mask).any() == fill
    assert len(build_graph(pruned_skeleton(mask)).pixels) >= fill


def test_the_edge_of_the_image_does_not_make_a_wire_thinner() -> None:
    mask = np.zeros((21, 21), bool)
    mask[8:13, :] = True
    assert local_radii(mask, np.array([[10, 0]])) == [3]
    assert np.isinf(local_radii(np.ones((5, 5), bool), np.array([[2, 2]]))).all()


def test_radii_are_those_of_a_distance_transform() -> None:
    mask = gaussian_filter(np.random.default_rng(0).normal(size=(50, 60)), 3) > 0
    expected = distance_transform_edt(mask)[mask]
    assert local_radii(mask, np.argwhere(mask)) == pytest.approx(expected, abs=1e-12)
