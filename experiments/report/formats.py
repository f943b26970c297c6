"""How numbers are written on a page."""

from datetime import UTC, datetime

MISSING = "–"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with fixed digits, or a dash where there is none."""
    return MISSING if value is None else f"{value:.{digits}f}"


def short(value: float | None) -> str:
    """Return a number in at most about six characters, or a dash."""
    if value is None:
        return MISSING
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def data_size(num_bytes: float | None) -> str:
    """Return a size in decimal units, such as "6.5 GB", or a dash."""
    if num_bytes is None:
        return MISSING
    size, units = float(num_bytes), ["B", "kB", "MB", "GB", "TB"]
    while abs(size) >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.0f} B" if units[0] == "B" else f"{size:.1f} {units[0]}"


def duration(seconds: float | None) -> str:
    """Return a time such as "48 s", "3 min 38 s" or "2 h 5 min", or a dash."""
    if seconds is None:
        return MISSING
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def moment(unix_time: float | None) -> str:
    """Return a point in time in UTC, such as "2026-11-21 14:10 UTC", or a dash."""
    if unix_time is None:
        return MISSING
    try:
        return f"{datetime.fromtimestamp(unix_time, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, OSError, ValueError):  # no time of this calendar
        return MISSING


def counted(count: int, noun: str) -> str:
    """Return "1 site" or "4 sites"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
