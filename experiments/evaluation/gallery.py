"""Where models fail worst, as pictures for the people of the site.

One picture a frame: the frame, the label, then each model's prediction with its Dice.
Sorted by Dice among frames with a device; after them the largest false alarms, frames
in which nobody saw a device. These are pictures of patients: they are written into the
folder of the evaluation and nowhere else.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont

from clients.data.batches import to_batch
from experiments.evaluation.frames import EvaluationFrames
from experiments.evaluation.measuring import COLUMNS, COUNTS, Measured, predict_logits
from experiments.model_source import ModelSource
from models.classes import CLASS_NAMES
from models.overlap import dice

WORST, ALARMS = 12, 6  # pictures of either kind
OF_A_SEQUENCE = 3  # of either kind: neighbours fail alike
PANEL = 320  # px, the least side of a panel
TITLE, FOOT, GUTTER = 30, 46, 8  # px
FILL = 0.35  # opacity inside an outline
FALSE_ALARM = "false-alarm"


@dataclass(frozen=True)
class Case:
    """A frame that is shown."""

    kind: str  # "worst" or "false-alarm"
    frame: int  # of the EvaluationFrames
    score: float  # mean Dice of models and classes; px that were wrongly predicted


def choose_cases(
    measured: Mapping[str, Measured], frames: EvaluationFrames
) -> list[Case]:
    """Choose the worst frames, of a sequence only the worst few.

    Args:
        measured: By name of the model.
        frames: That were measured.

    Returns:
        First frames with a device, the lowest mean Dice first; then false alarms,
        the most predicted pixels first.
    """
    known = frames.known
    has_device = next(iter(measured.values())).has_device & known
    dice = np.stack(
        [one.values[:, :, COLUMNS.index("dice")] for one in measured.values()]
    ).mean(axis=0)
    false = np.stack(
        [one.counts[:, :, COUNTS.index("fp")] for one in measured.values()]
    ).mean(axis=0)
    with_device = has_device.any(axis=1)
    scores = np.where(has_device, dice, 0.0).sum(axis=1)
    scores = scores / np.maximum(has_device.sum(axis=1), 1)
    alarms = np.where(known & ~has_device, false, 0.0).sum(axis=1)
    worst = [n for n in np.argsort(scores, kind="stable") if with_device[n]]
    false_alarms = [
        n
        for n in np.argsort(-alarms, kind="stable")
        if alarms[n] and not with_device[n]
    ]
    return [
        *(Case("worst", n, float(scores[n])) for n in _spread(worst, frames)[:WORST]),
        *(
            Case(FALSE_ALARM, n, float(alarms[n]))
            for n in _spread(false_alarms, frames)[:ALARMS]
        ),
    ]


def _spread(numbers: Sequence[int], frames: EvaluationFrames) -> list[int]:
    """Keep the first few of each sequence, in order."""
    sequences, kept = frames.sequence_numbers, []
    seen: Counter[int] = Counter()
    for number in numbers:
        seen[sequences[number]] += 1
        if seen[sequences[number]] <= OF_A_SEQUENCE:
            kept.append(int(number))
    return kept


@torch.no_grad()
def write_gallery(
    cases: Sequence[Case],
    models: Mapping[str, ModelSource],
    frames: EvaluationFrames,
    folder: Path,
    *,
    device: torch.device,
) -> list[Path]:
    """Draw the cases.

    Args:
        cases: Of `choose_cases`.
        models: By name; they predict these frames once more.
        frames: That were measured.
        folder: Made if it is missing.
        device: Where to compute.

    Returns:
        A PNG for every case.
    """
    folder.mkdir(exist_ok=True)
    sites, starts = frames.site_numbers, np.zeros(len(frames.sites), int)
    starts[1:] = np.cumsum([len(site.frames) for site in frames.sites])[:-1]
    written, ranks = [], {"worst": 0, FALSE_ALARM: 0}
    for case in cases:
        site = frames.sites[sites[case.frame]]
        number = case.frame - int(starts[sites[case.frame]])
        shown = site.frames.subset(torch.tensor([number]))
        predicted = {}
        for name, source in models.items():
            source.network.to(device).eval()
            batch = to_batch(shown, source.data, device)
            logits = predict_logits(source.network, batch)[0]
            predicted[name] = ((logits > 0) & shown.valid[0]).numpy()
        ranks[case.kind] += 1
        path = folder / f"{case.kind}-{ranks[case.kind]:02d}.png"
        picture = draw_case(
            shown.images[0, 0].numpy(),
            (shown.masks[0].bool() & shown.valid[0]).numpy(),
            predicted,
            classes=[
                name
                for name in frames.classes
                if shown.annotated[0, CLASS_NAMES.index(name)]
            ],
            title=_title(case, frames),
        )
        picture.save(path, format="PNG")
        written.append(path)
    return written


def draw_case(
    image: NDArray[np.float32],
    label: NDArray[np.bool_],
    predicted: Mapping[str, NDArray[np.bool_]],
    *,
    classes: Sequence[str],
    title: str,
) -> Image.Image:
    """Draw one frame beside its label and predictions.

    Args:
        image: (size, size), 0 to 1.
        label: (classes of the platform, size, size).
        predicted: By name of the model, as the label.
        classes: That somebody looked for; no other is drawn.
        title: Above all.

    Returns:
        The picture.
    """
    scale = max(1, -(-PANEL // len(image)))
    side = scale * len(image)
    panels = [("frame", None), ("label", label), *predicted.items()]
    sheet = Image.new(
        "RGB",
        (GUTTER + len(panels) * (side + GUTTER), 2 * TITLE + side + FOOT),
        "white",
    )
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    pen.text((GUTTER, TITLE // 2), title, "black", font, anchor="lm")
    for number, (name, masks) in enumerate(panels):
        x = GUTTER + number * (side + GUTTER)
        pen.text((x, TITLE + TITLE // 2), name, "black", font, anchor="lm")
        panel = Image.fromarray(_painted(image, masks, classes, scale))
        sheet.paste(panel, (x, 2 * TITLE))
        if name in predicted:
            for line, one in enumerate(classes):
                index = CLASS_NAMES.index(one)
                text = f"{one}: Dice {dice(masks[index], label[index]):.2f}"
                at = (x, 2 * TITLE + side + 12 + 20 * line)
                pen.text(at, text, "black", font, anchor="lm")
    for line, one in enumerate(classes):  # the legend, below the label
        x, y = 2 * GUTTER + side, 2 * TITLE + side + 12 + 20 * line
        pen.rectangle((x, y - 6, x + 12, y + 6), fill=_colours()[one])
        pen.text((x + 18, y), one, "black", font, anchor="lm")
    return sheet


def _painted(
    image: NDArray[np.float32],
    masks: NDArray[np.bool_] | None,
    classes: Sequence[str],
    scale: int,
) -> NDArray[np.uint8]:
    """Return (side, side, 3): masks filled lightly, with an outline just outside."""

    def enlarged(part: NDArray) -> NDArray:
        return np.kron(part, np.ones((scale, scale), part.dtype))

    grey = np.rint(enlarged(image) * 255).astype(np.uint8)
    picture = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    for name in classes if masks is not None else ():
        mask = enlarged(masks[CLASS_NAMES.index(name)].astype(np.uint8))
        colour = np.array(ImageColor.getrgb(_colours()[name]), np.float32)
        inside = mask > 0
        picture[inside] = (1 - FILL) * picture[inside] + FILL * colour
        around = cv2.dilate(mask, np.ones((3, 3), np.uint8)) > mask
        picture[around] = colour
    return np.rint(picture).astype(np.uint8)


def _colours() -> Mapping[str, str]:
    # Brings matplotlib, which takes a second that only pictures need.
    from experiments.overlays import CLASS_COLOURS

    return CLASS_COLOURS


def _title(case: Case, frames: EvaluationFrames) -> str:
    site = frames.sites[frames.site_numbers[case.frame]].name
    sequence = frames.fact("sequence")[case.frame]
    number = frames.fact("number")[case.frame]
    what = (
        f"{case.score:.0f} px of false alarm"
        if case.kind == FALSE_ALARM
        else f"mean Dice {case.score:.2f}"
    )
    return f"{site}, sequence {sequence}, frame {number}: {what}"
