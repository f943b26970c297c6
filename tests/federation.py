"""A federation inside one process whose hospitals may fail as a test wants."""

from collections.abc import Callable, Iterable, Mapping

from flwr.app import Message
from flwr.clientapp import ClientApp

from experiments import in_process
from strategies.settings import SettingValue

WORKS = "works"
Fault = Callable[[Message], Message | str | None]
"""Gets a request of a faulty node and returns its answer, None for silence, or WORKS
when the node does its work this time."""


class InProcessGrid(in_process.InProcessGrid):
    """Remembers every request and lets some nodes fail."""

    def __init__(
        self,
        app: ClientApp,
        run_config: Mapping[str, SettingValue],
        num_nodes: int,
        *,
        faults: Mapping[int, Fault] | None = None,
    ) -> None:
        super().__init__(app, run_config, num_nodes)
        self.faults = dict(faults or {})
        self.sent: list[Message] = []

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = []
        for message in messages:
            self.sent.append(message)
            ids += super().push_messages([message])
        return ids

    def _answer(self, message: Message) -> Message | None:
        if fault := self.faults.get(1000 - message.metadata.dst_node_id):
            answer = fault(message)
            if not isinstance(answer, str):
                return answer
        return super()._answer(message)
