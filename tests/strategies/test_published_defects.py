"""What is wrong or contradictory in the published FedEFM, and what became of it.

The numbers are those of the list of defects: twelve of the text, and of the
contradictions between its sources those that concern code. Most tests stand beside the
module that they test; here are the others, and the list itself.
"""

import re

import pytest
import torch

from models.classes import CLASS_NAMES
from models.registry import build_model
from strategies.fedefm_settings import PAPER, FedEFMSettings
from strategies.settings import RunSettings, SettingValue
from strategies.transport import emd_similarity, pool_to_nodes, solve
from tests.conftest import ROOT

HERE = "tests/strategies/test_published_defects.py"
TRANSPORT = "strategies/transport.py"
RESOLVED = [
    # what, where it is said, where it is tested
    (
        "defect 1",
        TRANSPORT,
        "tests/strategies/test_transport.py",
        "test_the_score_is_one_minus_the_transport_cost",
    ),
    (
        "defect 2",
        TRANSPORT,
        "tests/strategies/test_transport.py",
        "test_cross_reference_gives_mass_to_nodes_that_resemble_the_other_set",
    ),
    (
        "defect 3",
        "strategies/transport_exact.py",
        HERE,
        "test_the_best_flows_are_mostly_zero",
    ),
    (
        "defect 4",
        TRANSPORT,
        "tests/strategies/test_transport.py",
        "test_gradients_to_costs_and_weights_agree_with_finite_differences",
    ),
    (
        "defect 5",
        TRANSPORT,
        HERE,
        "test_gradients_exist_where_the_published_jacobian_is_singular",
    ),
    (
        "defect 6",
        TRANSPORT,
        "tests/strategies/test_transport.py",
        "test_the_flow_gradient_alone_misses_the_masses",
    ),
    (
        "defect 7",
        TRANSPORT,
        HERE,
        "test_256_nodes_are_solved_without_a_dense_programme",
    ),
    (
        "defect 8",
        "strategies/distillation.py",
        "tests/strategies/test_distillation.py",
        "test_the_literal_paper_weighs_the_labels_too",
    ),
    (
        "defect 9",
        "strategies/weighing.py",
        "tests/strategies/test_weighing.py",
        "test_a_negative_score_weighs_nothing",
    ),
    (
        "defect 10",
        "strategies/accumulation.py",
        "tests/strategies/test_accumulation.py",
        "test_the_sum_is_normalised_by_who_took_part",
    ),
    (
        "defect 11",
        "strategies/distillation.py",
        "tests/strategies/test_distillation.py",
        "test_image_losses_agree_with_torch_and_are_averaged_over_the_batch",
    ),
    (
        "defect 12",
        "models/classes.py",
        HERE,
        "test_every_site_has_the_same_index_of_logits",
    ),
    (
        "defect 12",
        "strategies/model_settings.py",
        HERE,
        "test_every_site_has_the_same_index_of_logits",
    ),
    (
        "contradiction 1",
        "strategies/route.py",
        "tests/strategies/test_fedefm.py",
        "test_models_travel_round_the_ring_and_return_as_teachers",
    ),
    (
        "contradiction 2",
        "clients/partition.py",
        "tests/clients/test_partition.py",
        "test_100_percent_means_disjoint_silos_and_0_that_all_hold_all",
    ),
    (
        "contradiction 7",
        "strategies/accumulation.py",
        "tests/strategies/test_accumulation.py",
        "test_the_sum_is_normalised_by_who_took_part",
    ),
    (
        "contradiction 8",
        "strategies/transport.py",
        "tests/strategies/test_transport.py",
        "test_a_set_is_perfectly_similar_to_itself_in_any_order",
    ),
    (
        "contradiction 11",
        "strategies/fedefm.py",
        "tests/strategies/test_fedefm.py",
        "test_round_zero_is_local_and_ends_in_the_mean",
    ),
]


@pytest.mark.parametrize(("what", "module", "file", "test"), RESOLVED)
def test_a_published_defect_is_cited_where_it_is_resolved_and_tested(
    what: str, module: str, file: str, test: str
) -> None:
    kind, number = what.split()
    text = " ".join((ROOT / module).read_text(encoding="utf-8").split())
    cited = re.findall(rf"{kind}s? (\d+)(?: to (\d+))?", text, flags=re.IGNORECASE)
    ranges = [range(int(a), int(b or a) + 1) for a, b in cited]
    assert any(int(number) in one for one in ranges)
    assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8")


