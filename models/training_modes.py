"""Which part of a SAM trains, and so travels."""

from models.adapters import add_lora
from models.linear_probe import LinearProbe
from models.network import SegmentationNetwork
from models.sam import Sam

TRAINING_MODES = ("full", "lora", "lora-decoder", "decoder", "linear-probe")


def choose_trainable(
    model: SegmentationNetwork, mode: str, *, rank: int = 4
) -> SegmentationNetwork:
    """Freeze what a training mode does not train.

    Args:
        model: Changed in place. Networks that are no SAM have the mode "full" only.
        mode: One of `TRAINING_MODES`: everything that the prompt-free pass uses;
            adapters on q and v; those and the decoder; the decoder; one linear layer
            on the encoder's features.
        rank: Of the adapters.

    Returns:
        The network to train: the same, or the probe around its encoder.

    Raises:
        ValueError: If the mode is unknown or not one of this network.
    """
    if mode not in TRAINING_MODES:
        raise ValueError(
            f"model.training must be one of {', '.join(TRAINING_MODES)}, got '{mode}'."
        )
    if mode == "full":
        return model
    if not isinstance(model, Sam):
        raise ValueError(
            f"model.training = '{mode}' is for the SAM family; this network trains "
            "with 'full' only."
        )
    if mode == "linear-probe":
        return LinearProbe(model)
    trained = {
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not name.startswith("image_encoder.")
    }
    model.requires_grad_(False)
    if mode.startswith("lora"):
        add_lora(model, rank=rank)
    if mode != "lora":
        for name, parameter in model.named_parameters():
            if name in trained:
                parameter.requires_grad_(True)
    return model
