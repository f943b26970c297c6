"""What weights weigh on the wire."""

from flwr.app import ArrayRecord, RecordDict

from strategies import messages


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