def test_the_list_of_defects_is_complete() -> None:
    assert {f"defect {number}" for number in range(1, 13)} | {
        f"contradiction {number}" for number in (1, 2, 7, 8, 11)
    } == {what for what, *_ in RESOLVED}


def test_the_best_flows_are_mostly_zero() -> None:
    cost = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    mass = torch.full((3, 16), 1 / 16, dtype=torch.float64)
    plan = solve(cost, mass, mass).plan
    assert float(plan.min()) == 0  # eq. (5) would forbid all of these
    assert int((plan > 0).sum(dim=(1, 2)).max()) <= 16 + 16 - 1


def test_gradients_exist_where_the_published_jacobian_is_singular() -> None:
    features = torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(0))
    students = features.double().requires_grad_()
    teachers = features.flip(1).double() + 0.1
    found = emd_similarity(students, teachers, gradient="flow")
    plan = found.transport.plan[0].flatten()
    # The conditions of eq. (8), with the gradient by x: of the Lagrangian, of
    # complementary slackness of x >= 0 and of the masses.
    size, ones = plan.numel(), torch.ones(3, dtype=torch.float64)
    eye = torch.eye(3, dtype=torch.float64)
    masses = torch.cat([torch.kron(eye, ones), torch.kron(ones, eye)])
    transport = found.transport
    slack = (1 - cosine(students, teachers).detach()).flatten() - (
        transport.source_potential[0][:, None] + transport.target_potential[0]
    ).flatten()
    slack = slack - slack.min()
    jacobian = torch.zeros(2 * size + 6, 2 * size + 6, dtype=torch.float64)
    jacobian[:size, size : 2 * size] = -torch.eye(size)
    jacobian[:size, 2 * size :] = masses.T
    jacobian[size : 2 * size, :size] = torch.diag(slack)
    jacobian[size : 2 * size, size : 2 * size] = torch.diag(plan)
    jacobian[2 * size :, :size] = masses
    assert int(torch.linalg.matrix_rank(jacobian)) < len(jacobian)
    found.score.sum().backward()
    assert bool(torch.isfinite(students.grad).all())
    assert float(students.grad.abs().sum()) > 0


def cosine(students: torch.Tensor, teachers: torch.Tensor) -> torch.Tensor:
    left, right = (
        torch.nn.functional.normalize(x, dim=-1) for x in (students, teachers)
    )
    return left @ right.transpose(1, 2)


def test_256_nodes_are_solved_without_a_dense_programme() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(1, 8, 16, 16, generator=generator) for _ in range(2)]
    # 65,536 flows: a dense quadratic programme would hold their square, 34 GB.
    found = emd_similarity(*(pool_to_nodes(one, 16) for one in maps))
    assert found.transport.plan.shape == (1, 256, 256)
    assert float(found.transport.gap) < 1e-9
    # What a run uses by default: a 4 x 4 grid of the same map.
    assert pool_to_nodes(maps[0], 4).shape == (1, 16, 8)


def test_every_site_has_the_same_index_of_logits(
    run_config: dict[str, SettingValue],
) -> None:
    network = build_model("unet", image_size=32, seed=0)
    assert network(torch.zeros(1, 1, 32, 32)).shape[1] == len(CLASS_NAMES)
    one, other = (
        RunSettings.from_run_config(
            {
                **run_config,
                "model.task": "source-classification",
                "model.data-types": order,
            }
        ).model
        for order in ("human, animal,ct", "ct,human , animal")
    )
    assert one.labels == other.labels == ("animal", "ct", "human")
    assert one.recipe(0).num_labels == 3


def test_the_paper_can_still_be_read_literally(run_settings: RunSettings) -> None:
    fedefm: FedEFMSettings = run_settings.fedefm
    assert (fedefm.reduction, fedefm.weight_scope) == ("mean", "teacher")
    assert (PAPER["reduction"], PAPER["weight_scope"]) == ("sum", "loss")
    assert PAPER["emd_gradient"] == "none"  # eq. (2): a constant weight
