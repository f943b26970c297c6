import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.roc import NUM_BINS, ScoreHistogram, roc_auc


def frames(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw probabilities as networks give them: nearly all very near 0 or 1."""
    generator = np.random.default_rng(seed)
    labels = generator.random((6, 40, 50)) < 0.05
    logits = generator.normal(np.where(labels, -2, -7), 3)
    return (1 / (1 + np.exp(-logits))).astype(np.float32), labels


def test_auc_is_the_share_of_pairs_in_the_right_order_with_ties_as_half() -> None:
    # Pairs (0.4 over 0.1), (0.4 ties 0.4), (0.9 over both): 3.5 of 4.
    scores = np.array([0.1, 0.4, 0.4, 0.9])
    assert roc_auc(scores, np.array([False, False, True, True])) == 3.5 / 4


@pytest.mark.parametrize("digits", [2, 7])
def test_auc_agrees_with_scikit_learn_with_and_without_ties(digits: int) -> None:
    scores, labels = frames()
    scores = scores.round(digits)
    expected = roc_auc_score(labels.ravel(), scores.ravel())
    assert roc_auc(scores, labels) == pytest.approx(expected, abs=1e-12)


def test_the_histogram_is_within_its_own_uncertainty_of_the_exact_value() -> None:
    scores, labels = frames()
    histogram = ScoreHistogram.of(scores, labels)
    error = abs(histogram.auc() - roc_auc(scores, labels))
    assert error <= histogram.uncertainty()
    assert histogram.uncertainty() < 2e-3
    assert error < 1e-4


def test_histograms_of_sites_add_up_to_the_histogram_of_all_frames() -> None:
    scores, labels = frames()
    whole = ScoreHistogram.of(scores, labels)
    sites = [ScoreHistogram.of(scores[at], labels[at]) for at in ([0, 4], [1, 2, 3, 5])]
    received = [ScoreHistogram.from_dict(site.to_dict()) for site in sites]
    assert sum(received, start=ScoreHistogram()) == whole
    assert sum(received, start=ScoreHistogram()).auc() == whole.auc()


def test_probabilities_of_exactly_0_and_1_are_in_the_outer_bins() -> None:
    scores, labels = np.array([0.0, 1.0, 0.5]), np.array([False, True, True])
    histogram = ScoreHistogram.of(scores, labels)
    assert histogram.negatives[0] == 1
    assert histogram.positives[NUM_BINS - 1] == 1
    assert histogram.positives[NUM_BINS // 2] == 1
    assert (histogram.auc(), histogram.uncertainty()) == (1, 0)


@pytest.mark.parametrize("value", [True, False])
def test_one_class_alone_has_no_auc_and_the_pool_is_not_harmed(value: bool) -> None:
    scores, labels = frames()
    alone = np.full_like(labels, value)
    assert math.isnan(roc_auc(scores, alone))
    assert math.isnan(ScoreHistogram.of(scores, alone).auc())
    assert math.isnan(ScoreHistogram().uncertainty())
    pool = ScoreHistogram.of(scores, alone) + ScoreHistogram.of(scores, labels)
    assert 0.5 < pool.auc() < 1


def test_what_is_no_probability_and_no_histogram_is_refused() -> None:
    scores, labels = frames()
    with pytest.raises(ValueError, match="from 0 to 1"):
        ScoreHistogram.of(scores * 2, labels)
    with pytest.raises(ValueError, match="not a number"):
        roc_auc(np.array([np.nan, 0.0]), np.array([True, False]))
    with pytest.raises(ValueError, match="of one shape"):
        roc_auc(scores, labels[0])
    with pytest.raises(ValueError, match="whole numbers"):
        ScoreHistogram(positives=(1,))
    with pytest.raises(ValueError, match="has the keys"):
        ScoreHistogram.from_dict({"roc-positives": []})
