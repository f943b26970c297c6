import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.transport_certificate import c_transform, certify, round_to_masses
from strategies.transport_exact import solve_exact
from tests.strategies.transport_problems import MASSES, make_problem


@given(
    n=st.integers(1, 6),
    m=st.integers(1, 6),
    seed=st.integers(0, 1000),
    masses=st.sampled_from(MASSES),
)
@settings(max_examples=60, deadline=None)
def test_a_rounded_plan_meets_its_masses(
    n: int, m: int, seed: int, masses: str
) -> None:
    problem = make_problem(n, m, seed=seed, masses=masses)
    rough = torch.rand(1, n, m, generator=torch.Generator().manual_seed(seed)).double()
    plan = round_to_masses(rough / rough.sum(), problem.source, problem.target)
    assert plan.min() >= 0
    torch.testing.assert_close(plan.sum(2), problem.source, rtol=0, atol=1e-14)
    torch.testing.assert_close(plan.sum(1), problem.target, rtol=0, atol=1e-14)


def test_rounding_by_hand() -> None:
    # Row one carries 0.6 and may 0.5: it shrinks by 5/6. Column one then carries
    # 0.35, column two 0.45. What lacks is 0.2 in row two and 0.15, 0.05 in the columns.
    rough = torch.tensor([[[0.3, 0.3], [0.1, 0.2]]], dtype=torch.float64)
    half = torch.full((1, 2), 0.5, dtype=torch.float64)
    expected = [[0.25, 0.25], [0.25, 0.25]]
    assert round_to_masses(rough, half, half)[0].tolist() == pytest.approx(
        [pytest.approx(row) for row in expected]
    )


def test_a_plan_that_meets_its_masses_is_left_alone() -> None:
    problem = make_problem(5, 4, seed=1)
    plan = solve_exact(*problem).plan
    torch.testing.assert_close(
        round_to_masses(plan, problem.source, problem.target), plan
    )


def test_rounding_moves_no_more_than_twice_the_marginal_error() -> None:
    problem = make_problem(6, 6, seed=2)
    exact = solve_exact(*problem).plan
    rough = exact * (0.9 + 0.2 * torch.rand(1, 6, 6).double())
    error = (rough.sum(2) - problem.source).abs().sum() + (
        rough.sum(1) - problem.target
    ).abs().sum()
    moved = (round_to_masses(rough, problem.source, problem.target) - rough).abs().sum()
    assert moved <= 2 * error


def test_a_c_transform_by_hand() -> None:
    cost = torch.tensor([[[1.0, 4.0], [2.0, 3.0]]])
    # g = (min(1 - 0, 2 - 1), min(4 - 0, 3 - 1)) = (1, 2);
    # f = (min(1 - 1, 4 - 2), min(2 - 1, 3 - 2)) = (0, 1).
    f, g = c_transform(cost, torch.full((1, 2), 0.5), torch.tensor([[0.0, 1.0]]))
    assert g[0].tolist() == [1.0, 2.0]
    assert f[0].tolist() == [0.0, 1.0]


def test_a_node_without_mass_does_not_press_on_the_others() -> None:
    cost = torch.tensor([[[1.0, 4.0], [2.0, 3.0]]])
    mass = torch.tensor([[1.0, 0.0]])
    # Without it g = (1 - 0, 4 - 0); its own potential follows: min(2 - 1, 3 - 4).
    f, g = c_transform(cost, mass, torch.tensor([[0.0, 1000.0]]))
    assert g[0].tolist() == [1.0, 4.0]
    assert f[0].tolist() == [0.0, -1.0]


@given(seed=st.integers(0, 1000), masses=st.sampled_from(MASSES))
@settings(max_examples=40, deadline=None)
def test_the_gap_bounds_the_error_of_any_feasible_plan(seed: int, masses: str) -> None:
    problem = make_problem(5, 6, seed=seed, masses=masses)
    optimum = solve_exact(*problem).cost
    generator = torch.Generator().manual_seed(seed)
    plan = round_to_masses(
        torch.rand(1, 5, 6, generator=generator).double() / 30,
        problem.source,
        problem.target,
    )
    guess = torch.randn(1, 5, generator=generator).double()
    found = certify(*problem, plan, guess)
    assert found.marginal_error.item() < 1e-14
    assert 0 <= (found.cost - optimum).item() + 1e-14
    assert (found.cost - optimum).item() <= found.gap.item() + 1e-14


def test_the_marginal_error_is_what_lacks_in_rows_and_columns() -> None:
    problem = make_problem(3, 3, seed=0, masses="uniform")
    plan = torch.zeros(1, 3, 3, dtype=torch.float64)
    assert certify(*problem, plan, plan[:, 0]).marginal_error.item() == pytest.approx(2)
