"""Every silo's model on every silo's data, where a run measured it."""

from experiments.report.heat_chart import pair_table
from experiments.report.markup import Section, joined, paragraph
from experiments.report.plain_text import as_mapping, as_number
from experiments.report.run import Run


def cross_site_section(run: Run) -> Section | None:
    """Show the matrix; None for a run that did not measure it."""
    values = {
        (owner, site): value
        for owner, row in as_mapping(run.cross_site.get("values")).items()
        for site, raw in as_mapping(row).items()
        if (value := as_number(raw)) is not None
    }
    if not values:
        return None
    names = sorted({name for pair in values for name in pair})
    metric = str(run.cross_site.get("metric", "score"))
    matrix = pair_table(
        names, values, corner="model of ↓ data of →", caption=f"{metric}, each pair"
    )
    note = "Rows: whose model; columns: on whose frames. The diagonal is at home."
    body = joined([paragraph(note, "note"), matrix])
    return Section("cross-site", "Models on each other's data", body)
