"""What hospitals measure: with a network that simply reads its answer off the image."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from clients.data.frames import FrameSet, join_frames
from clients.evaluation import count_unannotated, evaluate
from models.classes import CLASS_NAMES
from models.image_metrics import METRICS
from models.network import SegmentationNetwork, SegmentationOutput
from models.roc import roc_auc
from strategies import messages
from strategies.data_settings import DataSettings
from strategies.evaluation import Evaluation, join_evaluations
from strategies.replies import pack_reply
from strategies.unannotated import UnannotatedCounts

SIZE = 48
CPU = torch.device("cpu")


class Reader(SegmentationNetwork):
    """Bright pixels are a catheter, the brightest and the darkest a guidewire."""

    image_size = SIZE
    num_classes = 2

    def forward_with_features(self, images: Tensor) -> SegmentationOutput:
        catheter = 8 * (images - 0.5)
        guidewire = 8 * ((images - 0.5).abs() - 0.3)
        return SegmentationOutput(torch.cat([catheter, guidewire], dim=1), images)


def draw_wire(generator: np.random.Generator) -> np.ndarray:
    """Draw a random wire from the left edge, in one frame of four nothing."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    if generator.random() < 0.25:
        return mask
    rows = generator.integers(8, 40) + generator.integers(-1, 2, 30).cumsum()
    for column, row in enumerate(rows[: generator.integers(10, 30)].clip(2, SIZE - 3)):
        mask[row - 1 : row + 2, column] = 1
    return mask


def make_frames(num_frames: int, seed: int) -> FrameSet:
    """Draw frames with labels, guesses that differ, gaps in both and a collimator."""
    generator = np.random.default_rng(seed)
    images = torch.from_numpy(
        generator.uniform(0.1, 0.45, (num_frames, 1, SIZE, SIZE)).astype(np.float32)
    )
    masks = np.zeros((num_frames, 2, SIZE, SIZE), np.uint8)
    for index in range(num_frames):
        for number in range(2):
            masks[index, number] = draw_wire(generator)
            guess = np.roll(masks[index, number], generator.integers(0, 4), axis=0)
            if generator.random() < 0.2:
                guess = draw_wire(generator)
            images[index, 0][torch.from_numpy(guess) > 0] = 0.6 + 0.3 * number
    annotated = torch.from_numpy(generator.random((num_frames, 2)) < 0.8)
    masks[~annotated.numpy()] = 0
    valid = torch.ones_like(images, dtype=torch.bool)
    valid[::2, :, :5] = False
    return FrameSet(
        images=images,
        masks=torch.from_numpy(masks),
        annotated=annotated,
        sequences=torch.arange(num_frames),
        valid=valid,
    )


@pytest.fixture
def settings(run_settings: object) -> DataSettings:
    return dataclasses.replace(run_settings.data, frame_size=SIZE, normalise="unit")  # type: ignore[attr-defined]


def measure(
    frames: FrameSet, settings: DataSettings, *, batch_size: int = 4, what: str = "all"
) -> Evaluation:
    return evaluate(
        Reader(),
        frames,
        settings=settings,
        batch_size=batch_size,
        device=CPU,
        measures=what,
    )


def send(evaluation: Evaluation, site: str) -> Evaluation:
    """Send an evaluation as a hospital does and read it as the server does."""
    content = pack_reply(site, evaluation.to_metrics())
    return Evaluation.from_metrics(content.metric_records[messages.METRICS])


def all_scores(evaluation: Evaluation) -> dict[str, float]:
    by_class = {
        f"{label}/{name}": value
        for label in CLASS_NAMES
        for name, value in evaluation.scores(label).items()
    }
    return {**evaluation.counts.scores(), **by_class, "loss": evaluation.loss}


def test_three_sites_give_the_numbers_of_their_pooled_frames(
    settings: DataSettings,
) -> None:
    sites = {f"site-{seed}": make_frames(3 + 2 * seed, seed) for seed in range(3)}
    at_once = measure(join_frames(list(sites.values())), settings, batch_size=1)
    received = [
        send(measure(frames, settings, batch_size=1), site)
        for site, frames in reversed(sites.items())
    ]

    federated = all_scores(join_evaluations(received))

    expected = all_scores(at_once)
    assert federated == pytest.approx(expected, abs=1e-9, nan_ok=True)
    known = {name for name, value in expected.items() if math.isfinite(value)}
    for name in METRICS:
        in_mm = name.endswith("-mm")  # frames carry no size of their pixels
        assert (f"catheter/device-image.{name}" in known) != in_mm
    assert {"catheter/pooled.auc", "guidewire/pooled.auc", "dice", "loss"} <= known


def test_what_the_network_sees_behind_the_collimator_changes_no_score(
    settings: DataSettings,
) -> None:
    frames = make_frames(6, seed=4)
    images, masks = frames.images.clone(), frames.masks.clone()
    images[::2, :, 2:4] = 0.95  # found as both devices where nothing can be seen
    masks[::2, :, 1:3] = frames.annotated[::2, :, None, None].to(torch.uint8)
    changed = dataclasses.replace(frames, images=images, masks=masks)

    before, after = measure(frames, settings), measure(changed, settings)

    assert after == before
    everywhere = dataclasses.replace(
        changed, valid=torch.ones_like(changed.images, dtype=torch.bool)
    )
    assert measure(everywhere, settings).counts != before.counts


