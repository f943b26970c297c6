"""What a hospital refuses: a request against its limits, before any data is touched.

The centre's wishes come in two forms, the settings of the run and the kind of request.
Both are compared with the site's own file, which nobody outside can change. All that is
against the limits is said at once, so that a run is mended in one go.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from clients.data.errors import DataError
from clients.site_file import Limits
from clients.site_values import quoted
from strategies.settings import RunSettings, SettingValue

INTRODUCE, PROTOTYPES = "introduce", "prototypes"
"""Phases that rules know by name, as in `strategies.messages.PHASE_NAMES`."""


@dataclass(frozen=True)
class BrokenRule:
    """One limit that a request would break."""

    rule: str  # key in [limits]
    allows: str
    came: str  # in words

    def __str__(self) -> str:
        """Say what the rule allows and what came."""
        return f"{self.rule} allows {self.allows}, {self.came}"


class SiteRefusal(DataError):
    """A request is against the limits of the site; the text is safe to show anyone."""

    def __init__(self, site: str, broken: tuple[BrokenRule, ...]) -> None:
        """Name the rules.

        Args:
            site: Name of the site.
            broken: One or more.
        """
        self.broken = broken
        reasons = "; ".join(map(str, broken))
        super().__init__(f"Site '{site}' refuses: {reasons}.")


@dataclass(frozen=True)
class Request:
    """What the centre asks for, as far as the limits are concerned."""

    phase: str  # a value of `strategies.messages.PHASE_NAMES`
    run_config: Mapping[str, SettingValue]  # flat
    settings: RunSettings  # the same, read
    rounds_before: int = 0  # other rounds begun today, of this run or of others


def check_request(site: str, limits: Limits, request: Request) -> None:
    """Refuse a request that is against the limits.

    Minimum patients are counted where frames are loaded, and time is kept where a
    training runs, see `seconds_allowed`; whether an app may run at all is decided
    before it is installed, in `experiments.deployment.fab_gate`.

    Args:
        site: Name of the site, for the message.
        limits: Of the site.
        request: What is asked.

    Raises:
        SiteRefusal: With every rule that would be broken.
    """
    broken = (
        *_names(limits, request.settings),
        *_prototypes(limits, request),
        *_rounds(limits, request),
        *_bounds(limits, request.run_config),
    )
    if broken:
        raise SiteRefusal(site, broken)


def seconds_allowed(limits: Limits, settings: RunSettings) -> float:
    """Return after how many seconds a training is given up at this site.

    Args:
        limits: Of the site.
        settings: Of the run.

    Returns:
        Nine tenths of what the run gives a phase, or the site's own limit.
    """
    run = 0.9 * settings.phase_timeout_s  # the rest is for the way
    own = limits.max_seconds_per_phase
    return run if own is None else min(run, own)


def _names(limits: Limits, settings: RunSettings) -> list[BrokenRule]:
    return [
        BrokenRule(rule, ", ".join(allowed) or "none", f"this run has {came}")
        for rule, allowed, came in (
            ("strategies", limits.strategies, settings.strategy),
            ("models", limits.models, settings.model.name),
        )
        if allowed is not None and came not in allowed
    ]


def _prototypes(limits: Limits, request: Request) -> list[BrokenRule]:
    most, settings = limits.max_prototypes, request.settings
    wanted = settings.fedefm.prototypes
    is_asked = settings.strategy == "fedefm" or request.phase == PROTOTYPES
    if most is None or not is_asked or wanted <= most:
        return []
    came = f"this run has fedefm.prototypes = {wanted}"
    return [BrokenRule("max-prototypes", f"{most} to leave", came)]


def _rounds(limits: Limits, request: Request) -> list[BrokenRule]:
    most = limits.max_rounds_per_day
    if most is None or request.phase == INTRODUCE or request.rounds_before < most:
        return []
    came = f"{request.rounds_before} were begun today (UTC) and this is another"
    return [BrokenRule("max-rounds-per-day", str(most), came)]


def _bounds(limits: Limits, run_config: Mapping[str, SettingValue]) -> list[BrokenRule]:
    broken = []
    for key, bound in limits.settings.items():
        value = run_config.get(key)
        if value is None or not bound.holds(value):
            # A text may be a path of the centre's machine: only plain words are said.
            came = quoted(value) if isinstance(value, str) else f" {value}"
            came = f"this run has{came or ' another'}"
            broken.append(BrokenRule(f"settings '{key}'", str(bound), came))
    return broken
