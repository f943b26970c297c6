"""Predicting the frames of a stream and handing on what was found in each."""

import json
from collections.abc import Callable
from pathlib import Path

from clients.data.preprocessing import prepare_frame
from clients.images.source import SourceFacts
from experiments.prediction.frames import PredictedFrame
from experiments.prediction.outputs import label_map, write_png
from experiments.prediction.overlays import draw_overlay
from experiments.prediction.predictor import Predictor
from experiments.prediction.runner import PredictOptions, settings_for
from experiments.prediction.stream import Arrival
from models.classes import CLASS_NAMES

KINDS = ("tips", "masks", "overlays")
"""What can be written of a stream."""


class StreamSession:
    """Predicts one frame after the other; call it with what arrives.

    Args:
        predictor: The network.
        options: How; the batch size does not matter.
        say: Takes the tips of a frame as a line of JSON.
        folder: For masks (label maps) and overlays; None writes none.
    """

    def __init__(
        self,
        predictor: Predictor,
        options: PredictOptions,
        *,
        say: Callable[[str], None],
        folder: Path | None = None,
    ) -> None:
        """Make the folders."""
        self._predictor, self._options = predictor, options
        self._say, self._folder = say, folder
        if folder is not None:
            for kind in {"masks", "overlays"} & options.output.kinds:
                (folder / kind).mkdir()

    def __call__(self, arrival: Arrival) -> None:
        """Predict a frame and hand on what was found.

        Args:
            arrival: Of a mailbox.

        Raises:
            DataError: If the frame is not finite or a prompt lies outside of it.
        """
        pixels, options = arrival.pixels, self._options
        facts = SourceFacts(1, *pixels.shape, bits=8)
        settings = settings_for(options.settings, facts, self._predictor.image_size)
        self._predictor.check_prompts(options.prompts, settings.frame_size)
        prepared = prepare_frame(pixels, settings, invert=options.inverted)
        found = self._predictor.probabilities([prepared], options.prompts)[0]
        frame = PredictedFrame.restored(
            arrival.number, pixels, found, prepared.placement, options.threshold
        )
        if "tips" in options.output.kinds:
            self._say(json.dumps(tips_content(frame)))
        if self._folder is not None:
            self._write(frame, self._folder)

    def _write(self, frame: PredictedFrame, folder: Path) -> None:
        kinds, name = self._options.output.kinds, f"{frame.number:06d}.png"
        if "masks" in kinds:
            write_png(folder / "masks" / name, label_map(frame.masks))
        if "overlays" in kinds:
            picture = draw_overlay(frame, tips="tips" in kinds)
            write_png(folder / "overlays" / name, picture)


def tips_content(frame: PredictedFrame) -> dict[str, object]:
    """Say where the tips of a frame are.

    Args:
        frame: The prediction.

    Returns:
        The frame's number and for every class [x, y] in px or None.
    """
    tips = zip(CLASS_NAMES, frame.tips, strict=True)
    return {
        "frame": frame.number,
        **{name: None if tip is None else [tip[1], tip[0]] for name, tip in tips},
    }