def test_hidden_pixels_are_no_true_negatives(settings: DataSettings) -> None:
    frames = make_frames(6, seed=4)
    for index, label in enumerate(CLASS_NAMES):
        known = frames.annotated[:, index]
        pixels = measure(frames, settings).classes[label].sums.counts.num_pixels
        assert pixels == int(frames.valid[known].sum())


def test_the_pooled_auc_is_that_of_all_visible_pixels(settings: DataSettings) -> None:
    frames = make_frames(6, seed=5)
    known, seen = frames.annotated[:, 0], frames.valid[frames.annotated[:, 0], 0]
    images = frames.images[known, 0][seen].numpy()
    labels = frames.masks[known, 0][seen].numpy() > 0
    found = measure(frames, settings).classes["catheter"].histogram
    assert abs(found.auc() - roc_auc(images, labels)) <= found.uncertainty() < 0.01


def test_the_numbers_do_not_depend_on_the_size_of_batches(
    settings: DataSettings,
) -> None:
    frames = make_frames(7, seed=6)
    by_one = measure(frames, settings, batch_size=1)
    by_four = measure(frames, settings, batch_size=4)
    assert by_one.counts == by_four.counts
    for label in CLASS_NAMES:
        assert by_one.scores(label) == pytest.approx(
            by_four.scores(label), abs=1e-12, nan_ok=True
        )


def test_the_overlap_alone_is_the_same_with_and_without_all_metrics(
    settings: DataSettings,
) -> None:
    frames = make_frames(5, seed=7)
    overlap = measure(frames, settings, what="overlap")
    everything = measure(frames, settings)
    assert not overlap.classes
    assert overlap == dataclasses.replace(everything, classes={})
    assert send(overlap, "a") == overlap
    assert send(everything, "a") == everything


def test_an_output_that_is_no_number_is_no_prediction(settings: DataSettings) -> None:
    frames = make_frames(3, seed=8)
    frames = dataclasses.replace(frames, annotated=torch.ones(3, 2, dtype=torch.bool))

    class Broken(Reader):
        def forward_with_features(self, images: Tensor) -> SegmentationOutput:
            output = super().forward_with_features(images)
            return output._replace(logits=output.logits * math.nan)

    found = evaluate(
        Broken(),
        frames,
        settings=settings,
        batch_size=2,
        device=CPU,
        measures="all",
    )
    assert not math.isfinite(found.loss)
    assert found.classes["catheter"].sums.counts.tp == 0
    assert found.classes["catheter"].histogram.auc() == 0.5


def test_only_valid_pixels_of_frames_that_do_not_know_a_class_are_counted() -> None:
    guesses = torch.zeros(3, 2, 4, 4, dtype=torch.bool)
    guesses[0, 0, 0, :3] = True  # catheter known: counted elsewhere
    guesses[1, 0, 1, :2] = True  # catheter unknown: two pixels
    guesses[2, 1, 2, :] = True  # guidewire unknown: four pixels
    annotated = torch.tensor([[True, True], [False, True], [False, False]])
    valid = torch.ones(3, 1, 4, 4, dtype=torch.bool)
    valid[1, :, 3] = False  # twelve pixels can be seen

    found = count_unannotated(guesses, annotated, valid)

    assert found == UnannotatedCounts(
        frames=(2, 1),
        predicted_frames=(1, 1),
        predicted_pixels=(2, 4),
        visible_pixels=(12 + 16, 16),
    )


def test_what_is_predicted_of_unknown_classes_adds_up_over_sites(
    settings: DataSettings,
) -> None:
    sites = [make_frames(4, seed) for seed in range(11, 14)]
    together = measure(join_frames(sites), settings, what="overlap")
    received = [send(measure(frames, settings), "a") for frames in sites]
    joined = join_evaluations(received).unannotated
    assert joined == together.unannotated
    unknown = (~join_frames(sites).annotated).sum(0).tolist()
    assert list(joined.frames) == unknown
    assert min(joined.predicted_frames) > 0  # the network draws wires there, too


def test_an_unknown_class_is_no_part_of_the_scores(settings: DataSettings) -> None:
    frames = make_frames(6, seed=15)
    unknown = torch.zeros_like(frames.annotated)
    unknown[:, 1] = True  # nobody looked for catheters
    masks = frames.masks * unknown[:, :, None, None]
    frames = dataclasses.replace(frames, annotated=unknown, masks=masks)
    found = measure(frames, settings, what="overlap")
    assert found.unannotated.frames == (6, 0)
    assert found.unannotated.predicted_frames[0] > 0
    assert math.isnan(found.counts.scores()["dice.catheter"])
    assert found.counts.fp[0] == 0
