"""How a strategy asks: lazily where the grid can, and errors are left out."""

from collections.abc import Iterable, Iterator
from typing import Any

from flwr.app import Error, Message, RecordDict

from experiments.in_process import name_message, take_identity
from strategies.sending import sender


def request(node: int) -> Message:
    message = Message(RecordDict(), node, "train")
    name_message(message)
    return message


def answer(message: Message) -> Message:
    if message.metadata.dst_node_id == 2:
        return Message(Error(code=1, reason=""), reply_to=message)
    return Message(RecordDict(), reply_to=message)


class AtOnce:
    """A grid that knows no streams."""

    timeout = 0.0

    def send_and_receive(
        self, requests: Iterable[Message], *, timeout: float
    ) -> list[Message]:
        self.timeout = timeout
        return [answer(one) for one in requests]


class OneByOne:
    """A grid that hands replies over one by one."""

    def __init__(self) -> None:
        self.answered: list[int] = []

    def stream(self, requests: Iterable[Message]) -> Iterator[Message]:
        for one in requests:
            self.answered.append(one.metadata.dst_node_id)
            yield answer(one)


def nodes_of(replies: Iterable[Message]) -> list[int]:
    return [one.metadata.src_node_id for one in replies]


def ask(grid: AtOnce | OneByOne, timeout: float = 7.0) -> Iterator[Message]:
    take_identity()
    requests = [request(node) for node in (1, 2, 3)]
    told: Any = grid
    return iter(sender(told, timeout)(requests))


def test_errors_are_left_out_and_the_time_limit_is_told() -> None:
    grid = AtOnce()
    assert nodes_of(ask(grid)) == [1, 3]
    assert grid.timeout == 7.0


def test_a_streaming_grid_is_read_one_reply_at_a_time() -> None:
    grid = OneByOne()
    replies = ask(grid)
    assert grid.answered == []
    assert next(replies).metadata.src_node_id == 1
    assert grid.answered == [1]
    assert nodes_of(replies) == [3]


def test_nobody_is_asked_without_requests() -> None:
    untouched: Any = object()
    assert list(sender(untouched, 1.0)([])) == []
