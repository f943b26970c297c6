"""What a setting may be, as sentences that name the setting.

Every function returns the problems it found: none, or one sentence.
"""


def check(condition: bool, problem: str) -> list[str]:
    """Report a problem unless a condition holds."""
    return [] if condition else [problem]


def at_least(key: str, value: float, least: float) -> list[str]:
    """Ask for a number that is not smaller than another."""
    return check(value >= least, f"{key} must be at least {least}, got {value}")


def share(key: str, value: float) -> list[str]:
    """Ask for a number from 0 to 1."""
    return check(0 <= value <= 1, f"{key} must be between 0 and 1, got {value}")


def one_of(key: str, value: str, allowed: tuple[str, ...]) -> list[str]:
    """Ask for one of some words."""
    return check(
        value in allowed, f"{key} must be one of {', '.join(allowed)}, got '{value}'"
    )
