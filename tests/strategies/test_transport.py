import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from strategies.transport import emd_similarity, pool_to_nodes, solve_exact


def uniform(batch: int, n: int) -> torch.Tensor:
    return torch.full((batch, n), 1 / n, dtype=torch.float64)


def features(n: int, *, seed: int, batch: int = 2, dim: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, n, dim, generator=generator, dtype=torch.float64)


def solve_with_highs(cost: np.ndarray, source: np.ndarray, target: np.ndarray) -> float:
    """An independent linear programme: rows sum to source, columns to target."""
    n, m = cost.shape
    rows = np.kron(np.eye(n), np.ones((1, m)))
    columns = np.kron(np.ones((1, n)), np.eye(m))
    result = linprog(
        cost.ravel(),
        A_eq=np.vstack([rows, columns]),
        b_eq=np.concatenate([source, target]),
        method="highs",
    )
    return float(result.fun)


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_a_translation_costs_its_squared_length(shift: float) -> None:
    x = torch.linspace(0, 1, 5, dtype=torch.float64)
    cost = (x[:, None] - (x + shift)[None, :]).square()[None]
    found = solve_exact(cost, uniform(1, 5), uniform(1, 5))
    assert found.cost.item() == pytest.approx(shift**2, abs=1e-12)


def test_mass_that_must_cross_pays_the_way() -> None:
    # 0.7 on the left, 0.2 of it must go over at a price of 3: 0.6.
    cost = torch.tensor([[[0.0, 3.0], [3.0, 0.0]]])
    found = solve_exact(cost, torch.tensor([[0.7, 0.3]]), torch.tensor([[0.5, 0.5]]))
    assert found.cost.item() == pytest.approx(0.6, abs=1e-7)
    assert found.plan[0, 0, 1].item() == pytest.approx(0.2, abs=1e-7)


@given(
    n=st.integers(1, 7),
    m=st.integers(1, 7),
    seed=st.integers(0, 10_000),
    zero=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_cost_agrees_with_a_linear_programme(
    n: int, m: int, seed: int, zero: bool
) -> None:
    rng = np.random.default_rng(seed)
    cost = rng.random((n, m))
    source, target = rng.random(n) + 1e-3, rng.random(m) + 1e-3
    if zero and n > 1:
        source[0] = 0.0
    source, target = source / source.sum(), target / target.sum()
    found = solve_exact(*(torch.from_numpy(a)[None] for a in (cost, source, target)))
    assert found.cost.item() == pytest.approx(
        solve_with_highs(cost, source, target), abs=1e-9
    )
    assert found.marginal_error.item() < 1e-9
    assert abs(found.gap.item()) < 1e-9  # primal = dual: the plan is optimal


def test_a_set_is_perfectly_similar_to_itself_in_any_order() -> None:
    nodes = features(9, seed=0)
    shuffled = nodes[:, torch.randperm(9, generator=torch.Generator().manual_seed(1))]
    assert emd_similarity(nodes, nodes).score.tolist() == pytest.approx([1, 1])
    assert emd_similarity(nodes, shuffled).score.tolist() == pytest.approx([1, 1])


def test_opposite_features_have_score_minus_one() -> None:
    nodes = torch.ones(1, 4, 3)
    assert emd_similarity(nodes, -nodes).score.item() == pytest.approx(-1)


def test_orthogonal_features_have_score_zero() -> None:
    left = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    right = torch.tensor([[[0.0, 1.0], [0.0, 2.0]]])
    assert emd_similarity(left, right).score.item() == pytest.approx(0, abs=1e-7)


def test_half_of_the_nodes_in_common_give_half_the_score() -> None:
    left = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    right = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    assert emd_similarity(left, right).score.item() == pytest.approx(0.5)


@given(seed=st.integers(0, 1000), n=st.integers(1, 6), m=st.integers(1, 6))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("marginals", ["uniform", "cross-reference"])
def test_the_score_is_symmetric_and_bounded(
    marginals: str, seed: int, n: int, m: int
) -> None:
    left, right = features(n, seed=seed), features(m, seed=seed + 1)
    there = emd_similarity(left, right, marginals=marginals).score
    back = emd_similarity(right, left, marginals=marginals).score
    torch.testing.assert_close(there, back)
    assert bool((there.abs() <= 1 + 1e-12).all())


def test_the_score_is_one_minus_the_transport_cost() -> None:
    found = emd_similarity(features(5, seed=3), features(7, seed=4))
    torch.testing.assert_close(found.score, 1 - found.transport.cost)


def test_centring_ignores_a_feature_that_all_nodes_share() -> None:
    left, right = features(5, seed=1), features(5, seed=2)
    common = 10 * torch.ones(6, dtype=torch.float64)
    plain = emd_similarity(left, right, centred=True).score
    shifted = emd_similarity(left + common, right + common, centred=True).score
    torch.testing.assert_close(plain, shifted)
    # Uncentred, the shared part swamps everything.
    assert bool((emd_similarity(left + common, right + common).score > 0.9).all())


def test_cross_reference_gives_mass_to_nodes_that_resemble_the_other_set() -> None:
    left = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    right = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    plan = emd_similarity(left, right, marginals="cross-reference").transport.plan
    # relu(<u, mean v>) + 0.001 = 1.001 and 0.001.
    assert plan[0].sum(1).tolist() == pytest.approx([1.001 / 1.002, 0.001 / 1.002])


@pytest.mark.parametrize(("n", "m"), [(5, 5), (7, 4), (12, 12)])
def test_the_flow_gradient_agrees_with_finite_differences(n: int, m: int) -> None:
    left = features(n, seed=n).requires_grad_()
    right = features(m, seed=m + 50).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda u, v: emd_similarity(u, v, gradient="flow").score, (left, right)
    )


