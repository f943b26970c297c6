"""What a hospital measures of a model on its frames, behind no collimator.

Only pixels that are valid count: behind the collimator and in the padding nobody can
see a device, so neither prediction nor label exists there. Predictions of classes that
a frame does not annotate are counted on their own: they need not be wrong, nobody
looked. Plain torch and numpy; knows
nothing of Flower.
"""

import torch
from torch import Tensor

from clients.data.batches import Batch, evaluation_batches, predict
from clients.data.frames import Frames
from models.classes import CLASS_NAMES
from models.image_metrics import measure_image
from models.losses import SegmentationLoss
from models.metric_sums import MetricSums
from models.metrics import SegmentationCounts, count_segmentation
from models.network import SegmentationNetwork
from models.roc import ScoreHistogram
from strategies.data_settings import DataSettings
from strategies.evaluation import ClassEvaluation, Evaluation
from strategies.unannotated import UnannotatedCounts


@torch.no_grad()
def evaluate(
    model: SegmentationNetwork,
    frames: Frames,
    *,
    settings: DataSettings,
    batch_size: int,
    device: torch.device,
    measures: str,
) -> Evaluation:
    """Measure a model on frames, without augmentation.

    Args:
        model: Ends on the device, in evaluation mode.
        frames: What to measure on; larger than the network = a sliding window.
        settings: How frames are normalised.
        batch_size: Frames per pass.
        device: Where to compute.
        measures: "overlap" or "all"; see `strategies/evaluation_settings.py`.

    Returns:
        The mean loss per frame with a label, 0 where none has one, and sums that the
        server may add up.
    """
    model.to(device).eval()
    criterion = SegmentationLoss()
    total, num_known, counts = 0.0, 0, SegmentationCounts.zero()
    unannotated = UnannotatedCounts.zero()
    classes = {name: ClassEvaluation() for name in CLASS_NAMES if measures == "all"}
    for batch in evaluation_batches(
        frames, batch_size=batch_size, settings=settings, device=device
    ):
        logits = predict(model, batch.images, model.image_size)
        loss = criterion(logits, batch.masks, batch.annotated, batch.valid)
        known = int(batch.annotated.any(dim=1).sum())
        total, num_known = total + float(loss) * known, num_known + known
        masks = batch.masks.bool() & batch.valid
        # A logit above 0 is a probability above 0.5.
        guesses = (logits > 0) & batch.valid
        counts += count_segmentation(guesses.cpu(), masks.cpu(), batch.annotated.cpu())
        unannotated += count_unannotated(guesses, batch.annotated, batch.valid)
        for index, (name, found) in enumerate(classes.items()):
            classes[name] = found + _measure_class(
                index, logits[:, index], guesses[:, index], batch
            )
    loss_per_frame = total / max(num_known, 1)
    return Evaluation(len(frames), loss_per_frame, counts, classes, unannotated)


def count_unannotated(
    guesses: Tensor, annotated: Tensor, valid: Tensor
) -> UnannotatedCounts:
    """Count what is predicted of classes where they are not annotated.

    Args:
        guesses: (batch, classes, height, width), bool, False where not valid.
        annotated: (batch, classes), bool.
        valid: (batch, 1, height, width), bool.

    Returns:
        Frames and pixels by class.
    """
    pixels = guesses.flatten(2).sum(-1)  # (batch, classes)
    visible = valid.flatten(1).sum(-1, keepdim=True)  # (batch, 1)
    unknown = ~annotated
    return UnannotatedCounts(
        *(
            tuple(int(number) for number in part.sum(0))
            for part in (
                unknown,
                unknown & (pixels > 0),
                unknown * pixels,
                unknown * visible,
            )
        )
    )


def _measure_class(
    index: int, logits: Tensor, guesses: Tensor, batch: Batch
) -> ClassEvaluation:
    """Measure everything of one class in the frames of a batch that know it.

    Args:
        index: Of the class.
        logits: (batch, height, width).
        guesses: (batch, height, width), bool, False where not valid.
        batch: The frames.

    Returns:
        The sums of these frames.
    """
    known = batch.annotated[:, index]
    valid = batch.valid[known, 0].cpu().numpy()
    labels = batch.masks[known, index].bool().cpu().numpy() & valid
    # No number is no prediction, as in the masks, where NaN > 0 is False.
    probabilities = logits[known].float().sigmoid().nan_to_num(nan=0.0).cpu().numpy()
    frames = zip(guesses[known].cpu().numpy(), labels, valid, strict=True)
    return ClassEvaluation(
        MetricSums.of(
            measure_image(guess, label, valid=seen) for guess, label, seen in frames
        ),
        ScoreHistogram.of(probabilities[valid], labels[valid]),
    )
