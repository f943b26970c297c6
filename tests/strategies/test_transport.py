import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from strategies.transport import (
    SOLVERS,
    emd_cost,
    emd_similarity,
    pool_to_nodes,
    solve,
)
from tests.strategies.transport_problems import (
    features,
    make_problem,
    solve_with_highs,
    uniform,
)


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


@pytest.mark.parametrize("marginals", ["uniform", "cross-reference"])
def test_the_score_agrees_with_a_linear_programme(marginals: str) -> None:
    left, right = features(6, seed=8), features(5, seed=9)
    found = emd_similarity(left, right, marginals=marginals)
    for item in range(2):
        u, v = left[item], right[item]
        cosine = (u @ v.T) / (u.norm(dim=1)[:, None] * v.norm(dim=1)[None])
        masses = uniform(2, 6)[item], uniform(2, 5)[item]
        if marginals == "cross-reference":
            raw = (u @ v.mean(0)).relu() + 1e-3, (v @ u.mean(0)).relu() + 1e-3
            masses = raw[0] / raw[0].sum(), raw[1] / raw[1].sum()
        expected = solve_with_highs(1 - cosine, *masses)
        assert found.score[item].item() == pytest.approx(1 - expected.cost, abs=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
@given(seed=st.integers(0, 1000), n=st.integers(1, 6), m=st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_the_order_of_nodes_does_not_matter(
    solver: str, seed: int, n: int, m: int
) -> None:
    left, right = features(n, seed=seed), features(m, seed=seed + 1)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    plain = emd_similarity(left, right, solver=solver)
    shuffled = emd_similarity(left[:, order], right, solver=solver)
    allowed = 1e-12 + plain.transport.gap + shuffled.transport.gap
    assert bool(((plain.score - shuffled.score).abs() <= allowed).all())


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_toll_on_every_way_adds_to_the_cost_and_changes_no_plan(solver: str) -> None:
    problem = make_problem(7, 6, seed=1)
    plain = solve(*problem, solver=solver)
    dearer = solve(problem.cost + 0.25, *problem[1:], solver=solver)
    torch.testing.assert_close(dearer.cost, plain.cost + 0.25)
    torch.testing.assert_close(dearer.plan, plain.plan)


def test_a_toll_on_one_node_is_paid_for_its_mass() -> None:
    problem = make_problem(7, 6, seed=2)
    toll = torch.zeros(1, 7, 1, dtype=torch.float64)
    toll[0, 3] = 0.5
    plain, dearer = solve(*problem), solve(problem.cost + toll, *problem[1:])
    expected = plain.cost + 0.5 * problem.source[:, 3]
    torch.testing.assert_close(dearer.cost, expected)


@pytest.mark.parametrize("masses", ["random", "zeros", "wide"])
def test_gradients_to_costs_and_weights_agree_with_finite_differences(
    masses: str,
) -> None:
    problem = make_problem(6, 5, seed=4, batch=2, masses=masses)
    # The mass of a node without any can only grow: softplus keeps it off the edge.
    weights = [mass + 0.1 for mass in problem[1:]]
    inputs = (problem.cost, *weights)

    def value(cost: Tensor, source: Tensor, target: Tensor) -> Tensor:
        return emd_cost(
            cost,
            source / source.sum(1, keepdim=True),
            target / target.sum(1, keepdim=True),
        ).value

    for tensor in inputs:
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(value, inputs)


def test_the_gradient_to_masses_is_a_centred_potential() -> None:
    problem = make_problem(5, 4, seed=5)
    source, target = (mass.requires_grad_() for mass in problem[1:])
    found = emd_cost(problem.cost, source, target)
    found.value.sum().backward()
    assert source.grad is not None
    assert target.grad is not None
    assert (source.grad * source).sum().item() == pytest.approx(0, abs=1e-12)
    assert (target.grad * target).sum().item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("gradient", "reached"), [("none", []), ("flow", [0]), ("full", [0, 1, 2])]
)
def test_each_kind_of_gradient_reaches_what_it_says(
    gradient: str, reached: list[int]
) -> None:
    inputs = [one.requires_grad_() for one in make_problem(4, 4, seed=6)]
    value = emd_cost(*inputs, gradient=gradient).value
    assert value.requires_grad == bool(reached)
    if reached:
        value.sum().backward()
    assert [i for i, one in enumerate(inputs) if one.grad is not None] == reached


def test_a_second_derivative_is_refused_rather_than_called_zero() -> None:
    problem = make_problem(4, 4, seed=6)
    cost = problem.cost.requires_grad_()
    value = emd_cost(cost, *problem[1:]).value.square().sum()
    (gradient,) = torch.autograd.grad(value, cost, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_autocast_does_not_coarsen_the_score() -> None:
    left, right = (features(6, seed=seed).float() for seed in (1, 2))
    plain = emd_similarity(left, right).score
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = emd_similarity(left, right).score
    assert torch.equal(plain, within)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_features_get_gradients_of_their_own_type(
    dtype: torch.dtype,
) -> None:
    left = features(6, seed=1).to(dtype).requires_grad_()
    right = features(6, seed=2).to(dtype)
    score = emd_similarity(
        left, right, marginals="cross-reference", gradient="full"
    ).score
    score.sum().backward()
    assert left.grad is not None
    assert left.grad.dtype == dtype
    assert bool(torch.isfinite(left.grad).all())


def test_scores_in_single_precision_never_leave_their_range() -> None:
    nodes = features(16, seed=3, batch=64, dim=40).float()
    assert float(emd_similarity(nodes, nodes).score.max()) <= 1.0
    assert float(emd_similarity(nodes, -nodes).score.min()) >= -1.0


def test_sets_of_zeros_have_score_zero_and_finite_gradients() -> None:
    left = torch.zeros(1, 3, 4, requires_grad=True)
    found = emd_similarity(
        left, torch.zeros(1, 2, 4), marginals="cross-reference", gradient="full"
    )
    found.score.sum().backward()
    assert found.score.item() == 0.0
    assert left.grad is not None
    assert bool(torch.isfinite(left.grad).all())


def test_features_whose_norm_overflows_are_refused() -> None:
    # Otherwise every cosine with them would silently be 0.
    nodes = torch.full((1, 2, 3), 1e30)
    with pytest.raises(ValueError, match="diverged"):
        emd_similarity(nodes, nodes)


def test_a_node_without_mass_takes_no_part() -> None:
    problem = make_problem(4, 3, seed=7)
    source = problem.source.clone()
    source[0, 2] = 0.0
    source = source / source.sum()
    kept = [0, 1, 3]
    with_it = solve(problem.cost, source, problem.target)
    without = solve(problem.cost[:, kept], source[:, kept], problem.target)
    torch.testing.assert_close(with_it.cost, without.cost)
    assert with_it.plan[0, 2].sum().item() == 0.0


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"solver": "magic"}, "solver must be one of"),
        ({"gradient": "half"}, "gradient must be one of"),
        ({"marginals": "wild"}, "marginals must be one of"),
    ],
)
def test_options_that_do_not_exist_are_refused(
    option: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        emd_similarity(features(3, seed=0), features(3, seed=1), **option)  # type: ignore[arg-type]


def test_features_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="Features must be"):
        emd_similarity(torch.zeros(1, 3, 4), torch.zeros(1, 3, 5))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_features_on_a_gpu_give_the_same_scores() -> None:
    left, right = features(8, seed=1), features(8, seed=2)
    near = emd_similarity(left, right).score
    far = emd_similarity(left.cuda(), right.cuda()).score
    torch.testing.assert_close(near, far.cpu())
