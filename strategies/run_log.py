"""Sends this project's log to where Flower's goes, so that a person sees one log."""

import logging

ROOMS = ("clients", "server", "strategies")


def join_flowers_log() -> None:
    """Let the rooms' loggers write with Flower's handlers and at its level.

    Flower's runtime sets up only its own logger, on the screen and in the log that
    `flwr run --stream` shows; other loggers would stay silent below a warning.
    """
    flower = logging.getLogger("flwr")
    for room in ROOMS:
        logger = logging.getLogger(room)
        logger.handlers = list(flower.handlers)
        logger.setLevel(flower.level)
