"""What can be wrong with numbers that a hospital sends."""

from flwr.app import Message

from strategies import messages


def find_impossible_numbers(request: Message, reply: Message) -> str:
    """Say why an evaluation cannot be used, "" if it can."""
    try:
        evaluation = messages.reply_evaluation(reply)
        if messages.unpack_split(request) == "test":
            evaluation.require_all_metrics()
    except ValueError as error:  # its text names metrics, and nothing else
        return f"its evaluation cannot be used: {error}"
    return ""


def find_impossible_tokens(reply: Message) -> str:
    """Say why prototypes cannot be used, "" if they can."""
    tokens = messages.reply_state(reply)[messages.TOKENS]
    if tokens.ndim == 2 and bool(tokens.isfinite().all()):
        return ""
    return "its prototypes cannot be used: wanted finite tokens (count, dim)"
