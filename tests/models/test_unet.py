import pytest
import torch

from models.unet import UNet


def test_logits_have_the_size_of_the_frame_and_features_that_of_the_depth() -> None:
    network = UNet(image_size=48, num_classes=2, widths=(4, 8, 16, 32, 64)).eval()
    output = network.forward_with_features(torch.rand(3, 1, 48, 48))
    assert output.logits.shape == (3, 2, 48, 48)
    assert output.features.shape == (3, 64, 3, 3)


def test_a_size_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 16, got 40"):
        UNet(image_size=40)
