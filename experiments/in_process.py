"""A federation inside one process: Flower's apps without SuperLink and Ray.

A request is answered by the ClientApp at once, one hospital after the other, so a run
needs one process and one thread and gives the bits of `endofed simulate`: all
randomness is a function of seed, round, phase and site. The private parts of Flower
that this needs (the task's identity, message ids) are touched here and nowhere else.
"""

import uuid
from collections.abc import Iterable, Mapping

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from strategies.settings import SettingValue

APP_FAILED = 2
"""Flower's error code of an app that raised."""


def take_identity() -> None:
    """Make this process somebody who may write messages."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 1


def name_message(message: Message) -> str:
    """Give a message the id that a reply to it needs, and return it."""
    message_id = uuid.uuid4().hex
    message.metadata.__dict__["_message_id"] = message_id
    return message_id


class InProcessGrid(Grid):
    """Hands every request to a ClientApp at once and keeps the replies."""

    def __init__(
        self, app: ClientApp, run_config: Mapping[str, SettingValue], num_nodes: int
    ) -> None:
        """Make the nodes.

        Args:
            app: Of the hospitals.
            run_config: The complete flat settings of the run.
            num_nodes: How many hospitals there are, in the order of the sites file.
        """
        take_identity()
        self.app = app
        self.replies: dict[str, Message] = {}
        # Node ids are random in Flower; here they are merely not the partition.
        self.contexts = {
            1000 - partition: Context(
                run_id=1,
                node_id=1000 - partition,
                node_config={"partition-id": partition, "num-partitions": num_nodes},
                state=RecordDict(),
                run_config=dict(run_config),
            )
            for partition in range(num_nodes)
        }

    def get_node_ids(self) -> list[int]:
        """Return the ids of all nodes."""
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Let the hospitals answer; return the ids under which replies are kept."""
        ids = []
        for message in messages:
            message_id = name_message(message)
            ids.append(message_id)
            reply = self._answer(message)
            if reply is not None:
                self.replies[message_id] = reply
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Hand over replies that are there, each once."""
        found = [one for one in list(message_ids) if one in self.replies]
        return [self.replies.pop(one) for one in found]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Let the hospitals answer and return what they said."""
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, message: Message) -> Message | None:
        """Return what a hospital answers; None for silence."""
        try:
            return self.app(message, self.contexts[message.metadata.dst_node_id])
        except Exception as error:  # noqa: BLE001 - as Flower does
            return Message(Error(code=APP_FAILED, reason=str(error)), reply_to=message)

    def set_run(self, run: Run) -> None:
        """Not used."""
        raise NotImplementedError

    @property
    def run(self) -> Run:
        """Not used."""
        raise NotImplementedError

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Not used: messages are made by their constructor."""
        raise NotImplementedError
