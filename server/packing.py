"""What weights weigh on the wire."""

from collections.abc import Mapping
from dataclasses import dataclass

from flwr.app import ArrayRecord, Message, RecordDict

from models.weights import weights_digest
from strategies import messages


@dataclass(frozen=True)
class Contents:
    """What a message carried, without carrying it."""

    record_bytes: Mapping[str, int]  # of arrays, as serialised, by record
    num_tensors: int
    digest: str  # of all tensors, "" without any

    @property
    def num_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(self.record_bytes.values())

    @classmethod
    def of(cls, content: RecordDict) -> "Contents":
        """Look at a message's arrays."""
        tensors = {
            f"{key}/{name}": tensor
            for key, record in content.array_records.items()
            for name, tensor in messages.to_state(record).items()
        }
        return cls(
            {
                name: sum(len(array.data) for array in record.values())
                for name, record in content.array_records.items()
            },
            len(tensors),
            weights_digest(tensors) if tensors else "",
        )


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
    return sum(
        len(array.data)
        for record in content.array_records.values()
        for array in record.values()
    )
