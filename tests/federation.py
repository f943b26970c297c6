"""A federation inside one process: Flower's apps without SuperLink and Ray.

The private parts of Flower that this needs (the task's identity, message ids) are
touched here and nowhere else.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from strategies.settings import SettingValue

WORKS = "works"
Fault = Callable[[Message], Message | str | None]
"""Gets a request of a faulty node and returns its answer, None for silence, or WORKS
when the node does its work this time."""


class InProcessGrid(Grid):
    """Hands every request to a ClientApp at once and keeps the replies."""

    def __init__(
        self,
        app: ClientApp,
        run_config: Mapping[str, SettingValue],
        num_nodes: int,
        *,
        faults: Mapping[int, Fault] | None = None,
    ) -> None:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 1
        self.app = app
        self.faults = dict(faults or {})
        self.sent: list[Message] = []
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
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = []
        for message in messages:
            message_id = uuid.uuid4().hex
            message.metadata.__dict__["_message_id"] = message_id
            ids.append(message_id)
            self.sent.append(message)
            reply = self._answer(message)
            if reply is not None:
                self.replies[message_id] = reply
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        found = [one for one in list(message_ids) if one in self.replies]
        return [self.replies.pop(one) for one in found]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, message: Message) -> Message | None:
        node_id = message.metadata.dst_node_id
        if fault := self.faults.get(1000 - node_id):
            answer = fault(message)
            if not isinstance(answer, str):
                return answer
        try:
            return self.app(message, self.contexts[node_id])
        except Exception as error:  # noqa: BLE001 - as Flower does
            return Message(Error(code=2, reason=str(error)), reply_to=message)

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Run:
        raise NotImplementedError

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        raise NotImplementedError
