"""Scores and weights of teachers, by hand and against single calls."""

import dataclasses

import numpy as np
import ot
import pytest
import torch

from strategies.fedefm_settings import FedEFMSettings
from strategies.settings import RunSettings
from strategies.transport import emd_similarity, pool_to_nodes
from strategies.weighing import (
    Scores,
    common_scores,
    complete,
    edge_weights,
    raw_scores,
    standardised_scores,
)


@pytest.fixture
def fedefm(run_settings: RunSettings) -> FedEFMSettings:
    return run_settings.fedefm


def change(settings: FedEFMSettings, **values: object) -> FedEFMSettings:
    return dataclasses.replace(settings, **values)  # type: ignore[arg-type]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_teacher_with_the_same_features_scores_one(fedefm: FedEFMSettings) -> None:
    maps = torch.randn(2, 5, 8, 8, generator=generator())
    found = raw_scores(maps, {"same": maps, "opposite": -maps}, fedefm)
    assert found.teachers == ("same", "opposite")
    assert found.score[0].tolist() == pytest.approx([1, 1])
    assert float(found.score[1].mean()) < 0.7
    assert float(found.gap.max()) < 1e-9
    assert torch.equal(found.emd, found.score)


@pytest.mark.parametrize("marginals", ["uniform", "cross-reference"])
def test_many_teachers_score_as_each_on_its_own(
    marginals: str, fedefm: FedEFMSettings
) -> None:
    settings = change(fedefm, marginals=marginals)
    student = torch.randn(3, 6, 8, 8, generator=generator())
    teachers = {
        name: torch.randn(3, 6, 8, 8, generator=generator(seed))
        for seed, name in enumerate("abc", start=1)
    }
    found = raw_scores(student, teachers, settings)
    for row, features in zip(found.score, teachers.values(), strict=True):
        alone = emd_similarity(
            pool_to_nodes(student, 4), pool_to_nodes(features, 4), marginals=marginals
        )
        assert torch.equal(row, alone.score)


def test_only_the_settings_let_a_score_carry_gradients(fedefm: FedEFMSettings) -> None:
    student = torch.randn(2, 5, 8, 8, generator=generator(), requires_grad=True)
    teacher = {"a": torch.randn(2, 5, 8, 8, generator=generator(1))}
    assert not raw_scores(student, teacher, fedefm).score.requires_grad
    flow = raw_scores(student, teacher, change(fedefm, emd_gradient="flow"))
    flow.score.sum().backward()
    assert float(student.grad.abs().sum()) > 0


def test_without_teachers_there_are_no_rows(fedefm: FedEFMSettings) -> None:
    maps = torch.randn(2, 5, 8, 8, generator=generator())
    tokens = pool_to_nodes(maps, 4)
    for found in (raw_scores(maps, {}, fedefm), common_scores(tokens, {}, fedefm)):
        assert found.score.shape == (0, 2)
        assert edge_weights(found.score, fedefm, generator()).shape == (0, 2)


@pytest.fixture
def common(fedefm: FedEFMSettings) -> FedEFMSettings:
    return change(fedefm, score="common", prototypes=16, weight_per="sample")


