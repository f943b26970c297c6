"""Evaluation on hand-made frames: known answers, honest intervals, fair comparisons."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import wilcoxon
from torch import Tensor, nn

from clients.data.errors import DataError
from clients.data.frames import FrameSet
from experiments.evaluation.archive_facts import numbered_facts
from experiments.evaluation.comparison import (
    Comparison,
    compare,
    verdict_of,
)
from experiments.evaluation.contenders import classes_of, open_contenders
from experiments.evaluation.files import write_whole
from experiments.evaluation.frames import EvaluationFrames, SiteFrames
from experiments.evaluation.gallery import FALSE_ALARM, choose_cases, draw_case
from experiments.evaluation.intervals import (
    areas_under_roc,
    draw_weights,
    estimate,
    means,
    overlap_scores,
)
from experiments.evaluation.measuring import COLUMNS, COUNTS, Measured, measure_model
from experiments.evaluation.paired_tests import holm, signed_rank
from experiments.evaluation.summary import (
    DEVICE_IMAGE,
    FRAMES,
    IMAGE,
    OVERALL,
    POOLED,
    SEQUENCE,
    SITE,
    SummaryRow,
    scopes_of,
    summarise,
)
from experiments.model_source import ModelSource, data_settings_of
from models.assembly import Recipe
from models.image_metrics import METRICS, REGION_SCORES, measure_image
from models.metric_sums import MetricSums
from models.region_metrics import PixelCounts
from models.roc import NUM_BINS, ScoreHistogram, roc_auc

CPU = torch.device("cpu")
SIDE = 16


class Threshold(nn.Module):
    """Calls bright pixels a catheter and nothing a guidewire."""

    def __init__(self, level: float = 0.5) -> None:
        super().__init__()
        self.image_size = SIDE
        self.level = nn.Parameter(torch.tensor(level))

    def forward(self, images: Tensor) -> Tensor:
        logits = (images - self.level) * 20
        return torch.cat([logits, torch.full_like(logits, -5)], dim=1)


def model(level: float = 0.5, network: nn.Module | None = None) -> ModelSource:
    return ModelSource(
        kind="random",
        network=network or Threshold(level),
        recipe=Recipe("unet", SIDE, 0),
        data=data_settings_of({}, SIDE),
        card={},
    )


def evaluation_frames(*sets: FrameSet, spacing_mm: float = np.nan) -> EvaluationFrames:
    sites = []
    for number, frames in enumerate(sets):
        facts = numbered_facts(frames)
        facts.spacing_mm[:] = spacing_mm
        sites.append(SiteFrames(f"site-{number}", frames, facts, True))
    classes = ("catheter", "guidewire")
    seen = torch.cat([one.annotated for one in sets]).any(dim=0).tolist()
    kept = tuple(name for name, any_ in zip(classes, seen, strict=True) if any_)
    return EvaluationFrames(tuple(sites), kept, SIDE)


def frames_of(
    predicted: list[np.ndarray],
    labels: list[np.ndarray],
    patients: list[int],
    **more: Tensor,
) -> FrameSet:
    """Frames whose bright pixels are `predicted`; only catheters are annotated."""
    images = torch.from_numpy(np.stack(predicted).astype(np.float32))[:, None]
    masks = torch.zeros(len(images), 2, SIDE, SIDE, dtype=torch.uint8)
    masks[:, 0] = torch.from_numpy(np.stack(labels).astype(np.uint8))
    annotated = torch.tensor([[True, False]]).repeat(len(images), 1)
    return FrameSet(images, masks, annotated, torch.tensor(patients), **more)


def box(top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def random_frames(seed: int, patients: int, each: int = 3) -> FrameSet:
    generator = np.random.default_rng(seed)
    predicted, labels = [], []
    for _ in range(patients * each):
        top, left = generator.integers(1, 9, 2)
        label = box(top, left, 5, 3) & (generator.random() > 0.2)
        labels.append(label)
        predicted.append(np.roll(label, generator.integers(0, 3), axis=1))
        if generator.random() < 0.3:
            predicted[-1] = predicted[-1] | box(12, 12, 2, 2)
    numbers = [one for one in range(patients) for _ in range(each)]
    return frames_of(predicted, labels, numbers)


def summary_of(
    frames: EvaluationFrames, found: Measured, name: str = "A", seed: int = 0
) -> list[SummaryRow]:
    return summarise(name, found, frames, scopes_of(frames, resamples=200, seed=seed))


def find(
    rows: list[SummaryRow], averaging: str, metric: str, **more: str
) -> SummaryRow:
    wanted = {"averaging": averaging, "metric": metric, "scope": OVERALL, **more}
    found = [
        one for one in rows if all(getattr(one, k) == v for k, v in wanted.items())
    ]
    assert len(found) == 1
    return found[0]


def measure(frames: EvaluationFrames, level: float = 0.5) -> Measured:
    return measure_model(model(level), frames, batch_size=2, device=CPU)


def test_hand_made_frames_have_the_scores_worked_out_by_hand() -> None:
    empty = box(0, 0, 0, 0)
    frames = evaluation_frames(
        frames_of(
            # Half of a 4 x 4 box; a false alarm; rightly nothing; a miss.
            [box(4, 4, 4, 4), box(2, 2, 2, 2), empty, empty],
            [box(4, 6, 4, 4), empty, empty, box(4, 4, 4, 4)],
            [0, 0, 1, 1],
        )
    )
    found = measure(frames)
    dice = found.values[:, 0, COLUMNS.index("dice")]
    assert dice.tolist() == [0.5, 0.0, 1.0, 0.0]
    assert found.counts[0, 0].tolist() == [8, 8, 8, SIDE**2 - 24]
    rows = summary_of(frames, found)
    # 8 hits; 8 + 4 wrong, 8 + 16 missed.
    assert find(rows, POOLED, "dice").value == 16 / (16 + 12 + 24)
    assert find(rows, IMAGE, "dice").value == 1.5 / 4
    assert find(rows, DEVICE_IMAGE, "dice").value == 0.25
    assert find(rows, FRAMES, "missed").value == 1
    assert find(rows, FRAMES, "false-alarms").value == 1
    distance = find(rows, DEVICE_IMAGE, "hd95-px")
    assert (distance.used, distance.excluded) == (1, 1)
    assert distance.value == 2
    assert find(rows, POOLED, "dice").patients == 2
    assert {one.class_name for one in rows} == {"catheter"}  # nobody looked for others


def test_what_is_not_valid_does_not_count() -> None:
    valid = torch.ones(1, 1, SIDE, SIDE, dtype=torch.bool)
    valid[..., 8:] = False
    mask = [box(4, 6, 4, 4)]
    frames = frames_of([box(4, 4, 4, 8)], mask, [0], valid=valid)
    found = measure(evaluation_frames(frames))
    assert found.counts[0, 0].tolist() == [8, 8, 0, 8 * SIDE - 16]
    assert found.histograms[0, 0].sum() == 8 * SIDE


def test_a_pixel_size_gives_metrics_in_mm_and_its_absence_none() -> None:
    frames = frames_of([box(4, 4, 4, 4)], [box(4, 6, 4, 4)], [0])
    with_size = measure(evaluation_frames(frames, spacing_mm=0.25)).values[0, 0]
    without = measure(evaluation_frames(frames)).values[0, 0]
    in_mm, in_px = COLUMNS.index("hd95-mm"), COLUMNS.index("hd95-px")
    assert with_size[in_mm] == with_size[in_px] * 0.25 == 0.5
    assert np.isnan(without[in_mm])
    assert without[in_px] == 2


def test_pooled_and_mean_values_equal_those_computed_from_all_frames_at_once() -> None:
    sets = [random_frames(1, patients=4), random_frames(2, patients=3)]
    frames = evaluation_frames(*sets)
    found = measure(frames)
    everything, scores, flags = [], [], []
    for one in sets:
        for image, mask in zip(one.images[:, 0], one.masks[:, 0], strict=True):
            label = mask.bool().numpy()
            everything.append(measure_image((image > 0.5).numpy(), label))
            scores.append(((image - 0.5) * 20).sigmoid().numpy())
            flags.append(label)
    at_once = MetricSums.of(everything)
    rows = summary_of(frames, found)
    for name, value in at_once.scores().items():
        averaging, metric = name.split(".")
        found_value = find(rows, averaging, metric).value
        assert found_value == pytest.approx(value, rel=1e-12, nan_ok=True), name
    for metric in METRICS:
        tally = at_once.tally(metric)
        row = find(rows, IMAGE, metric)
        assert (row.used, row.excluded) == (tally.count, tally.excluded)
    exact = roc_auc(np.stack(scores), np.stack(flags))
    assert find(rows, POOLED, "auc").value == pytest.approx(exact, abs=1e-12)
    assert find(rows, FRAMES, "missed").value == at_once.missed
    assert find(rows, FRAMES, "false-alarms").value == at_once.false_alarms


def test_sites_and_sequences_have_the_values_of_their_own_frames() -> None:
    sets = [random_frames(1, patients=4), random_frames(2, patients=3)]
    both = evaluation_frames(*sets)
    rows = summary_of(both, measure(both))
    for number, one in enumerate(sets):
        alone = evaluation_frames(one)
        own = summary_of(alone, measure(alone))
        for averaging, metric in ((POOLED, "dice"), (POOLED, "auc"), (IMAGE, "cldice")):
            ours = find(rows, averaging, metric, scope=SITE, site=f"site-{number}")
            theirs = find(own, averaging, metric)
            assert ours.value == theirs.value
            assert (ours.low, ours.high) == (theirs.low, theirs.high)
    third = evaluation_frames(sets[0].subset(torch.arange(6, 9)))
    ours = find(rows, POOLED, "auc", scope=SEQUENCE, site="site-0", sequence="3")
    theirs = find(summary_of(third, measure(third)), POOLED, "auc")
    assert ours.value == pytest.approx(theirs.value, nan_ok=True)
    assert np.isnan(ours.low)  # one patient cannot be resampled


def test_patients_of_two_sites_are_never_the_same_person() -> None:
    one = random_frames(1, patients=3)
    frames = evaluation_frames(one, one)
    assert len(set(frames.patient_numbers.tolist())) == 6
    assert len(set(frames.sequence_numbers.tolist())) == 6


def test_patients_are_resampled_and_not_frames() -> None:
    good, bad = box(4, 4, 4, 4), box(0, 0, 0, 0)
    frames = evaluation_frames(
        frames_of([good] * 40 + [bad] * 40, [good] * 80, [0] * 40 + [1] * 40)
    )
    rows = summary_of(frames, measure(frames))
    # Both patients, or one of them twice: 0, 1/2 or 1. Of 80 frames it were 0.4 to 0.6.
    dice = find(rows, DEVICE_IMAGE, "dice")
    assert (dice.low, dice.value, dice.high) == (0.0, 0.5, 1.0)
    pooled = find(rows, POOLED, "recall")
    assert (pooled.low, pooled.value, pooled.high) == (0.0, 0.5, 1.0)


def coverage_of(repeats: int, patients: int, *, by_patient: bool) -> float:
    """Return how often the interval of a mean holds the true one, which is 0."""
    generator = np.random.default_rng(7)
    each, hits = 6, 0
    for repeat in range(repeats):
        effects = generator.normal(size=(patients, 1))
        values = effects + 0.3 * generator.normal(size=(patients, each))
        units = values if by_patient else values.reshape(-1, 1)
        ones = np.full(len(units), float(units.shape[1]))
        sums = np.stack([units.sum(axis=1), ones], axis=-1)[:, None]
        weights = draw_weights(len(units), resamples=300, seed=repeat)
        found = estimate(sums, means, weights)
        hits += bool(found.low[0] <= 0 <= found.high[0])
    return hits / repeats


def test_intervals_over_patients_hold_the_truth_about_as_often_as_they_say() -> None:
    assert 0.90 <= coverage_of(200, 40, by_patient=True) <= 0.98
    assert coverage_of(200, 5, by_patient=True) >= 0.87
    assert coverage_of(200, 40, by_patient=False) < 0.7


def test_resamples_are_repeatable_and_of_the_same_number_of_patients() -> None:
    first = draw_weights(7, resamples=50, seed=3)
    assert (first.sum(axis=1) == 7).all()
    assert (first == draw_weights(7, resamples=50, seed=3)).all()
    assert (first != draw_weights(7, resamples=50, seed=4)).any()


def test_vectorised_ratios_are_those_of_the_classes_that_define_them() -> None:
    generator = np.random.default_rng(0)
    counts = generator.integers(0, 4, (200, 4)) * generator.integers(0, 2, (200, 4))
    expected = [
        [
            getattr(PixelCounts(*map(int, row)), name.replace("-", "_"))()
            for name in REGION_SCORES
        ]
        for row in counts
    ]
    assert (counts.sum(axis=1) == 0).any()  # no pixel at all is among them
    np.testing.assert_allclose(overlap_scores(counts.astype(float)), expected)
    bins = generator.integers(0, 3, (5, 2, NUM_BINS))
    bins[3, 0] = 0
    areas = [
        ScoreHistogram(*(tuple(part.tolist()) for part in one)).auc() for one in bins
    ]
    np.testing.assert_allclose(areas_under_roc(bins.astype(float))[:, 0], areas)
    assert np.isnan(areas[3])


def test_the_order_of_models_changes_no_number() -> None:
    frames = evaluation_frames(random_frames(5, patients=8))
    weak = {"A": measure(frames, 0.5), "B": measure(frames, 2.0)}
    scope = scopes_of(frames, resamples=200, seed=1)[0]
    forward = compare(weak, frames, scope)
    backward = compare({"B": weak["B"], "A": weak["A"]}, frames, scope)
    assert len(forward) == len(backward) > 50
    for one, other in zip(forward, backward, strict=True):
        assert (one.first, one.second) == (other.second, other.first)
        np.testing.assert_allclose(
            (one.difference, one.low, one.high, one.p, one.p_holm),
            (-other.difference, -other.high, -other.low, other.p, other.p_holm),
            atol=1e-12,
        )
        assert one.verdict == other.verdict
    for name, found in weak.items():
        alone = summary_of(frames, measure(frames, 0.5 if name == "A" else 2.0), name)
        np.testing.assert_equal(
            [one.low for one in summary_of(frames, found, name)],
            [one.low for one in alone],
        )


def test_a_model_that_predicts_nothing_does_not_win_by_its_misses() -> None:
    frames = evaluation_frames(random_frames(6, patients=12))
    found = {"good": measure(frames, 0.5), "silent": measure(frames, 2.0)}
    scope = scopes_of(frames, resamples=300, seed=1)[0]
    rows = compare(found, frames, scope)
    hd95 = next(
        one for one in rows if (one.averaging, one.metric) == (DEVICE_IMAGE, "hd95-px")
    )
    assert hd95.excluded == 0
    assert hd95.difference > 10  # the diagonal of 16 px is 22.6
    assert hd95.verdict == "good is better"
    mm = next(
        one for one in rows if (one.averaging, one.metric) == (DEVICE_IMAGE, "hd95-mm")
    )
    assert mm.verdict.startswith("not comparable")


def test_models_on_other_frames_cannot_be_compared() -> None:
    frames = evaluation_frames(random_frames(5, patients=4))
    fewer = evaluation_frames(random_frames(5, patients=3))
    scopes = scopes_of(frames, resamples=100, seed=0)
    found = {"A": measure(frames), "B": measure(fewer)}
    with pytest.raises(ValueError, match="same frames"):
        compare(found, frames, scopes[0])
    with pytest.raises(ValueError, match="same frames"):
        compare({"A": found["A"], "B": found["A"]}, frames, scopes[1])


def test_holm_gives_the_values_worked_out_by_hand() -> None:
    found = holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005]))
    np.testing.assert_allclose(found, [0.03, 0.06, np.nan, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]


def test_the_signed_rank_test_is_exact_where_patients_are_few() -> None:
    assert signed_rank(np.array([1.0, 2, 3, 4, 5])) == 2 / 2**5
    assert signed_rank(np.array([1.0, 2, 3, 4, 5, 6, 7, 8])) == 2 / 2**8
    # Ties, zeros, and more patients than all signs can be tried for.
    for values in ([1.0, 1, -1, 2, 0, 3], [-1.0, 2, 2, 2, -3, 5, 0], np.arange(-4, 16)):
        expected = wilcoxon([one for one in values if one]).pvalue
        assert signed_rank(np.array(values, float)) == pytest.approx(expected)
    assert signed_rank(np.zeros(4)) == 1
    assert np.isnan(signed_rank(np.zeros(0)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "B is better"),
        ({"metric": "hd95-px"}, "A is better"),
        ({"metric": "tip-miss-rate"}, "A is better"),
        ({"low": -0.1}, "no clear difference"),
        ({"p_holm": 0.2}, "B seems better; not sure"),
        ({"p_holm": 0.2, "patients": 5}, "B seems better; too few patients"),
        ({"p_holm": np.nan, "averaging": POOLED}, "B seems better (interval only)"),
        ({"low": np.nan, "high": np.nan}, "one patient tells nothing"),
        ({"difference": 0.0}, "no difference"),
        ({"difference": np.nan}, "not comparable"),
    ],
)
def test_the_verdict_says_in_words_what_the_numbers_say(
    changes: dict, words: str
) -> None:
    clear = Comparison(
        "A", "B", "catheter", DEVICE_IMAGE, "dice", 0.2, 0.1, 0.3, 0.001, 0.01, 20, 40,
        0,
    )  # fmt: skip
    assert verdict_of(replace(clear, **changes)).startswith(words)


def test_models_that_want_other_frames_or_are_the_same_are_refused() -> None:
    with pytest.raises(DataError, match="same weights"):
        open_contenders(["random"] * 2, [], network="unet", image_size=32)
    with pytest.raises(DataError, match="--label wants a name of its own"):
        open_contenders(["random"], ["a", "b"], network="unet", image_size=32)
    with pytest.raises(DataError, match="--label wants up to"):
        open_contenders(["random"], ["a/b"], network="unet", image_size=32)


def test_only_classes_that_all_models_know_are_measured() -> None:
    both, one = model(), replace(model(), card={"task": {"classes": ["guidewire"]}})
    assert classes_of({"A": both}) == ("catheter", "guidewire")
    assert classes_of({"A": both, "B": one}) == ("guidewire",)
    other = replace(model(), card={"task": {"classes": ["catheter"]}})
    with pytest.raises(DataError, match="no class in common"):
        classes_of({"A": one, "B": other})


def test_a_network_without_numbers_predicts_nothing_and_is_reported() -> None:
    class Broken(Threshold):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) * torch.nan

    frames = evaluation_frames(random_frames(5, patients=2))
    source = model(network=Broken())
    found = measure_model(source, frames, batch_size=4, device=CPU)
    assert found.broken_frames == len(frames) == 6
    assert not found.is_predicted.any()


def test_the_gallery_begins_with_the_worst_frame_and_ends_with_false_alarms() -> None:
    empty, whole = box(0, 0, 0, 0), box(4, 4, 4, 4)
    frames = evaluation_frames(
        frames_of(
            [whole, empty, box(2, 2, 2, 2), box(4, 6, 4, 4), empty, box(1, 1, 3, 3)],
            [whole, whole, empty, whole, empty, empty],
            [0, 0, 0, 1, 1, 1],
        )
    )
    cases = choose_cases({"A": measure(frames)}, frames)
    assert [(one.kind, one.frame) for one in cases] == [
        ("worst", 1), ("worst", 3), ("worst", 0), (FALSE_ALARM, 5), (FALSE_ALARM, 2),
    ]  # fmt: skip
    assert cases[3].score == 9


def test_a_picture_has_a_panel_for_frame_label_and_every_model() -> None:
    masks = np.stack([box(4, 4, 4, 4), box(0, 0, 0, 0)])
    image = np.full((SIDE, SIDE), 0.5, np.float32)
    one, two = (
        draw_case(
            image, masks, dict.fromkeys(names, masks), classes=["catheter"], title="t"
        )
        for names in ("A", "AB")
    )
    assert two.width - one.width > 300
    pixels = np.asarray(one)
    frame, label = pixels[:, : one.width // 3], pixels[:, one.width // 3 :]
    coloured = [np.ptp(part.astype(int), axis=2) > 40 for part in (frame, label)]
    assert not coloured[0].any()
    assert coloured[1].sum() > 1000


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half.csv").write_text("half")
        raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        write_whole(tmp_path / "found", fail)
    assert not list(tmp_path.iterdir())
    whole: Callable[[Path], object] = lambda folder: (folder / "a").write_text("a")  # noqa: E731
    write_whole(tmp_path / "deeper" / "found", whole)
    assert [one.name for one in (tmp_path / "deeper").rglob("*")] == ["found", "a"]
    assert (tmp_path / "deeper" / "found").stat().st_mode & 0o077 == 0


def test_counts_are_named_as_their_class_names_them() -> None:
    assert list(vars(PixelCounts())) == list(COUNTS)
