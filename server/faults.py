"""What can be wrong with what a hospital sends."""

from collections.abc import Mapping

from flwr.app import Message
from torch import Tensor

from models.weights import WeightsError, check_weights
from strategies import messages
from strategies.moments import ADAMW, check_moments
from strategies.replies import reply_aids, reply_evaluation, reply_owner, reply_state


def find_fault(
    request: Message, reply: Message, *, expected: Mapping[str, Tensor], site: str
) -> str:
    """Say why a reply cannot be used, "" if it can.

    Args:
        request: What was asked.
        reply: What came, without an error of its own.
        expected: Names and shapes that received weights must have.
        site: Who should have answered.
    """
    asked = request.metadata.message_type
    if reply.metadata.src_node_id != request.metadata.dst_node_id:
        return "the answer came from another node"
    try:
        if reply_owner(reply) != messages.unpack_owner(request):
            return "the answer carries another silo's model than was asked for"
        if asked == messages.EVALUATE:
            return find_impossible_numbers(request, reply)
        if asked == messages.PROTOTYPES:
            return find_impossible_tokens(reply)
        if asked.startswith(messages.TRAIN):
            source = f"hospital '{site}'"
            check_weights(reply_state(reply), expected, source=source)
            _check_aids(reply, dict(expected), source)
    except KeyError:
        return "the answer lacks the weights or the config it should carry"
    except WeightsError as error:
        return str(error)
    return ""


def _check_aids(reply: Message, expected: dict[str, Tensor], source: str) -> None:
    for kind, aid in reply_aids(reply).items():
        if kind == ADAMW:
            check_moments(aid, expected, source=source)
        else:
            wanted = {name: expected[name] for name in aid}
            check_weights(aid, wanted, source=source)


def find_impossible_numbers(request: Message, reply: Message) -> str:
    """Say why an evaluation cannot be used, "" if it can."""
    try:
        evaluation = reply_evaluation(reply)
        if messages.unpack_split(request) == "test":
            evaluation.require_all_metrics()
    except ValueError as error:  # its text names metrics, and nothing else
        return f"its evaluation cannot be used: {error}"
    return ""


def find_impossible_tokens(reply: Message) -> str:
    """Say why prototypes cannot be used, "" if they can."""
    tokens = reply_state(reply)[messages.TOKENS]
    if tokens.ndim == 2 and bool(tokens.isfinite().all()):
        return ""
    return "its prototypes cannot be used: wanted finite tokens (count, dim)"