@pytest.mark.parametrize(("n", "m"), [(5, 5), (6, 4)])
def test_the_full_gradient_agrees_with_finite_differences(n: int, m: int) -> None:
    # Positive features keep the relu of the cross-reference away from its kink.
    left = features(n, seed=n).abs().requires_grad_()
    right = features(m, seed=m + 50).abs().requires_grad_()

    def score(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return emd_similarity(u, v, marginals="cross-reference", gradient="full").score

    assert torch.autograd.gradcheck(score, (left, right))


def test_the_flow_gradient_alone_misses_the_masses() -> None:
    left = features(5, seed=5).abs().requires_grad_()
    right = features(5, seed=55).abs()

    def gradient(kind: str) -> torch.Tensor:
        found = emd_similarity(
            left, right, marginals="cross-reference", gradient=kind
        ).score.sum()
        return torch.autograd.grad(found, left)[0]

    assert not torch.allclose(gradient("flow"), gradient("full"), rtol=1e-3)


def test_no_gradient_is_the_default_as_in_equation_two() -> None:
    left = features(4, seed=0).requires_grad_()
    assert not emd_similarity(left, features(4, seed=1)).score.requires_grad


def test_an_outer_factor_scales_the_gradient() -> None:
    left, right = features(5, seed=1).requires_grad_(), features(5, seed=2)

    def gradient(factor: float) -> torch.Tensor:
        score = emd_similarity(left, right, gradient="flow").score.sum()
        return torch.autograd.grad(factor * score, left)[0]

    torch.testing.assert_close(gradient(-3.0), -3.0 * gradient(1.0))


def test_a_zero_node_is_unlike_everything_and_has_a_finite_gradient() -> None:
    left = features(3, seed=0, batch=1)
    left[0, 0] = 0.0
    left.requires_grad_()
    found = emd_similarity(left, features(3, seed=1, batch=1), gradient="flow").score
    found.sum().backward()
    assert left.grad is not None
    assert bool(torch.isfinite(left.grad).all())


def test_half_precision_features_are_scored_in_float32() -> None:
    left, right = features(6, seed=1), features(6, seed=2)
    exact = emd_similarity(left, right).score
    rough = emd_similarity(left.bfloat16(), right.bfloat16()).score
    assert rough.dtype == torch.float32
    assert rough.tolist() == pytest.approx(exact.tolist(), abs=0.02)


def test_pooling_averages_the_cells_of_the_grid() -> None:
    grid = torch.arange(16.0).reshape(1, 1, 4, 4)
    # Top left cell: (0 + 1 + 4 + 5) / 4.
    assert pool_to_nodes(grid, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]


def test_a_grid_finer_than_the_features_is_refused() -> None:
    with pytest.raises(ValueError, match=r"grid-size is 5.*map of \(4, 4\)"):
        pool_to_nodes(torch.zeros(1, 2, 4, 4), 5)


def test_features_that_diverged_are_refused() -> None:
    nodes = torch.full((1, 2, 3), float("nan"))
    with pytest.raises(ValueError, match="diverged"):
        emd_similarity(nodes, nodes)


@pytest.mark.parametrize(
    ("cost", "source", "target", "words"),
    [
        (torch.zeros(2, 2), uniform(1, 2), uniform(1, 2), "Wanted cost"),
        (torch.zeros(1, 2, 3), uniform(1, 2), uniform(1, 2), "belong together"),
        (torch.zeros(1, 2, 2), uniform(1, 2) * 2, uniform(1, 2), "sum to one"),
        (
            torch.zeros(1, 2, 2),
            torch.tensor([[1.5, -0.5]]),
            uniform(1, 2),
            "Masses must be >= 0",
        ),
    ],
)
def test_problems_that_are_none_are_refused(
    cost: torch.Tensor, source: torch.Tensor, target: torch.Tensor, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        solve_exact(cost, source, target)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_features_on_a_gpu_give_the_same_scores() -> None:
    left, right = features(8, seed=1), features(8, seed=2)
    near = emd_similarity(left, right).score
    far = emd_similarity(left.cuda(), right.cuda()).score
    torch.testing.assert_close(near, far.cpu())
