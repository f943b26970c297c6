"""The report of a study: tables, CSV files and figures, from its results alone.

Everything is a function of the study's file and of the jobs' `job.json` and
`result.json`: rebuilt from the same, every file has the same bytes.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from experiments.study.columns import (
    Cell,
    cost_columns,
    quality_columns,
    transfer_columns,
)
from experiments.study.figures.few_shot import draw_few_shot
from experiments.study.figures.learning import draw_learning
from experiments.study.figures.matrices import draw_matrices
from experiments.study.figures.scores import draw_scores
from experiments.study.figures.traffic import draw_traffic
from experiments.study.findings import Findings, Key
from experiments.study.guide import GUIDE
from experiments.study.jobs import slug
from experiments.study.reading import read_findings
from experiments.study.spec import TABLES, Row, StudySpec
from experiments.study.tables import (
    Sections,
    ablations_of,
    begun_of,
    markdown,
    sections_of,
    wide_rows,
)
from experiments.study.tidy import long_rows, matrices_of, tuning_rows
from server.metric_table import to_csv

TEXT_FILE, LONG_FILE, TUNING_FILE = "README.md", "results.csv", "tuning.csv"
FIGURES = "figures"
FIGURES_OF = {"dice": draw_scores, "learning": draw_learning, "few_shot": draw_few_shot}
FOR_COMPARISON = "for comparison, at equal steps"
COSTS = {"equal-traffic": "cost/bytes", "equal-length": "cost/sequential_steps"}
"""What the rows of a table have in common with the reference."""
SLACK = 1.05
"""Times the reference's cost that counts as no more."""
TABLE_TITLES = {
    "equal-steps": "At equal gradient steps",
    "equal-traffic": "At equal traffic",
    "equal-length": "At equal sequential length",
}


def write_report(
    study_folder: Path, spec: StudySpec, *, target: Path | None = None
) -> list[Path]:
    """Write the report of a study, complete or not.

    Args:
        study_folder: Holds the jobs.
        spec: The study.
        target: Where to write; None = the study's folder. Files of a report that were
            there are replaced, others stay.

    Returns:
        The files that were written; the first is the text.
    """
    folder = study_folder if target is None else target
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    findings = read_findings(study_folder, spec)
    written = [
        _write(folder / LONG_FILE, to_csv(list(long_rows(findings)))),
        _write(folder / TUNING_FILE, to_csv(tuning_rows(findings))),
    ]
    lines = _head(findings)
    for scenario in spec.scenarios:
        part, files = _scenario(findings, scenario.name, folder)
        lines += part
        written += files
    lines += ["## How to read the tables", "", *(f"- {one}" for one in GUIDE), ""]
    lines += _foot(findings)
    return [_write(folder / TEXT_FILE, "\n".join(lines) + "\n"), *written]


def _scenario(
    findings: Findings, scenario: str, folder: Path
) -> tuple[list[str], list[Path]]:
    """Write the files of a scenario; return its text and the files."""
    spec = findings.spec
    lines, written = [f"## {scenario}", ""], []
    for table in TABLES:
        sections = sections_of(spec, scenario, table)
        if not begun_of(findings, scenario, sections):
            continue
        is_finetuned = any(
            spec.shots_of(row) for rows in sections.values() for row in rows
        )
        if table != TABLES[0]:
            sections = {**_comparison(findings, scenario, table), **sections}
        lines += [f"### {TABLE_TITLES[table]}", ""]
        name = f"{slug(scenario)}_{table}"
        part, path = _table(findings, scenario, sections, folder, name)
        lines += part
        written.append(path)
        for kind, draw in FIGURES_OF.items():
            if kind == "few_shot" and not is_finetuned:
                continue
            path = folder / FIGURES / f"{kind}_{name}.png"
            if draw(findings, scenario, sections, path):
                written.append(path)
                lines += [f"![{kind}](figures/{path.name})", ""]
    for group, rows in ablations_of(spec, scenario).items():
        if not begun_of(findings, scenario, {group: rows}):
            continue
        lines += [f"### {group[:1].upper()}{group[1:]}", ""]
        name = f"{slug(scenario)}_{slug(group)}"
        part, path = _table(
            findings, scenario, {group: rows}, folder, name, base=rows[0].name
        )
        lines += part
        written.append(path)
    for draw in (_prices, _matrices):
        part, files = draw(findings, scenario, folder)
        lines += part
        written += files
    return lines, written


def _table(
    findings: Findings,
    scenario: str,
    sections: Sections,
    folder: Path,
    name: str,
    *,
    base: str = "",
) -> tuple[list[str], Path]:
    """Return a table as text, and write it as CSV."""
    quality = quality_columns(findings, scenario, base=base)
    transfer = transfer_columns(findings, scenario)
    cost = cost_columns(findings, scenario)
    lines = markdown(findings, scenario, sections, quality)
    for columns in (transfer, cost):
        if columns:
            lines += markdown(findings, scenario, sections, columns, with_leaders=False)
    rows = wide_rows(findings, scenario, sections, [*quality, *transfer, *cost])
    return lines, _write(folder / f"table_{name}.csv", to_csv(rows))


