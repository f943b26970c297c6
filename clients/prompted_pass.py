"""Training steps of a SAM with and without prompts, so that it learns to use them.

As SAM itself learned (Kirillov et al., ICCV 2023, appendix A: boxes and points drawn
from the label), with steps without any prompt in between: that is how a hospital uses
the foundation model. Plain torch; knows nothing of Flower.
"""

from clients.adaptation.prompting import prompts_from
from clients.data.batches import Batch
from models.network import SegmentationNetwork, SegmentationOutput
from models.sam import Sam
from models.sam_prompts import Prompts
from models.taps import forward_with_tap
from strategies.randomness import generator_from

TURNS = ("none", "box", "none", "points")
"""Which prompts a batch has, step after step."""


class PromptedPass:
    """Passes batches through a network, with the prompts that are their turn."""

    def __init__(self, prompts: str, seed: int, *, tap: str = "") -> None:
        """Begin with a batch without prompts.

        Args:
            prompts: "none" or "mixed"; see the setting `train.prompts`.
            seed: Of the points, >= 0.
            tap: Which features are wanted, see `models/taps.py`.
        """
        self.prompts: Prompts | None = None  # of the last batch
        self._tap = tap
        self._turns = TURNS if prompts == "mixed" else TURNS[:1]
        self._generator = generator_from(seed ^ 2)  # batches have the seed itself
        self._taken = 0

    def __call__(self, model: SegmentationNetwork, batch: Batch) -> SegmentationOutput:
        """Pass a batch.

        Args:
            model: Any network; one that is no SAM never gets prompts.
            batch: Its labels of annotated classes say where boxes and points are.

        Returns:
            Logits and features.
        """
        kind = self._turns[self._taken % len(self._turns)]
        self._taken += 1
        self.prompts = None
        if kind != "none" and isinstance(model, Sam):
            devices = (batch.masks.bool() & batch.annotated[:, :, None, None]).any(1)
            self.prompts = prompts_from(
                devices, kind, generator=self._generator, valid=batch.valid[:, 0]
            )
        return forward_with_tap(model, batch.images, self._tap, self.prompts)
