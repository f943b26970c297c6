"""Classes taught by those who annotate them, by hand and against each class alone."""

import dataclasses

import pytest
import torch
from torch import Tensor

from strategies.class_weights import weigh_by_class
from strategies.distillation import distillation_shares, multishot_loss
from strategies.fedefm_settings import FedEFMSettings
from strategies.settings import RunSettings
from strategies.weighing import edge_weights

# Teachers a, b, c; a annotates both classes, b the first, c the second.
ANNOTATED = torch.tensor([[True, True], [True, False], [False, True]])
SCORES = torch.tensor([[0.5, 0.1], [0.4, 0.2], [-0.3, 0.9]])
BATCH, CLASSES = 2, 2


@pytest.fixture
def fedefm(run_settings: RunSettings) -> FedEFMSettings:
    return dataclasses.replace(
        run_settings.fedefm, weight_per="sample", weight_temperature=0.1
    )


def weigh(
    settings: FedEFMSettings, annotated: Tensor = ANNOTATED, **options: Tensor
) -> dict[tuple[int, int], list[float]]:
    generator = torch.Generator().manual_seed(3)
    pairs = weigh_by_class(SCORES, annotated, settings, generator, **options)
    return {(one.teacher, one.label): one.weight.tolist() for one in pairs}


def logits(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH, CLASSES, 4, 4, generator=generator)


def loss(settings: FedEFMSettings, annotated: Tensor) -> Tensor:
    """Of three teachers, as a silo descends on it."""
    generator = torch.Generator().manual_seed(3)
    pairs = weigh_by_class(SCORES, annotated, settings, generator)
    losses = [share(one.teacher, slice(one.label, one.label + 1)) for one in pairs]
    weights = [one.weight for one in pairs]
    return multishot_loss(torch.zeros(()), losses, weights, beta=1.0, settings=settings)


def share(teacher: int, part: slice) -> Tensor:
    student, taught = logits(9)[:, part], logits(teacher)[:, part]
    return distillation_shares(student, taught, temperature=2.0)


def plain_loss(
    settings: FedEFMSettings, rows: list[int], part: slice = slice(None)
) -> Tensor:
    """Of some teachers, as if there were neither others nor other classes."""
    generator = torch.Generator().manual_seed(3)
    weights = edge_weights(SCORES[rows], settings, generator)
    return multishot_loss(
        torch.zeros(()),
        [share(row, part) for row in rows],
        list(weights),
        beta=1.0,
        settings=settings,
    )


def test_a_softmax_is_over_those_who_annotate_the_class(
    fedefm: FedEFMSettings,
) -> None:
    found = weigh(dataclasses.replace(fedefm, edge_weight="softmax", reduction="sum"))
    assert list(found) == [(0, 0), (1, 0), (0, 1), (2, 1)]
    for (first, second), label in (((0, 1), 0), ((0, 2), 1)):
        gap = (SCORES[first] - SCORES[second]) / 0.1
        expected = gap.sigmoid() / CLASSES  # the mean over classes
        assert found[first, label] == pytest.approx(expected.tolist())
        assert found[second, label] == pytest.approx(
            (0.5 - expected).tolist(), abs=1e-6
        )


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", ["one", "emd", "softmax", "random"])
def test_where_all_annotate_everything_the_loss_is_that_without_classes(
    kind: str, reduction: str, fedefm: FedEFMSettings
) -> None:
    settings = dataclasses.replace(fedefm, edge_weight=kind, reduction=reduction)
    found = loss(settings, torch.ones(3, 2, dtype=torch.bool))
    torch.testing.assert_close(found, plain_loss(settings, [0, 1, 2]))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", ["one", "emd", "softmax"])
def test_the_loss_is_the_mean_of_classes_each_with_its_own_teachers(
    kind: str, reduction: str, fedefm: FedEFMSettings
) -> None:
    settings = dataclasses.replace(fedefm, edge_weight=kind, reduction=reduction)
    annotated = torch.tensor([[True, False], [True, False], [False, True]])
    first = plain_loss(settings, [0, 1], slice(0, 1))
    second = plain_loss(settings, [2], slice(1, 2))
    torch.testing.assert_close(loss(settings, annotated), (first + second) / 2)


def test_a_class_that_nobody_annotates_or_wants_is_left_out(
    fedefm: FedEFMSettings,
) -> None:
    settings = dataclasses.replace(fedefm, edge_weight="one")
    first = torch.tensor([[True, False], [True, False], [False, False]])
    assert weigh(settings, first) == {(0, 0): [1.0, 1.0], (1, 0): [1.0, 1.0]}
    wanted = torch.tensor([False, True])
    assert weigh(settings, wanted=wanted) == {(0, 1): [1, 1], (2, 1): [1, 1]}
    assert weigh(settings, torch.zeros(3, 2, dtype=torch.bool)) == {}


def test_random_weights_are_drawn_for_whoever_teaches(fedefm: FedEFMSettings) -> None:
    settings = dataclasses.replace(fedefm, edge_weight="random", reduction="sum")
    found = weigh(settings)
    assert len({tuple(one) for one in found.values()}) == len(found) == 4
    everybody = weigh(settings, torch.ones(3, 2, dtype=torch.bool))
    assert everybody[0, 0] == everybody[0, 1] != everybody[1, 0]
