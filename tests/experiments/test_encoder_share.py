import pytest
import torch

from clients.data.frames import FrameSet
from clients.data.simulator import simulate_frames
from experiments.benchmarks.encoder_share import CHANGES, encoder_share, next_frames
from experiments.model_source import ModelSource, open_model
from models.sam import Sam
from strategies.settings import SettingsError


@pytest.fixture(scope="module")
def frames() -> FrameSet:
    return simulate_frames(
        "human", patients=2, frames_per_patient=2, image_size=32, seed=1
    )


@pytest.fixture
def source() -> ModelSource:
    return open_model("random", name="sam-tiny", image_size=32)


def test_a_decoder_that_only_has_the_encoder_depends_on_it(
    source: ModelSource, frames: FrameSet
) -> None:
    network = source.network
    assert isinstance(network, Sam)
    network.detail = None  # the original SAM
    torch.nn.init.zeros_(network.logit_bias)  # else nothing is foreground yet
    found = encoder_share(source, frames)
    assert found.keys() == CHANGES.keys()
    assert len(set(found.values())) == 3


def test_the_network_is_left_as_it_was(source: ModelSource, frames: FrameSet) -> None:
    network = source.network.eval()
    with torch.no_grad():
        before = network(frames.images)
        encoder_share(source, frames)
        assert torch.equal(network(frames.images), before)


def test_every_frame_gets_the_features_of_another_one() -> None:
    features = torch.arange(3.0).view(3, 1, 1, 1)
    assert next_frames(features).flatten().tolist() == [2, 0, 1]


def test_a_network_without_such_an_encoder_is_refused(frames: FrameSet) -> None:
    with pytest.raises(SettingsError, match="Only a SAM has such an encoder, got a"):
        encoder_share(open_model("random", name="unet", image_size=32), frames)