def _comparison(findings: Findings, scenario: str, table: str) -> Sections:
    """Return the rows of the first table that those of another are read against.

    They are the upper bound, the reference, and all federations that cost no more than
    the reference of what the table holds equal: they are on its terms, too.
    """
    spec = findings.spec
    cost = COSTS[table]
    most = findings.summary(Key(scenario, spec.reference), cost)

    def is_equal(row: Row) -> bool:
        found = findings.summary(Key(scenario, row.name), cost)
        is_model = row.kind == "federation" and row.model_of == "global"
        return bool(is_model and most and found and found.mean <= SLACK * most.mean)

    rows = [
        row
        for section in sections_of(spec, scenario, TABLES[0]).values()
        for row in section
        if row.name in (spec.upper_bound, spec.reference) or is_equal(row)
    ]
    return {FOR_COMPARISON: rows} if rows else {}


def _prices(
    findings: Findings, scenario: str, folder: Path
) -> tuple[list[str], list[Path]]:
    """Return the figure of all tables' rows by traffic, and its text."""
    sections: Sections = {}
    for table in TABLES:
        for group, rows in sections_of(findings.spec, scenario, table).items():
            sections.setdefault(group, []).extend(rows)
    path = folder / FIGURES / f"traffic_{slug(scenario)}.png"
    if not draw_traffic(findings, scenario, sections, path):
        return [], []
    heading = "### Dice against traffic, rows of all tables"
    return [heading, "", f"![traffic](figures/{path.name})", ""], [path]


def _matrices(
    findings: Findings, scenario: str, folder: Path
) -> tuple[list[str], list[Path]]:
    matrices = matrices_of(findings, scenario)
    if not matrices:
        return [], []
    rows: list[dict[str, Cell]] = [
        {"row": row, "model of": owner, "on the frames of": site, "dice": value}
        for row, matrix in matrices.items()
        for owner, sites in matrix.items()
        for site, value in sites.items()
    ]
    name = f"cross_site_{slug(scenario)}"
    written = [_write(folder / f"{name}.csv", to_csv(rows))]
    path = folder / FIGURES / f"{name}.png"
    title = f"Dice of the silos' own models, {scenario}".replace("$", r"\$")
    if draw_matrices(matrices, path, title=title):
        written.append(path)
    lines = [
        "### Every silo's own model on every site's test frames",
        "",
        f"![cross-site matrices](figures/{name}.png)",
        "",
    ]
    return lines, written


def _head(findings: Findings) -> list[str]:
    spec = findings.spec
    seeds = len(spec.seeds)
    wanted = seeds * sum(len(spec.rows_in(one)) for one in spec.scenarios)
    lines = [f"# {spec.title}", ""]
    if not findings.missing:
        lines += [f"All {wanted} runs have results.", ""]
    else:
        lines += [
            f"**Not complete: {findings.missing} of {wanted} runs have no result.** "
            "Means are over the seeds that there are.",
            "",
        ]
    if findings.problems:
        lines += ["Failed or missing:", ""]
        lines += [f"- {problem}" for problem in findings.problems] + [""]
    return lines


def _foot(findings: Findings) -> list[str]:
    spec = findings.spec
    versions: Counter[str] = Counter(
        ", ".join(f"{name} {version}" for name, version in sorted(found.items()))
        for run in findings.runs()
        if isinstance(found := run.result.get("versions"), dict)
    )
    counts = sorted({len(spec.trials_for(row)) for row in spec.rows if row.trials})
    lines = [
        "## How it was made",
        "",
        f"- `endofed study {spec.name}`; these files again from the results: "
        f"`endofed study {spec.name} --report`",
        f"- seeds: {_listed(spec.seeds)}",
        f"- trials a row: {_listed(counts)}, chosen by Dice on the validation frames "
        f"of seed {spec.tune_seed}; all of them in `{TUNING_FILE}`"
        if counts
        else "- no row was tuned",
        *(
            f"- {one.name}: with the trials that were chosen in {one.trials_of}"
            for one in spec.scenarios
            if one.trials_of
        ),
        f"- {_duration(findings.seconds)} of work in all jobs together",
        *(f"- {text} ({count} runs)" for text, count in sorted(versions.items())),
    ]
    if spec.overrides:
        changed = ", ".join(f"{key} = {one}" for key, one in spec.overrides.items())
        lines.append(f"- settings from the command line: {changed}")
    return lines


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes / 60:.1f} hours" if minutes >= 60 else f"{minutes:.0f} minutes"


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _write(path: Path, text: str) -> Path:
    # Whole or not at all.
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
    return path
