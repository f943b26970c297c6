"""Every metric of the test, by class and site."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from experiments.report.formats import MISSING, short
from experiments.report.markup import (
    Section,
    Text,
    folded,
    joined,
    paragraph,
    table,
    tag,
)
from experiments.report.plain_text import as_number
from experiments.report.run import Run

MEANS = {
    "device-image": "mean over the frames that show the device",
    "image": "mean over all frames where the class is annotated",
    "pooled": "pooled: pixels of all frames summed first",
}
MAIN = {  # metric, and which of its means
    "Dice": ("dice", "pooled"),
    "clDice": ("cldice", "pooled"),
    "IoU": ("iou", "pooled"),
    "HD95 px": ("hd95-px", "device-image"),
    "ASSD px": ("assd-px", "device-image"),
    "breaks": ("breaks", "device-image"),
    "tip error px": ("tip-error-px", "device-image"),
    "AUC": ("auc", "pooled"),
}

Row = dict[str, Any]


def test_section(run: Run) -> Section | None:
    """Show the table of the test; None where there is none."""
    rows = [row for row in run.test_rows if isinstance(row.get("metric"), str)]
    if not rows:
        return None
    sites = list(dict.fromkeys(str(row.get("hospital", "")) for row in rows))
    classes = sorted(
        {key.partition(".")[0] for row in rows for key in row if "." in key}
    )
    parts = [
        paragraph(
            "Dice, clDice, IoU and AUC are pooled over frames; distances, breaks and "
            "tip error are means over the frames that show the device.",
            "note",
        ),
        *(_main(rows, sites, label) for label in classes),
    ]
    for label in classes:
        parts += [
            folded(f"All metrics of {label}: {text}", _whole(rows, sites, label, mean))
            for mean, text in MEANS.items()
        ]
    return Section("test", "Test, all metrics", joined(parts))


def _main(rows: Sequence[Row], sites: Sequence[str], label: str) -> Markup:
    found = {(row.get("hospital"), row["metric"]): row for row in rows}
    body = []
    for site in sites:
        cells: list[Text] = [site]
        for metric, mean in MAIN.values():
            row = found.get((site, metric), {})
            cells.append(short(as_number(row.get(f"{label}.{mean}"))))
        body.append(cells)
    return table(["site", *MAIN], body, caption=f"{label.capitalize()}, test frames")


def _whole(rows: Sequence[Row], sites: Sequence[str], label: str, mean: str) -> Markup:
    found = {(row.get("hospital"), row["metric"]): row for row in rows}
    body = []
    for metric in dict.fromkeys(row["metric"] for row in rows):
        cells: list[Text] = [metric]
        cells += [
            _value(found.get((site, metric), {}), f"{label}.{mean}") for site in sites
        ]
        if any(cell != MISSING for cell in cells[1:]):
            body.append(cells)
    caption = f"{label.capitalize()}, {MEANS[mean]}; small: frames in the mean"
    return table(["metric", *sites], body, caption=caption)


def _value(row: Row, column: str) -> Text:
    """Write a value; with the frames in its mean where some had none."""
    value = as_number(row.get(column))
    if value is None:
        return MISSING
    used = as_number(row.get(f"{column}.used"))
    excluded = as_number(row.get(f"{column}.excluded"))
    if used is None or not excluded:
        return short(value)
    of = f" {used:.0f} of {used + excluded:.0f}"
    return Markup("{}{}").format(short(value), tag("small", of))
