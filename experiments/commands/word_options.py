"""What options mean that take words or numbers with commas between."""

from strategies.settings import SettingsError


def words(text: str) -> tuple[str, ...]:
    """Read words such as "random,foundation"; empty ones are left out."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_numbers(
    option: str, text: str, *, at_least: int | None = None
) -> tuple[int, ...]:
    """Read a list such as "1,5,10".

    Args:
        option: Its name, for the message.
        text: What was given.
        at_least: Smallest number allowed; None = any.

    Raises:
        SettingsError: If a part is not a whole number or too small.
    """
    limit = "" if at_least is None else f" of at least {at_least}"
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or (at_least is not None and min(numbers) < at_least):
        raise SettingsError(
            f"{option} wants whole numbers{limit} with commas between, got '{text}'."
        )
    return numbers


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
    chosen = list(words(text))
    if not chosen or not set(chosen) <= set(allowed):
        raise SettingsError(f"{option} must be all or some of {', '.join(allowed)}.")
    return chosen
