"""A network ready to predict: on its device, in its precision, rewritten if wished."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clients.data.batches import predict, to_batch
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from clients.data.preprocessing import Prepared
from experiments.model_source import ModelSource
from experiments.prediction.prompts import PixelPrompts
from models.inference import optimise_for_inference
from models.sam import Sam
from models.sam_prompts import Prompts

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("float32", "bf16")


class Predictor:
    """Probabilities for prepared frames."""

    def __init__(
        self,
        source: ModelSource,
        *,
        device: torch.device,
        precision: str = "float32",
        compiled: bool = False,
        folded: bool = False,
    ) -> None:
        """Make the network ready.

        Args:
            source: The model; its network is changed unless it is folded.
            device: Where it runs.
            precision: One of `PRECISIONS`; bf16 is autocast.
            compiled: Run it through `torch.compile`.
            folded: Fold batch normalisations into convolutions.
        """
        network = source.network.eval().requires_grad_(False)
        if folded:
            network = optimise_for_inference(network)
        self._network = network.to(device)
        self._plain: Callable[[Tensor], Tensor] = self._network
        if compiled:
            self._plain = torch.compile(self._network)
        self._settings = source.data
        self._device = device
        self._precision = precision
        self.image_size = self._network.image_size
        self.num_classes = self._network.num_classes

    def check_prompts(self, prompts: PixelPrompts | None, frame_size: int) -> None:
        """Refuse prompts that this network cannot take.

        Args:
            prompts: Of the user.
            frame_size: Side of prepared frames, px; 0 = not known yet.

        Raises:
            DataError: If the network is no SAM or works tile by tile.
        """
        if prompts is None:
            return
        if not isinstance(self._network, Sam):
            raise DataError(
                "--box and --points are for SAM networks; this model takes no prompts."
            )
        if frame_size != self.image_size:
            raise DataError(
                "--box and --points cannot be used tile by tile; leave --tile out or "
                "take a model whose frames are as large as its network."
            )

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Predict nothing once: the first pass is slow, and a stream does not wait."""
        size = self.image_size
        with self._autocast():
            self._plain(torch.zeros(1, 1, size, size, device=self._device))

    @torch.inference_mode()
    def probabilities(
        self, frames: Sequence[Prepared], prompts: PixelPrompts | None = None
    ) -> NDArray[np.float32]:
        """Predict a batch.

        Args:
            frames: Prepared as the model's card says, of one size.
            prompts: The same for every frame, in pixels of the original.

        Returns:
            (batch, classes, size, size) in [0, 1].

        Raises:
            DataError: If a prompt lies outside a frame.
        """
        images = self._normalised(frames)
        network = self._plain
        if prompts is not None:
            placed = prompts.place([one.placement for one in frames])
            network = self._prompted(placed)
        with self._autocast():
            logits = predict(network, images, self.image_size)
        found: NDArray[np.float32] = logits.float().sigmoid().cpu().numpy()
        return found

    @torch.inference_mode()
    def label_probabilities(self, frames: Sequence[Prepared]) -> NDArray[np.float32]:
        """Classify a batch.

        Args:
            frames: Prepared as the model's card says, as large as its network.

        Returns:
            (batch, labels), each row sums to 1.
        """
        images = self._normalised(frames)
        with self._autocast():
            logits = self._plain(images)
        found: NDArray[np.float32] = logits.float().softmax(dim=1).cpu().numpy()
        return found

    def _normalised(self, frames: Sequence[Prepared]) -> Tensor:
        """Go through the door of training and evaluation, without any label."""
        count, size = len(frames), frames[0].image.shape[-1]
        batch = to_batch(
            FrameSet(
                images=torch.from_numpy(np.stack([one.image for one in frames]))[
                    :, None
                ],
                masks=torch.zeros(
                    count, self.num_classes, size, size, dtype=torch.uint8
                ),
                annotated=torch.zeros(count, self.num_classes, dtype=torch.bool),
                sequences=torch.zeros(count, dtype=torch.int64),
                valid=torch.from_numpy(np.stack([one.valid for one in frames]))[
                    :, None
                ],
            ),
            self._settings,
            self._device,
        )
        return batch.images

    def _prompted(self, prompts: Prompts) -> Callable[[Tensor], Tensor]:
        network, device = self._network, self._device
        if not isinstance(network, Sam):
            raise DataError("this model takes no prompts")
        on_device = Prompts(
            **{
                name: None if part is None else part.to(device)
                for name, part in vars(prompts).items()
            }
        )
        return lambda images: network.forward_with_features(images, on_device).logits

    def _autocast(self) -> AbstractContextManager[object]:
        if self._precision == "float32":
            return nullcontext()
        return torch.autocast(self._device.type, torch.bfloat16)


def choose_device(wanted: str) -> torch.device:
    """Read the option `--device`.

    Args:
        wanted: One of `DEVICES`.

    Returns:
        The device.

    Raises:
        DataError: If there is no such device here.
    """
    if wanted not in DEVICES:
        raise DataError(f"--device must be one of {', '.join(DEVICES)}.")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise DataError("--device cuda: PyTorch sees no GPU here; choose cpu.")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)
