"""What options mean that take some words out of a list."""

from strategies.settings import SettingsError


def choose(text: str, allowed: tuple[str, ...], option: str) -> list[str]:
    """Read words with commas between.

    Args:
        text: As "unet,sam-tiny", or "all".
        allowed: What may be chosen.
        option: Its name, for the message.

    Returns:
        The words, one at least, in the order given.

    Raises:
        SettingsError: If none or an unknown one is named.
    """
    if text == "all":
        return list(allowed)
    chosen = [part.strip() for part in text.split(",") if part.strip()]
    if not chosen or not set(chosen) <= set(allowed):
        raise SettingsError(f"{option} must be all or some of {', '.join(allowed)}.")
    return chosen
