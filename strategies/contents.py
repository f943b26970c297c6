"""What a message carries, without carrying it: for the audit logs of both ends."""

from collections.abc import Mapping
from dataclasses import dataclass

from flwr.app import ArrayRecord, RecordDict

from models.weights import weights_digest
from strategies import messages
from strategies.accumulation import State


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
    def of(
        cls, content: RecordDict, states: Mapping[str, State] | None = None
    ) -> "Contents":
        """Look at a message's arrays.

        Args:
            content: Of the message.
            states: Its arrays by record, where they are read already.
        """
        if states is None:
            states = {
                name: messages.to_state(record)
                for name, record in content.array_records.items()
            }
        tensors = {
            f"{key}/{name}": tensor
            for key, state in states.items()
            for name, tensor in state.items()
        }
        return cls(
            {
                name: record_bytes(record)
                for name, record in content.array_records.items()
            },
            len(tensors),
            weights_digest(tensors) if tensors else "",
        )


def record_bytes(record: ArrayRecord) -> int:
    """Count the bytes of the arrays of a record, as serialised."""
    return sum(len(array.data) for array in record.values())
