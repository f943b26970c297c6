import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies import transport_exact
from strategies.transport_certificate import TransportError, certify
from strategies.transport_exact import solve_exact
from tests.strategies.transport_problems import (
    COSTS,
    MASSES,
    make_problem,
    solve_with_highs,
    uniform,
)

# HiGHS takes masses and reduced costs below an absolute 1e-7 for zero.
COMPARABLE = tuple(kind for kind in MASSES if kind != "wide")

problems = {
    "n": st.integers(1, 8),
    "m": st.integers(1, 8),
    "seed": st.integers(0, 10_000),
    "costs": st.sampled_from(COSTS),
    "masses": st.sampled_from(MASSES),
}


@pytest.fixture(params=["compiled", "front door"])
def entry(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Solve through POT's compiled entry, then as if it did not exist."""
    if request.param == "front door":
        monkeypatch.setattr(transport_exact, "_compiled_solver", lambda: None)
    else:
        assert transport_exact._compiled_solver() is not None
    return str(request.param)


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_a_translation_costs_its_squared_length(shift: float, entry: str) -> None:
    x = torch.linspace(0, 1, 5, dtype=torch.float64)
    cost = (x[:, None] - (x + shift)[None, :]).square()[None]
    found = solve_exact(cost, uniform(1, 5), uniform(1, 5))
    assert found.cost.item() == pytest.approx(shift**2, abs=1e-12)


def test_mass_that_must_cross_pays_the_way(entry: str) -> None:
    # 0.7 on the left, 0.2 of it must go over at a price of 3: 0.6.
    cost = torch.tensor([[[0.0, 3.0], [3.0, 0.0]]])
    found = solve_exact(cost, torch.tensor([[0.7, 0.3]]), torch.tensor([[0.5, 0.5]]))
    assert found.cost.item() == pytest.approx(0.6, abs=1e-7)
    assert found.plan[0, 0, 1].item() == pytest.approx(0.2, abs=1e-7)


@given(**{**problems, "masses": st.sampled_from(COMPARABLE)})
@settings(max_examples=100, deadline=None)
def test_the_cost_agrees_with_a_linear_programme(
    n: int, m: int, seed: int, costs: str, masses: str
) -> None:
    unit = {"tiny": 1e-12, "huge": 1e9}.get(costs, 1.0)
    problem = make_problem(n, m, seed=seed, costs=costs, masses=masses)
    found = solve_exact(*problem)
    expected = solve_with_highs(
        problem.cost[0] / unit, problem.source[0], problem.target[0]
    )
    assert found.cost.item() / unit == pytest.approx(expected.cost, rel=1e-9, abs=1e-9)


@given(**problems)
@settings(max_examples=100, deadline=None)
def test_the_plan_meets_its_masses_and_the_gap_proves_it_optimal(
    n: int, m: int, seed: int, costs: str, masses: str
) -> None:
    problem = make_problem(n, m, seed=seed, costs=costs, masses=masses)
    found = solve_exact(*problem)
    assert found.plan.min() >= 0
    assert found.marginal_error.item() < 1e-12
    assert abs(found.gap.item()) <= 1e-11 * problem.cost.abs().max().item()


@pytest.mark.parametrize("masses", MASSES)
def test_a_single_source_has_no_choice(masses: str) -> None:
    problem = make_problem(1, 6, seed=1, masses=masses)
    found = solve_exact(*problem)
    torch.testing.assert_close(found.plan[0, 0], problem.target[0])
    expected = (problem.cost[0, 0] * problem.target[0]).sum()
    assert found.cost.item() == pytest.approx(expected.item(), abs=1e-15)


def test_plan_and_potentials_are_those_of_a_linear_programme(entry: str) -> None:
    problem = make_problem(7, 5, seed=3)  # random: both are unique
    found = solve_exact(*problem)
    expected = solve_with_highs(*(tensor[0] for tensor in problem))
    np.testing.assert_allclose(found.plan[0], expected.plan, atol=1e-9)
    for ours, mass, theirs in (
        (found.source_potential[0], problem.source[0], expected.source_potential),
        (found.target_potential[0], problem.target[0], expected.target_potential),
    ):
        np.testing.assert_allclose(ours, theirs - theirs @ mass.numpy(), atol=1e-9)


@given(**problems)
@settings(max_examples=60, deadline=None)
def test_potentials_are_feasible_and_centred(
    n: int, m: int, seed: int, costs: str, masses: str
) -> None:
    problem = make_problem(n, m, seed=seed, costs=costs, masses=masses)
    found = solve_exact(*problem)
    size = problem.cost.abs().max()
    f, g = found.source_potential, found.target_potential
    # Centring took out the optimum itself.
    slack = problem.cost - found.cost - f[:, :, None] - g[:, None, :]
    assert slack.min() >= -1e-9 * size
    assert (f * problem.source).sum().abs() <= 1e-9 * size
    assert (g * problem.target).sum().abs() <= 1e-9 * size


@pytest.mark.parametrize("masses", MASSES)
def test_both_entries_of_the_library_find_the_same(
    masses: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = make_problem(9, 6, seed=1, batch=3, masses=masses)
    compiled = solve_exact(*problem)
    monkeypatch.setattr(transport_exact, "_compiled_solver", lambda: None)
    through_front_door = solve_exact(*problem)
    torch.testing.assert_close(compiled.cost, through_front_door.cost)
    torch.testing.assert_close(compiled.plan, through_front_door.plan)


@pytest.mark.parametrize("costs", COSTS)
@pytest.mark.parametrize("masses", MASSES)
def test_the_fast_certificate_is_the_general_one(costs: str, masses: str) -> None:
    problem = make_problem(6, 8, seed=2, batch=3, costs=costs, masses=masses)
    found = solve_exact(*problem)
    again = certify(*problem, found.plan, found.source_potential)
    size = float(problem.cost.abs().max())
    for ours, theirs in zip(found, again, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12 * max(size, 1))


def test_a_missing_compiled_entry_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    # None in sys.modules makes an import fail.
    monkeypatch.setitem(sys.modules, "ot.lp.emd_wrap", None)
    assert transport_exact._compiled_solver.__wrapped__() is None


@pytest.mark.parametrize(
    "changed",
    [
        lambda source, target, cost, limit: None,  # fewer arguments
        lambda *arguments: (np.eye(2), 0.0, np.zeros(2)),  # fewer results
        lambda *arguments: (np.eye(2), 0.0, np.zeros(2), np.zeros(2), 1),  # wrong
        lambda *arguments: (np.eye(2) / 2, 0.0, np.zeros(2), np.zeros(2), 0),
    ],
)
def test_a_compiled_entry_that_has_changed_is_not_used(
    changed: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ot.lp.emd_wrap.emd_c", changed)
    assert transport_exact._compiled_solver.__wrapped__() is None


@pytest.mark.filterwarnings("ignore:numItermax reached")
def test_reaching_the_limit_of_pivots_never_passes_silently(entry: str) -> None:
    problem = make_problem(30, 30, seed=0, masses="uniform")
    with pytest.raises(TransportError, match=r"30 x 30 nodes, limit 3 pivots"):
        solve_exact(*problem, max_pivots=3)


def test_a_plan_that_is_not_optimal_is_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = make_problem(4, 4, seed=0)

    def product(
        source: np.ndarray, target: np.ndarray, cost: np.ndarray, max_pivots: int
    ) -> transport_exact._Answer:
        return transport_exact._Answer(np.outer(source, target), 0 * source, 1)

    monkeypatch.setattr(transport_exact, "_compiled_solver", lambda: product)
    with pytest.raises(TransportError, match="called a plan optimal that is not"):
        solve_exact(*problem)


def test_the_result_does_not_depend_on_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = make_problem(20, 15, seed=5, batch=7)
    alone = solve_exact(*problem)
    monkeypatch.setattr(transport_exact, "THREADED_VALUES", 0)
    monkeypatch.setattr(transport_exact.torch, "get_num_threads", lambda: 3)
    together = solve_exact(*problem)
    for ours, theirs in zip(alone, together, strict=True):
        assert torch.equal(ours, theirs)


def test_the_items_of_a_batch_do_not_meet() -> None:
    problem = make_problem(5, 4, seed=8, batch=4)
    together = solve_exact(*problem)
    for item in range(4):
        alone = solve_exact(*(tensor[item : item + 1] for tensor in problem))
        for ours, theirs in zip(together, alone, strict=True):
            torch.testing.assert_close(ours[item : item + 1], theirs)


def test_single_precision_costs_are_solved_in_double() -> None:
    problem = make_problem(12, 12, seed=4)
    exact = solve_exact(*problem)
    rough = solve_exact(*(tensor.float() for tensor in problem))
    assert rough.cost.dtype == torch.float64
    assert rough.cost.item() == pytest.approx(exact.cost.item(), abs=1e-6)
    assert rough.marginal_error.item() < 1e-12
    assert abs(rough.gap.item()) < 1e-12


def test_transposed_views_are_read_rightly() -> None:
    problem = make_problem(5, 7, seed=6)
    there = solve_exact(*problem)
    back = solve_exact(problem.cost.transpose(1, 2), problem.target, problem.source)
    torch.testing.assert_close(there.cost, back.cost)


def test_no_problem_has_no_plan() -> None:
    found = solve_exact(torch.zeros(0, 3, 4), torch.zeros(0, 3), torch.zeros(0, 4))
    assert found.plan.shape == (0, 3, 4)


@pytest.mark.parametrize(
    ("cost", "source", "target", "words"),
    [
        (torch.zeros(2, 2), uniform(1, 2), uniform(1, 2), "Wanted cost"),
        (torch.zeros(1, 2, 3), uniform(1, 2), uniform(1, 2), "belong together"),
        (torch.zeros(1, 2, 0), uniform(1, 2), torch.zeros(1, 0), "without nodes"),
        (torch.zeros(1, 2, 2), uniform(1, 2) * 2, uniform(1, 2), "sum to one"),
        (torch.zeros(1, 2, 2) * torch.inf, uniform(1, 2), uniform(1, 2), "diverged"),
        (torch.full((1, 2, 2), torch.inf), uniform(1, 2), uniform(1, 2), "diverged"),
        (torch.zeros(1, 2, 2), uniform(1, 2) * torch.nan, uniform(1, 2), "diverged"),
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


def test_a_forked_process_can_still_solve() -> None:
    # Threads do not survive a fork; a pool that is kept would hang the child.
    code = (
        "import os, torch\n"
        "from strategies import transport_exact as exact\n"
        "exact.THREADED_VALUES = 0\n"
        "torch.set_num_threads(2)\n"
        "mass = torch.full((4, 3), 1 / 3)\n"
        "problem = torch.rand(4, 3, 3), mass, mass\n"
        "exact.solve_exact(*problem)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    exact.solve_exact(*problem)\n"
        "    os._exit(7)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=120, check=False)
    assert done.returncode == 7
