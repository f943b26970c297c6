import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies import transport
from strategies.transport import emd_cost, emd_similarity, solve
from strategies.transport_certificate import Transport
from strategies.transport_exact import solve_exact
from strategies.transport_sinkhorn import solve_sinkhorn
from tests.strategies.transport_problems import MASSES, features, make_problem, uniform


@given(
    n=st.integers(1, 8),
    m=st.integers(1, 8),
    seed=st.integers(0, 10_000),
    costs=st.sampled_from(["random", "ties", "zero-one", "constant"]),
    masses=st.sampled_from(MASSES),
)
@settings(max_examples=60, deadline=None)
def test_the_gap_bounds_the_true_error(
    n: int, m: int, seed: int, costs: str, masses: str
) -> None:
    problem = make_problem(n, m, seed=seed, costs=costs, masses=masses)
    found, exact = solve_sinkhorn(*problem), solve_exact(*problem)
    error = (found.cost - exact.cost).item()
    assert -1e-12 <= error <= found.gap.item() + 1e-12
    assert found.marginal_error.item() < 1e-12
    assert found.plan.min() >= 0


@pytest.mark.parametrize("tolerance", [0.1, 0.01, 0.003])
def test_sweeps_go_on_until_the_tolerance_is_met(tolerance: float) -> None:
    problem = make_problem(16, 12, seed=1, batch=3)
    found = solve_sinkhorn(
        *problem, tolerance=tolerance, epsilon=tolerance / 10, max_sweeps=5000
    )
    assert bool((found.gap <= tolerance).all())
    assert not bool(found.fell_back.any())


def test_less_smoothing_comes_closer_to_the_optimum() -> None:
    problem = make_problem(10, 10, seed=2)
    optimum = solve_exact(*problem).cost
    errors = [
        (
            solve_sinkhorn(
                *problem, tolerance=1e-9, epsilon=epsilon, max_sweeps=3000
            ).cost
            - optimum
        ).item()
        for epsilon in (0.1, 0.01, 0.001)
    ]
    assert errors[0] > errors[1] > errors[2] >= 0
    assert errors[2] < 1e-3


@pytest.mark.parametrize("masses", MASSES)
def test_single_precision_gives_the_same_to_its_own_rounding(masses: str) -> None:
    problem = make_problem(9, 7, seed=3, batch=2, masses=masses)
    wide = solve_sinkhorn(*problem)
    narrow = solve_sinkhorn(*(tensor.float() for tensor in problem))
    assert narrow.plan.dtype == torch.float64
    torch.testing.assert_close(narrow.cost, wide.cost, rtol=0, atol=1e-4)
    assert bool((narrow.marginal_error < 1e-12).all())


def test_nothing_is_recorded_for_autograd() -> None:
    problem = make_problem(4, 4, seed=0)
    found = solve_sinkhorn(problem.cost.requires_grad_(), *problem[1:])
    assert not any(tensor.requires_grad for tensor in found)


def test_items_that_miss_the_tolerance_are_solved_exactly_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = make_problem(8, 8, seed=4, batch=3)
    exact = solve_exact(*problem)

    def stop_early(*problem: torch.Tensor, **options: float) -> Transport:
        found = solve_sinkhorn(*problem, tolerance=0.02)
        gap = found.gap.clone()
        gap[1], gap[2] = 0.5, torch.nan
        return found._replace(gap=gap)

    monkeypatch.setattr(transport, "solve_sinkhorn", stop_early)
    found = solve(*problem, solver="sinkhorn", tolerance=0.02)
    assert found.fell_back.tolist() == [False, True, True]
    assert torch.equal(found.plan[1:], exact.plan[1:])
    assert torch.equal(found.cost[1:], exact.cost[1:])
    assert not torch.equal(found.plan[0], exact.plan[0])
    assert bool((found.gap <= 0.02).all())


def test_a_tolerance_out_of_reach_makes_everything_exact() -> None:
    problem = make_problem(12, 12, seed=5, batch=2)
    found = solve(*problem, solver="sinkhorn", tolerance=1e-10)
    assert bool(found.fell_back.all())
    torch.testing.assert_close(found.cost, solve_exact(*problem).cost)


def test_the_score_is_within_the_tolerance_of_the_exact_one() -> None:
    left, right = features(20, seed=1, batch=4), features(16, seed=2, batch=4)
    exact = emd_similarity(left, right, marginals="cross-reference")
    found = emd_similarity(
        left, right, marginals="cross-reference", solver="sinkhorn", tolerance=0.005
    )
    error = exact.score - found.score
    assert bool((error <= found.transport.gap + 1e-12).all())
    assert bool((found.transport.gap <= 0.005).all())


def test_the_feature_gradient_points_where_the_exact_one_does() -> None:
    right = features(16, seed=2, batch=2)

    def gradient(**options: object) -> torch.Tensor:
        left = features(16, seed=1, batch=2).requires_grad_()
        score = emd_similarity(left, right, gradient="flow", **options).score  # type: ignore[arg-type]
        return torch.autograd.grad(score.sum(), left)[0].flatten()

    exact = gradient()
    rough = gradient(solver="sinkhorn", tolerance=0.01)
    assert torch.cosine_similarity(exact, rough, dim=0) > 0.97


def test_the_mass_gradient_is_the_potential_of_the_rounded_plan() -> None:
    problem = make_problem(6, 6, seed=7)
    source = problem.source.requires_grad_()
    found = emd_cost(problem.cost, source, problem.target, solver="sinkhorn")
    found.value.sum().backward()
    assert source.grad is not None
    torch.testing.assert_close(source.grad, found.transport.source_potential)


def test_no_problem_has_no_plan() -> None:
    empty = torch.zeros(0, 3, 4), torch.zeros(0, 3), torch.zeros(0, 4)
    assert solve(*empty, solver="sinkhorn").plan.shape == (0, 3, 4)


@pytest.mark.parametrize("option", ["tolerance", "epsilon"])
def test_options_that_are_not_positive_are_refused(option: str) -> None:
    problem = make_problem(3, 3, seed=0)
    with pytest.raises(ValueError, match="must be > 0"):
        solve(*problem, solver="sinkhorn", **{option: 0.0})  # type: ignore[arg-type]


@pytest.mark.parametrize("solver", ["exact", "sinkhorn"])
def test_numbers_that_are_none_are_refused_by_every_solver(solver: str) -> None:
    mass = uniform(1, 2)
    for cost, source, words in (
        (torch.full((1, 2, 2), torch.nan), mass, "diverged"),
        (torch.zeros(1, 2, 2), mass * torch.nan, "diverged"),
        (torch.zeros(1, 2, 2), mass * 2, "sum to one"),
    ):
        with pytest.raises(ValueError, match=words):
            solve(cost, source, mass, solver=solver)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_sweeps_on_a_gpu_are_as_good_as_on_the_cpu() -> None:
    problem = make_problem(32, 24, seed=1, batch=4)
    near = solve(*problem, solver="sinkhorn")
    far = solve(*(tensor.cuda() for tensor in problem), solver="sinkhorn")
    assert far.plan.is_cuda
    assert bool((far.gap <= 0.01).all())
    torch.testing.assert_close(near.cost, far.cost.cpu(), rtol=0, atol=0.01)
