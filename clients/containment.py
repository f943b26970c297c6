"""Keeps what goes wrong at a hospital from telling more than it should.

Flower puts the text of an exception into its reply and its log, and the text may hold
a path or a patient's name. Errors written by this project are safe and pass; of any
other error only its kind and the line of code leave the site.
"""

import logging
import traceback
from pathlib import Path

import torch
from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable

from clients.data.errors import DataError
from clients.optimisation import TrainingError
from models.taps import TapError
from models.weights import WeightsError
from strategies.audit import AuditError
from strategies.replies import error_reply
from strategies.settings import SettingsError
from strategies.transport_exact import TransportError

log = logging.getLogger(__name__)

SAFE_ERRORS = (
    DataError,
    TrainingError,
    WeightsError,
    SettingsError,
    TapError,
    TransportError,
    AuditError,
)


def contain_failures(
    message: Message, context: Context, call_next: ClientAppCallable
) -> Message:
    """Answer with a safe reason instead of raising; a Flower mod.

    Args:
        message: The request.
        context: The node's context.
        call_next: The handler.

    Returns:
        The handler's reply, or an error reply whose reason is safe to show anyone.
    """
    try:
        return call_next(message, context)
    except Exception as error:  # noqa: BLE001 - the boundary of the hospital
        reason = describe(error)
        log.error("A request failed: %s", reason)
        return error_reply(message, reason)


def describe(error: Exception) -> str:
    """Say what went wrong without repeating an unknown error's text.

    Args:
        error: Anything that was raised.

    Returns:
        One sentence.
    """
    if isinstance(error, SAFE_ERRORS):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "Out of memory. Lower train.batch-size or model.image-size."
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    return (
        f"Unexpected {type(error).__name__} in {place}; its text stays at the site, "
        "because it may name a file or a patient."
    )
