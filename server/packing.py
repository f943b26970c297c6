"""What weights weigh on the wire."""

from flwr.app import ArrayRecord, Message, RecordDict

from strategies import messages
from strategies.contents import Contents, record_bytes
from strategies.wire import bundle, pack


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


class Packer:
    """Packs what is sent, a record that messages in a row carry only once."""

    def __init__(self, wire: str) -> None:
        """Round to a wire, a key of `strategies.wire.WIRES`, and bundle."""
        self._wire = wire
        self._known: dict[int, tuple[ArrayRecord, ArrayRecord]] = {}

    def __call__(self, content: RecordDict) -> None:
        """Pack the arrays of a message, in place."""
        known = {}  # no more than one message's, so that memory does not grow
        for name, record in list(content.array_records.items()):
            packed = self._known.get(id(record)) or (record, self._pack(record))
            known[id(record)] = packed
            content[name] = packed[1]
        self._known = known

    def _pack(self, record: ArrayRecord) -> ArrayRecord:
        if self._wire != "float32":
            return pack(messages.to_state(record), self._wire)
        return bundle(record)


def count_bytes(content: RecordDict) -> int:
    """Count the bytes of the arrays in a message, as serialised."""
    return sum(record_bytes(record) for record in content.array_records.values())
