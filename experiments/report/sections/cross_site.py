"""Every silo's model on every silo's data, where a run measured it."""

from typing import Any

from experiments.report.formats import number
from experiments.report.heat_chart import pair_table
from experiments.report.markup import Section, joined, paragraph
from experiments.report.plain_text import as_mapping, as_number
from experiments.report.run import Run

ACCUMULATED = "Θ, accumulated"  # the row of the foundation

Values = dict[tuple[str, str], float]


def cross_site_section(run: Run) -> Section | None:
    """Show the matrix; None for a run that did not measure it."""
    values = _values(as_mapping(run.cross_site.get("values")))
    if not values:
        return None
    names = sorted({name for pair in values for name in pair})
    foundation = _values({ACCUMULATED: run.cross_site.get("foundation")})
    metric = str(run.cross_site.get("metric", "score"))
    matrix = pair_table(
        names,
        values | foundation,
        corner="model of ↓ data of →",
        caption=f"{metric}, each pair",
        more_rows=(ACCUMULATED,) if foundation else (),
    )
    note = "Rows: whose model; columns: on whose frames. The diagonal is at home."
    body = joined([paragraph(note + _means(run), "note"), matrix])
    return Section("cross-site", "Models on each other's data", body)


def _values(rows: dict[str, Any]) -> Values:
    return {
        (owner, site): value
        for owner, row in rows.items()
        for site, raw in as_mapping(row).items()
        if (value := as_number(raw)) is not None
    }


def _means(run: Run) -> str:
    summary = as_mapping(run.cross_site.get("summary"))
    home, abroad = (as_number(summary.get(name)) for name in ("home", "abroad"))
    if home is None or abroad is None:
        return ""
    return f" On average {number(home)} at home and {number(abroad)} abroad."