def kinds() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Six frames and three sites: frames 0 and 3 show what site a holds, and so on."""
    means = torch.randn(3, 4, 8, generator=generator(7))  # site, node, dim

    def draw(site: int, nodes: int, seed: int) -> torch.Tensor:
        noise = torch.randn(nodes, 8, generator=generator(seed))
        return means[site].repeat(nodes // 4, 1) + 0.3 * noise

    tokens = torch.stack([draw(k % 3, 16, 10 + k) for k in range(6)])
    return tokens, {name: draw(k, 8, 20 + k) for k, name in enumerate("abc")}


def test_common_scores_are_double_centred_and_standardised(
    common: FedEFMSettings,
) -> None:
    tokens, prototypes = kinds()
    found = common_scores(tokens, prototypes, common)
    emd = np.array(
        [
            emd_similarity(
                tokens, prototypes[name].expand(6, -1, -1), centred=True
            ).score.numpy()
            for name in "abc"
        ],
        dtype=np.float64,
    )
    both = emd - emd.mean(0, keepdims=True) - emd.mean(1, keepdims=True) + emd.mean()
    np.testing.assert_allclose(found.emd, emd, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.score, both / both.std(), rtol=0, atol=1e-4)
    assert found.score.argmax(0).tolist() == [0, 1, 2, 0, 1, 2]
    assert float(found.gap.max()) < 1e-9


def test_a_token_that_all_share_changes_no_common_score(
    common: FedEFMSettings,
) -> None:
    tokens, prototypes = kinds()
    expected = common_scores(tokens, prototypes, common).score
    moved = {name: one + 3.0 for name, one in prototypes.items()}
    found = common_scores(tokens - 5.0, moved, common).score
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_a_batch_that_counts_as_one_frame_is_centred_over_teachers_alone(
    common: FedEFMSettings,
) -> None:
    tokens, prototypes = kinds()
    only_b = tokens[[1, 4]]
    found = common_scores(only_b, prototypes, change(common, weight_per="batch"))
    mean = found.emd.double().mean(1)
    expected = (mean - mean.mean()) / mean.std(correction=0)
    for column in found.score.T:
        np.testing.assert_allclose(column, expected, atol=1e-5)
    assert found.score[:, 0].argmax() == 1


def test_one_frame_is_centred_over_teachers_alone(common: FedEFMSettings) -> None:
    tokens, prototypes = kinds()
    score = common_scores(tokens[2:3], prototypes, common).score
    assert score.argmax(0).tolist() == [2]
    assert float(score.mean()) == pytest.approx(0, abs=1e-6)
    assert float(score.std(correction=0)) == pytest.approx(1, rel=1e-5)


def test_scores_that_tell_nothing_are_zero(common: FedEFMSettings) -> None:
    tokens, prototypes = kinds()
    alone = common_scores(tokens, {"a": prototypes["a"]}, common)
    twins = common_scores(tokens, dict.fromkeys("xy", prototypes["a"]), common)
    flat = common_scores(torch.ones(3, 16, 8), prototypes, common)
    for found in (alone, twins, flat):
        assert torch.equal(found.score, torch.zeros_like(found.score))
        # Then every teacher counts as with w = 1, instead of all being silenced.
        weights = edge_weights(found.score, common, generator())
        assert torch.equal(weights, torch.ones_like(weights))


@pytest.fixture
def standardised(common: FedEFMSettings) -> FedEFMSettings:
    return change(common, score="standardised")


def test_standardised_scores_compare_channels_by_their_spread_over_sites(
    standardised: FedEFMSettings,
) -> None:
    tokens, prototypes = kinds()
    prototypes["b"] = torch.cat([prototypes["b"]] * 3)  # many count as one site
    found = standardised_scores(tokens, prototypes, standardised)
    shown = [one.double().numpy() for one in prototypes.values()]
    centre = np.mean([one.mean(0) for one in shown], axis=0)
    spread = np.sqrt(np.mean([((one - centre) ** 2).mean(0) for one in shown], axis=0))

    def cosines(frame: np.ndarray, site: np.ndarray) -> np.ndarray:
        left, right = (frame - centre) / spread, (site - centre) / spread
        left /= np.linalg.norm(left, axis=1, keepdims=True)
        return left @ (right / np.linalg.norm(right, axis=1, keepdims=True)).T

    emd = np.array(
        [
            [
                1 - ot.emd2([], [], 1 - cosines(one, site))
                for one in tokens.double().numpy()
            ]
            for site in shown
        ]
    )
    np.testing.assert_allclose(found.emd, emd, rtol=0, atol=1e-5)
    centred = emd - emd.mean(0)
    np.testing.assert_allclose(found.score, centred / centred.std(), rtol=0, atol=1e-3)
    assert found.score.argmax(0).tolist() == [0, 1, 2, 0, 1, 2]


def test_sites_that_differ_as_a_whole_are_told_apart_when_standardised(
    common: FedEFMSettings, standardised: FedEFMSettings
) -> None:
    """As when one site's frames are inverted or noisier than those of another."""
    nodes = torch.randn(8, 8, generator=generator(3))
    prototypes = {"a": nodes + 2.0, "b": nodes - 2.0}
    tokens = torch.stack([nodes - 2.1, nodes + 1.9])
    found = standardised_scores(tokens, prototypes, standardised).score
    assert found.argmax(0).tolist() == [1, 0]
    blind = common_scores(tokens, prototypes, common).score
    assert torch.equal(blind, torch.zeros_like(blind))


def test_a_standardised_score_ranks_a_frame_alike_in_every_batch(
    standardised: FedEFMSettings,
) -> None:
    tokens, prototypes = kinds()
    together = standardised_scores(tokens, prototypes, standardised).score
    for one in range(6):
        alone = standardised_scores(tokens[[one]], prototypes, standardised).score[:, 0]
        torch.testing.assert_close(
            alone / alone.norm(), together[:, one] / together[:, one].norm()
        )


