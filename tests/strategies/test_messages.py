"""What a rival's steps need travels beside the weights."""

import pytest
from flwr.app import Message
from flwr.clientapp import ClientApp

from server.packing import Packer
from strategies import messages
from strategies.federation_state import equal_states
from tests.federation import InProcessGrid
from tests.strategies.sent_states import CONTROL, FORMER, WEIGHTS


@pytest.fixture(autouse=True)
def somebodys_task() -> None:
    """Make this process one in which messages can be made."""
    InProcessGrid(ClientApp(), {}, 1)


def request(**more: object) -> Message:
    arrays = messages.from_state(WEIGHTS)
    content = messages.pack_job(round_number=3, arrays=arrays, **more)  # type: ignore[arg-type]
    return Message(content, 7, messages.TRAIN)


def test_aids_of_a_job_arrive_by_name_and_to_the_bit() -> None:
    aids = {
        "former:b": messages.from_state(FORMER),
        "control": messages.from_state(CONTROL),
    }
    message = request(aids=aids, owner="b")
    Packer("float32")(message.content)  # as the server sends it
    job = messages.unpack_job(message)
    assert list(job.aids) == ["control", "former:b"]
    assert equal_states(job.aids["control"], CONTROL)
    assert equal_states(job.aids["former:b"], FORMER)
    assert job.weights is not None
    assert equal_states(job.weights, WEIGHTS)
    assert (job.round_number, job.owner) == (3, "b")
    assert job.teachers == job.prototypes == {}


def test_a_job_says_what_the_silos_of_its_teachers_annotate() -> None:
    message = request(teaches={"b": ["guidewire"], "a": ()})
    job = messages.unpack_job(message)
    assert job.teaches == {"a": (), "b": ("guidewire",)}
    assert messages.unpack_job(request()).teaches == {}


def test_a_job_without_aids_has_none() -> None:
    assert messages.unpack_job(request()).aids == {}
    assert messages.unpack_job(request(aids={})).aids == {}
