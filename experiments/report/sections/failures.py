"""Which sites failed when, and why."""

from experiments.report.formats import counted
from experiments.report.markup import Section, joined, paragraph, table
from experiments.report.plain_text import as_list
from experiments.report.run import Run


def failures_section(run: Run) -> Section | None:
    """List failures; None before anything was asked of a site."""
    if not run.phases:
        return None
    rows = [
        [site, str(phase.round), phase.name, reason]
        for phase in run.phases
        for site, reason in phase.failed.items()
    ]
    missing = [str(site) for site in as_list(run.result.get("missing"))]
    parts = []
    if missing:
        text = f"Not in the final test: {', '.join(missing)}."
        parts.append(paragraph(text, "warning"))
    if not rows:
        parts.append(paragraph("No site failed in any phase."))
        return Section("failures", "Failures", joined(parts))
    by_site: dict[str, int] = {}
    for site, *_ in rows:
        by_site[site] = by_site.get(site, 0) + 1
    told = "; ".join(
        f"{site}: {counted(count, 'phase')}" for site, count in sorted(by_site.items())
    )
    parts += [
        paragraph(f"Failed, by site: {told}."),
        table(
            ["site", "round", "phase", "reason"],
            sorted(rows, key=lambda row: row[0]),
            caption="Failures by site",
            style="texts",
        ),
    ]
    return Section("failures", "Failures", joined(parts))
