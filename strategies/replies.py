"""What a hospital answers: packed there, read here, once for all who ask in turn.

The names of its records and numbers stand with all others in `strategies/messages.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from strategies.accumulation import State
from strategies.evaluation import Evaluation
from strategies.messages import (
    AID,
    ARRAYS,
    CONFIG,
    METRICS,
    OWNER,
    SITE,
    WIRE_ERROR,
    to_state,
)
from strategies.wire import pack, rounding_error

# Flower's own codes are small; ours say that the reason is safe to show.
HOSPITAL_ERROR = 1001


@dataclass
class _LastRead:
    """The reply that was read last: check, record and strategy read it in turn."""

    records: dict[str, ArrayRecord] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)


_LAST_READ = _LastRead()


def pack_reply(
    site: str,
    metrics: Mapping[str, float | int | list[int]],
    *,
    state: State | None = None,
    wire: str = "float32",
    owner: str = "",
    facts: Mapping[str, str | int | float | bool | list[str]] | None = None,
    aids: Mapping[str, State] | None = None,
) -> RecordDict:
    """Pack a hospital's answer.

    Args:
        site: The hospital's name.
        metrics: Numbers, `num-examples` among them where Flower averages.
        state: Trained weights, if any.
        wire: What they travel as, a key of `strategies.wire.WIRES`.
        owner: Whose model came along.
        facts: What a hospital says of itself when it is introduced.
        aids: What a rival's local steps report beside the weights.

    Returns:
        The content of the reply.
    """
    content = RecordDict()
    if state is not None:
        content[ARRAYS] = pack(state, wire)
        metrics = {**metrics, WIRE_ERROR: rounding_error(state, wire)}
    for name, aid in sorted((aids or {}).items()):
        content[AID + name] = pack(aid, wire)
    content[METRICS] = MetricRecord(dict(metrics))
    content[CONFIG] = ConfigRecord({SITE: site, OWNER: owner, **(facts or {})})
    return content


def reply_owner(message: Message) -> str:
    """Return whose model a reply carries, "" for the site's own."""
    return str(message.content.config_records[CONFIG].get(OWNER, ""))


def reply_states(message: Message) -> dict[str, State]:
    """Return all arrays of a reply, by record; read once for all who ask in turn.

    Nobody may change them in place.
    """
    records, last = dict(message.content.array_records.items()), _LAST_READ
    if [*map(id, records.values())] != [*map(id, last.records.values())]:
        last.records, last.states = {}, {}  # first, so that memory holds one reply
        last.states = {name: to_state(record) for name, record in records.items()}
        last.records = records
    return last.states


def reply_state(message: Message) -> State:
    """Return the weights, or the tokens, of a reply; not to be changed in place."""
    return reply_states(message)[ARRAYS]


def reply_aids(message: Message) -> dict[str, State]:
    """Return what a rival's local steps report beside the weights, by what it is."""
    return {
        name.removeprefix(AID): state
        for name, state in sorted(reply_states(message).items())
        if name.startswith(AID)
    }


def reply_metrics(message: Message) -> dict[str, float]:
    """Return the numbers of a reply."""
    record = message.content.metric_records.get(METRICS, MetricRecord())
    return {key: value for key, value in record.items() if not isinstance(value, list)}


def reply_evaluation(message: Message) -> Evaluation:
    """Return what a hospital measured.

    Args:
        message: The reply to a request to evaluate.

    Returns:
        The sums over the hospital's frames.

    Raises:
        ValueError: If a number is missing, unknown or not possible.
    """
    return Evaluation.from_metrics(
        message.content.metric_records.get(METRICS, MetricRecord())
    )


def error_reply(message: Message, reason: str) -> Message:
    """Answer a request with a reason that is safe to show anyone.

    Args:
        message: The request.
        reason: One sentence without names of patients, paths or pixels.

    Returns:
        An error message that Flower's strategies count as a failure.
    """
    return Message(Error(code=HOSPITAL_ERROR, reason=reason), reply_to=message)


def failure_reason(message: Message) -> str:
    """Say why a reply failed, without what an exception may have leaked.

    Args:
        message: A reply with an error.

    Returns:
        The hospital's own words if it spoke, else the kind of failure only: Flower
        puts the text of any exception into its errors.
    """
    error = message.error
    if error.code == HOSPITAL_ERROR and error.reason:
        return str(error.reason)
    return f"the site's app or node failed (Flower error code {error.code})"
