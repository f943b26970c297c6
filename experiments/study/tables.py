"""The tables of a study: rows by section, one table of text and one of numbers each.

Bold is a rule and no judgement: in each section of two rows or more, the row with the
highest mean Dice. Rows that lie within one standard deviation of it are named below.
The pooled row is an upper bound and takes no part.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from experiments.study.columns import DICE, Cell, Column, difference_text
from experiments.study.findings import Findings, Key
from experiments.study.spec import Row, StudySpec
from experiments.study.statistics import (
    Summary,
    best_of,
    paired_difference,
    student_interval,
    summarise,
)

ABLATION = "ablation"
"""How the names of groups begin that have tables of their own."""

Sections = dict[str, list[Row]]
"""Rows by group, in the order of the study."""


def sections_of(spec: StudySpec, scenario: str, table: str) -> Sections:
    """Return the rows of a table, without ablations.

    Args:
        spec: The study.
        scenario: Name of a scenario.
        table: One of `spec.TABLES`.

    Returns:
        Rows by group.
    """
    return _grouped(
        row
        for row in _rows(spec, scenario)
        if row.table == table and not is_ablation(row.group)
    )


def ablations_of(spec: StudySpec, scenario: str) -> Sections:
    """Return the rows of ablations, by group."""
    return _grouped(row for row in _rows(spec, scenario) if is_ablation(row.group))


def is_ablation(group: str) -> bool:
    """Tell whether a group has a table of its own."""
    return group.lower().startswith(ABLATION)


def markdown(
    findings: Findings,
    scenario: str,
    sections: Sections,
    columns: Sequence[Column],
    *,
    with_leaders: bool = True,
) -> list[str]:
    """Return a table as lines of Markdown, with what its bold rows mean.

    Args:
        findings: All results.
        scenario: Name of a scenario.
        sections: Rows by group.
        columns: At least one; with leaders, the first is Dice.
        with_leaders: Whether the highest Dice of a section is in bold.

    Returns:
        Lines, the last one empty. Rows of which nothing is there are left out; the
        report names them at its top.
    """
    heads = ["row", *(column.heading for column in columns)]
    lines = [_line(heads), _line(["---", *["---:"] * len(columns)])]
    notes, leaders = [], {}
    begun = begun_of(findings, scenario, sections)
    for group, rows in begun.items():
        leader = leader_of(findings, scenario, rows) if with_leaders else None
        if leader is not None:
            if any(row.kind != "untrained" for row in rows):
                leaders[group] = leader.row
            notes += [_note(group, leader)] if leader.contenders > 1 else []
        if len(begun) > 1:
            lines.append(_line([f"*{group}*", *[""] * len(columns)]))
        for row in rows:
            key = Key(scenario, row.name)
            texts = [column.text(findings, key) for column in columns]
            cells = [_name(findings, key), *texts]
            if leader and leader.contenders > 1 and row.name == leader.row:
                cells[:2] = [f"**{cell}**" for cell in cells[:2]]
            lines.append(_line(cells))
    notes += _against(findings, scenario, leaders)
    return [*lines, "", *(f"- {note}" for note in notes), *([""] if notes else [])]


class Leader(NamedTuple):
    """The row of a section with the highest mean Dice."""

    row: str
    ties: list[str]  # rows within one of its standard deviations
    contenders: int  # rows that have numbers, itself among them


def leader_of(findings: Findings, scenario: str, rows: Sequence[Row]) -> Leader | None:
    """Find the leader of a section.

    Args:
        findings: All results.
        scenario: Name of a scenario.
        rows: Of the section.

    Returns:
        The leader; None if no row but the upper bound has numbers.
    """
    means: dict[str, Summary] = {}
    for row in rows:
        found = findings.summary(Key(scenario, row.name), DICE)
        if found is not None and row.name != findings.spec.upper_bound:
            means[row.name] = found
    best = best_of(means)
    return None if best is None else Leader(*best, len(means))


def wide_rows(
    findings: Findings, scenario: str, sections: Sections, columns: Sequence[Column]
) -> list[dict[str, Cell]]:
    """Return a table as rows of a CSV file, numbers in full."""
    return [
        {
            "scenario": scenario,
            "table": row.table,
            "group": group,
            "row": row.name,
            "judged": row.model_of,
            "seeds": len(findings.finals.get(Key(scenario, row.name), {})),
            **{
                name: value
                for column in columns
                for name, value in column.numbers(
                    findings, Key(scenario, row.name)
                ).items()
            },
        }
        for group, rows in sections.items()
        for row in rows
    ]


def _rows(spec: StudySpec, scenario: str) -> tuple[Row, ...]:
    (found,) = (one for one in spec.scenarios if one.name == scenario)
    return spec.rows_in(found)


def _grouped(rows: Iterable[Row]) -> Sections:
    sections: Sections = {}
    for row in rows:
        sections.setdefault(row.group, []).append(row)
    return sections


def begun_of(findings: Findings, scenario: str, sections: Sections) -> Sections:
    """Leave out rows without results, and groups of such rows alone."""
    there = {
        group: [row for row in rows if findings.finals.get(Key(scenario, row.name))]
        for group, rows in sections.items()
    }
    return {group: rows for group, rows in there.items() if rows}


def _name(findings: Findings, key: Key) -> str:
    """Return a row's name, with the number of seeds where some are missing."""
    count = len(findings.finals.get(key, {}))
    wanted = len(findings.spec.seeds)
    return key.row if count == wanted else f"{key.row} ({count} of {wanted} seeds)"


def _note(group: str, leader: Leader) -> str:
    near = ", ".join(leader.ties)
    ties = f"; within one sd of it: {near}" if near else ""
    return f"Highest mean Dice of *{group}*: {leader.row}{ties}."


def _against(
    findings: Findings, scenario: str, leaders: Mapping[str, str]
) -> list[str]:
    """Compare the highest of all sections with the highest of each, and pooled."""
    found = {
        name: findings.by_seed(Key(scenario, name), DICE)
        for name in (*leaders.values(), findings.spec.upper_bound)
    }
    means = {name: summarise(list(found[name].values())) for name in leaders.values()}
    best = best_of({name: one for name, one in means.items() if one})
    if best is None:
        return []
    return [
        f"{best[0]} against {name}: "
        f"{difference_text(paired_difference(found[best[0]], other))} points of Dice"
        f"{_by_student(found[best[0]], other)}."
        for name, other in found.items()
        if name != best[0] and other
    ]


def _by_student(
    row: Mapping[int, float | None], reference: Mapping[int, float | None]
) -> str:
    found = student_interval(row, reference)
    if found is None:
        return ""
    low, high = found
    return f"; by Student's t [{100 * low:+.1f}, {100 * high:+.1f}]"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