def test_a_channel_in_which_no_site_differs_counts_nothing(
    standardised: FedEFMSettings,
) -> None:
    tokens, prototypes = kinds()
    expected = standardised_scores(tokens, prototypes, standardised).score
    wide = {
        n: torch.cat([p, torch.full((8, 1), 9.0)], 1) for n, p in prototypes.items()
    }
    noise = torch.randn(6, 16, 1, generator=generator(4))
    found = standardised_scores(torch.cat([tokens, noise], 2), wide, standardised).score
    torch.testing.assert_close(found, expected)
    assert standardised_scores(tokens, {}, standardised).score.shape == (0, 6)


def test_a_teacher_that_could_not_be_scored_gets_the_mean() -> None:
    values = torch.tensor([[1.0, 3.0], [2.0, -3.0]])
    found = complete(Scores(("a", "c"), values, values, values), ["a", "b", "c"])
    assert found.teachers == ("a", "b", "c")
    assert found.score.tolist() == [[1, 3], [1.5, 0], [2, -3]]
    nobody = Scores((), *[torch.zeros(0, 2)] * 3)
    assert complete(nobody, ["b"]).score.tolist() == [[0, 0]]
    assert complete(nobody, []).score.shape == (0, 2)


SCORES = torch.tensor([[0.2, 0.6], [-0.9, 0.1], [0.8, 0.8]])


def test_the_default_is_the_clipped_mean_over_the_batch_to_the_bit(
    fedefm: FedEFMSettings,
) -> None:
    scores = torch.randn(3, 7, generator=generator())
    found = edge_weights(scores, fedefm, generator())
    for row, weights in zip(scores, found, strict=True):
        assert torch.equal(weights, row.mean().clamp_min(0.0).expand(7))
    assert float(found.min()) == 0  # one mean here is negative


def test_a_negative_score_weighs_nothing(fedefm: FedEFMSettings) -> None:
    by_batch = edge_weights(SCORES, fedefm, generator())
    assert by_batch.tolist() == [pytest.approx([w, w]) for w in (0.4, 0, 0.8)]
    settings = change(fedefm, weight_per="sample")
    by_frame = edge_weights(SCORES, settings, generator())
    assert torch.equal(by_frame, torch.tensor([[0.2, 0.6], [0, 0.1], [0.8, 0.8]]))


@pytest.mark.parametrize("weight_per", ["batch", "sample"])
def test_the_controls_do_not_look_at_the_score(
    weight_per: str, fedefm: FedEFMSettings
) -> None:
    settings = change(fedefm, weight_per=weight_per)
    one = edge_weights(SCORES, change(settings, edge_weight="one"), generator())
    assert torch.equal(one, torch.ones(3, 2))
    random = change(settings, edge_weight="random")
    drawn = edge_weights(SCORES, random, generator())
    assert torch.equal(drawn, edge_weights(-SCORES, random, generator()))
    assert 0 <= float(drawn.min()) < float(drawn.max()) <= 1
    assert torch.equal(drawn[:, 0], drawn[:, 1]) == (weight_per == "batch")


def test_random_weights_of_a_batch_are_one_number_a_teacher_in_order(
    fedefm: FedEFMSettings,
) -> None:
    source, again = generator(), generator()
    found = edge_weights(SCORES, change(fedefm, edge_weight="random"), source)
    single = [float(torch.rand((), generator=again)) for _ in range(3)]
    assert found[:, 0].tolist() == single


def test_softmax_shares_one_unit_among_the_teachers(fedefm: FedEFMSettings) -> None:
    settings = change(fedefm, edge_weight="softmax", weight_temperature=0.5)
    means = np.array([0.4, -0.4, 0.8]) / 0.5
    expected = np.exp(means) / np.exp(means).sum()
    by_batch = edge_weights(SCORES, settings, generator())
    np.testing.assert_allclose(by_batch[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(by_batch[:, 1], expected, rtol=1e-6)
    settings = change(settings, weight_per="sample")
    by_frame = edge_weights(SCORES, settings, generator())
    np.testing.assert_allclose(by_frame.sum(0), [1, 1], rtol=1e-6)
    raised = np.exp(SCORES[:, 1].numpy() / 0.5)
    np.testing.assert_allclose(by_frame[:, 1], raised / raised.sum(), rtol=1e-6)
