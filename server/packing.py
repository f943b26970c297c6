"""What weights weigh on the wire."""

from flwr.app import ArrayRecord, Message, RecordDict

from strategies import messages
from strategies.contents import Contents, record_bytes


class Inspector:
    """Looks at requests one after another; the same arrays in a row are read once."""

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self._records: list[ArrayRecord] = []
        self._contents = Contents({}, 0, "")

    def __call__(self, content: RecordDict) -> Contents:
        """Look at a message's arrays."""
        records = list(content.array_records.values())
        if list(map(id, records)) != list(map(id, self._records)):
            self._records, self._contents = records, Contents.of(content)
        return self._contents


def without_arrays(message: Message) -> Message:
    """Return a request's envelope and config, which weigh nothing."""
    content = RecordDict(dict(message.content.config_records.items()))
    metadata = message.metadata
    return Message(content, metadata.dst_node_id, metadata.message_type)


class Narrower:
    """Rounds what is sent, every record once, however many messages carry it."""

    def __init__(self, wire: str) -> None:
        """Round to a wire, a key of `strategies.wire.WIRES`."""
        self._wire = wire
        self._known: dict[int, tuple[ArrayRecord, ArrayRecord]] = {}

    def __call__(self, content: RecordDict) -> None:
        """Round the arrays of a message, in place."""
        if self._wire == "float32":
            return
        for name, record in list(content.array_records.items()):
            if id(record) not in self._known:
                state = messages.to_state(record)
                narrow = messages.from_state(state, self._wire)
                self._known[id(record)] = (record, narrow)
            content[name] = self._known[id(record)][1]


def count_bytes(content: RecordDict) -> int:
    """Count the bytes of the arrays in a message, as serialised."""
    return sum(record_bytes(record) for record in content.array_records.values())
