"""What a hospital answers comes back by name, rounded as asked, and is read once."""

import pytest
import torch
from flwr.app import Message
from flwr.clientapp import ClientApp

from server.exchange import unpacked
from strategies import messages, replies
from strategies.federation_state import equal_states
from strategies.replies import pack_reply, reply_aids, reply_metrics, reply_state
from tests.federation import InProcessGrid
from tests.strategies.sent_states import CONTROL, FORMER, WEIGHTS


@pytest.fixture(autouse=True)
def somebodys_task() -> None:
    """Make this process one in which messages can be made."""
    InProcessGrid(ClientApp(), {}, 1)


def request() -> Message:
    return Message(messages.pack_job(round_number=3), 7, messages.TRAIN)


def test_aids_of_a_reply_come_back_beside_the_weights() -> None:
    content = pack_reply(
        "a",
        {messages.NUM_EXAMPLES: 5},
        state=WEIGHTS,
        aids={"gradient": CONTROL, "former": FORMER},
    )
    reply = unpacked(Message(content, reply_to=request()))
    aids = reply_aids(reply)
    assert list(aids) == ["former", "gradient"]
    assert equal_states(aids["gradient"], CONTROL)
    assert equal_states(aids["former"], FORMER)
    assert equal_states(reply_state(reply), WEIGHTS)
    assert reply_metrics(reply)[messages.NUM_EXAMPLES] == 5


def test_a_reply_without_aids_has_none() -> None:
    content = pack_reply("a", {}, state=WEIGHTS)
    assert reply_aids(Message(content, reply_to=request())) == {}


def test_aids_are_rounded_as_the_weights_are() -> None:
    content = pack_reply(
        "a", {}, state=WEIGHTS, wire="bfloat16", aids={"gradient": CONTROL}
    )
    aid = reply_aids(Message(content, reply_to=request()))["gradient"]
    assert aid["w"].dtype == torch.float32
    assert torch.equal(aid["w"], CONTROL["w"].bfloat16().float())
    assert not torch.equal(aid["w"], CONTROL["w"])


def test_a_reply_is_read_once_and_never_taken_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads = []
    real = replies.to_state
    monkeypatch.setattr(
        replies, "to_state", lambda record: reads.append(record) or real(record)
    )
    first, second = (
        Message(
            pack_reply("a", {}, state=state, aids={"gradient": aid}),
            reply_to=request(),
        )
        for state, aid in ((WEIGHTS, CONTROL), (FORMER, WEIGHTS))
    )
    for _ in range(2):  # check, record and strategy ask in turn
        assert equal_states(reply_state(first), WEIGHTS)
        assert equal_states(reply_aids(first)["gradient"], CONTROL)
    assert len(reads) == 2
    assert equal_states(reply_state(second), FORMER)
    assert equal_states(reply_aids(second)["gradient"], WEIGHTS)
    # What a strategy puts in place of an array, as Flower's do, is seen.
    second.content[messages.ARRAYS] = messages.from_state(CONTROL)
    assert equal_states(reply_state(second), CONTROL)
