"""The columns of a study's tables: how they read, and their numbers in full.

A cell is the mean and the sample standard deviation over seeds; what a row has more
than the reference is paired by seed. Scores from 0 to 1 are in percent in text and as
they are in CSV files.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from experiments.study.findings import Findings, Key
from experiments.study.statistics import (
    Difference,
    crossed_difference,
    paired_difference,
)
from strategies.settings import SettingValue

DICE = "test/dice"
UNKNOWN = "–"

Cell = str | float | int | None


@dataclass(frozen=True)
class Column:
    """One column: how it reads, and its numbers under their names in CSV files."""

    heading: str
    text: Callable[[Findings, Key], str]
    numbers: Callable[[Findings, Key], dict[str, Cell]]


def quality_columns(
    findings: Findings, scenario: str, *, base: str = ""
) -> list[Column]:
    """Return what is known of the test frames of all sites.

    Args:
        findings: All results.
        scenario: Name of a scenario.
        base: Row of an ablation that the others of its group are compared with, too.

    Returns:
        Columns.
    """
    reference = findings.spec.reference
    compared = list(dict.fromkeys(one for one in (reference, base) if one))
    differences = [_difference(scenario, one) for one in compared]
    return [
        _number(DICE, "Dice"),
        *differences,
        *([_site_difference(scenario, reference)] if reference else []),
        _number("test/cldice", "clDice"),
        _number("test/hd95_px", "HD95 px", scale=1),
        _number("test/breaks", "breaks", scale=1, digits=2),
        _number("test/missed", "missed"),
        _number("test/worst_site_dice", "worst site"),
        _number("test/sd_sites_dice", "sd of sites"),
    ]


def transfer_columns(findings: Findings, scenario: str) -> list[Column]:
    """Return what is known of domains without labels at any site; [] if nothing is."""
    unseen = findings.names(scenario, "unseen/", "/dice")
    return [
        *(_number(f"unseen/{one}/dice", f"{one}, unseen") for one in unseen),
        *(
            _number(f"few_shot/{domain}/{shots}/dice", f"{domain}, {shots}-shot")
            for domain, shots in findings.shots(scenario)
        ),
    ]


def cost_columns(findings: Findings, scenario: str) -> list[Column]:
    """Return what the rows cost, and when they came near the pooled one."""
    asked = findings.names(scenario, "reach/", "rounds")
    near = [
        _reach("reach/rounds", "rounds to 90 %", digits=1),
        _reach("reach/mb", "MB to 90 %", digits=1),
        _reach("reach/steps", "steps to 90 %", digits=0),
    ]
    return [
        *(near if asked else []),
        _number("cost/rounds", "rounds", scale=1, digits=0, with_sd=False),
        _number("cost/mb_per_round", "MB a round", scale=1, digits=2, with_sd=False),
        *(
            _number(f"cost/{name}", heading, scale=1, digits=0, with_sd=False)
            for name, heading in (
                ("steps_per_silo", "steps a silo"),
                ("overseas_steps_per_silo", "abroad"),
                ("server_steps", "server"),
                ("sequential_steps", "sequential"),
                ("seconds", "seconds"),
            )
        ),
        Column("trial", _trial_text, lambda f, key: {"trial": _trial_text(f, key)}),
    ]


def difference_text(found: Difference | None) -> str:
    """Return points of Dice, such as "+2.0 [+1.0, +3.0] 3/3": interval, seeds won."""
    if found is None:
        return UNKNOWN
    interval = ""
    if found.low is not None and found.high is not None:
        interval = f" [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    return f"{100 * found.mean:+.1f}{interval} {found.wins}/{found.count}"


def trial_words(settings: Mapping[str, SettingValue]) -> str:
    """Return the settings of a trial in few words; "" if there are none."""
    return ", ".join(
        f"{name.rpartition('.')[2]} {value:g}"
        if isinstance(value, float)
        else f"{name.rpartition('.')[2]} {value}"
        for name, value in settings.items()
    )


def _number(
    name: str,
    heading: str,
    *,
    scale: float = 100,
    digits: int = 1,
    with_sd: bool = True,
) -> Column:
    def text(findings: Findings, key: Key) -> str:
        found = findings.summary(key, name)
        if found is None:
            return UNKNOWN
        sd = found.sd if with_sd else None
        deviation = "" if sd is None else f" ± {scale * sd:.{digits}f}"
        runs = len(findings.finals[key])
        part = "" if found.count == runs else f" ({found.count} of {runs})"
        return f"{scale * found.mean:.{digits}f}{deviation}{part}"

    def numbers(findings: Findings, key: Key) -> dict[str, Cell]:
        found = findings.summary(key, name)
        return {
            f"{name} mean": found.mean if found else None,
            f"{name} sd": found.sd if found else None,
        }

    return Column(heading, text, numbers)


def _difference(scenario: str, reference: str) -> Column:
    def found(findings: Findings, key: Key) -> Difference | None:
        if key.row == reference:
            return None
        other = findings.by_seed(Key(scenario, reference), DICE)
        return paired_difference(findings.by_seed(key, DICE), other)

    return _compared(f"Δ to {reference}", f"dice - {reference}", found)


def _site_difference(scenario: str, reference: str) -> Column:
    def found(findings: Findings, key: Key) -> Difference | None:
        if key.row == reference:
            return None
        other = findings.by_site(Key(scenario, reference), "dice")
        return crossed_difference(findings.by_site(key, "dice"), other)

    return _compared("Δ per site", f"site dice - {reference}", found)


def _compared(
    heading: str, name: str, find: Callable[[Findings, Key], Difference | None]
) -> Column:
    def numbers(findings: Findings, key: Key) -> dict[str, Cell]:
        found = find(findings, key)
        parts = ("mean", "low", "high", "wins", "count")
        return {f"{name} {part}": getattr(found, part, None) for part in parts}

    return Column(heading, lambda f, key: difference_text(find(f, key)), numbers)


def _reach(name: str, heading: str, *, digits: int) -> Column:
    def text(findings: Findings, key: Key) -> str:
        runs = findings.finals.get(key, {})
        asked = sum(name in run.numbers for run in runs.values())
        found = findings.summary(key, name)
        if not asked:
            return UNKNOWN
        if found is None:
            return "never"
        part = "" if found.count == asked else f" ({found.count} of {asked})"
        return f"{found.mean:.{digits}f}{part}"

    def numbers(findings: Findings, key: Key) -> dict[str, Cell]:
        found = findings.summary(key, name)
        return {
            f"{name} mean": found.mean if found else None,
            f"{name} seeds": found.count if found else 0,
        }

    return Column(heading, text, numbers)


def _trial_text(findings: Findings, key: Key) -> str:
    """Say which trial was chosen, in its settings."""
    spec = findings.spec
    trials = spec.trials_for(spec.row(key.row))
    runs = findings.finals.get(key, {}).values()
    chosen = sorted({int(run.job["trial"]) for run in runs})
    if len(trials) < 2 or not chosen:
        return UNKNOWN
    return "; ".join(
        trial_words(trials[one]) or "as it is" if one < len(trials) else f"trial {one}"
        for one in chosen
    )
