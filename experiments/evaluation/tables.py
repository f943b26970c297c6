"""What an evaluation found, on one screen: overall, per site, per sequence, compared.

Wide tables are printed wide: a cut number is worse than a long line.
"""

import math
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from experiments.evaluation.comparison import Comparison
from experiments.evaluation.intervals import FEW_UNITS
from experiments.evaluation.summary import (
    DEVICE_IMAGE,
    FALSE_ALARMS,
    FRAMES,
    IMAGE,
    MISSED,
    OVERALL,
    POOLED,
    SEQUENCE,
    SITE,
    SummaryRow,
)

NOTHING = "–"
MIN_WIDTH = 110
MAX_SEQUENCES = 20
SHOWN = (
    (POOLED, ("dice", "iou", "precision", "recall", "auc")),
    (IMAGE, ("dice", "cldice")),
    (
        DEVICE_IMAGE,
        ("dice", "cldice", "centreline-f1-2px", "nsd-2px", "hd95-px", "hd95-mm",
         "assd-px", "assd-mm", "breaks", "tip-error-px", "tip-error-mm", "pck-5px"),
    ),
    (FRAMES, (MISSED, FALSE_ALARMS)),
)  # fmt: skip
CONVENTIONS = (
    "Only valid pixels count (not behind a collimator, not in padding). pooled: pixels "
    "of all frames are added and divided once. image: mean over frames. device-image: "
    "mean over frames with a labelled device. Label and prediction both empty: "
    "overlap 1; one of them empty: overlap 0, and no distance. Where a metric is not "
    f"defined a frame is left out of its mean and counted as excluded; {NOTHING} = no "
    "frame counts."
)


def width_for(tables: Sequence[Table]) -> int:
    """Return the width that no table is cut at, characters."""
    endless = Console(width=1000)
    needed = [endless.measure(table).maximum for table in tables]
    return max(MIN_WIDTH, Console().width, *needed)


def overall_table(rows: Sequence[SummaryRow], models: Sequence[str]) -> Table:
    """Lay out the numbers over all frames.

    Args:
        rows: Of all models.
        models: In the order of columns.

    Returns:
        A row for every class, averaging and metric of SHOWN.
    """
    table = Table(
        title="Evaluation, all frames", caption=CONVENTIONS, caption_justify="left",
        box=box.SIMPLE_HEAD,
    )  # fmt: skip
    for name in ("class", "averaged", "metric"):
        table.add_column(name, no_wrap=True)
    for model in models:
        table.add_column(f"{model} [95 % interval]", justify="right", no_wrap=True)
    table.add_column("frames used / excluded", justify="right", no_wrap=True)
    found = {
        (one.class_name, one.averaging, one.metric, one.model): one
        for one in rows
        if one.scope == OVERALL
    }
    classes = list(dict.fromkeys(one[0] for one in found))
    for class_name in classes:
        for averaging, metrics in SHOWN:
            for metric in metrics:
                cells = [
                    found[class_name, averaging, metric, model] for model in models
                ]
                table.add_row(
                    class_name, averaging, metric,
                    *(estimate_text(one) for one in cells),
                    _frames_text(cells),
                    end_section=(averaging, metric) == (FRAMES, FALSE_ALARMS),
                )  # fmt: skip
    return table


def scope_table(
    rows: Sequence[SummaryRow], models: Sequence[str], scope: str
) -> Table | None:
    """Lay out Dice and clDice of sites or sequences.

    Args:
        rows: Of all models.
        models: In the order of columns.
        scope: SITE or SEQUENCE.

    Returns:
        A row for every site or sequence and class, of sequences the worst of the
        first model; None without any.
    """
    kept = {
        (one.site, one.sequence, one.class_name, one.metric, one.model): one
        for one in rows
        if (one.scope, one.averaging) == (scope, DEVICE_IMAGE)
    }
    keys = list(dict.fromkeys(key[:3] for key in kept))
    if not keys:
        return None
    title = "Per site" if scope == SITE else "Per sequence, worst first"
    if scope == SEQUENCE:
        keys.sort(key=lambda key: _sortable(kept[*key, "dice", models[0]].value))
    left_out = max(len(keys) - MAX_SEQUENCES, 0) if scope == SEQUENCE else 0
    table = Table(
        title=f"{title} (mean over frames with a device)",
        caption=f"{left_out} more in summary.csv." if left_out else None,
        box=box.SIMPLE_HEAD,
    )
    for name in ("site", *(["sequence"] if scope == SEQUENCE else []), "class"):
        table.add_column(name, no_wrap=True)
    table.add_column("frames", justify="right")
    for model in models:
        for metric in ("Dice", "clDice"):
            table.add_column(f"{model} {metric}", justify="right", no_wrap=True)
    for key in keys[: len(keys) - left_out]:
        first = kept[*key, "dice", models[0]]
        names = [key[0], *([key[1]] if scope == SEQUENCE else []), key[2]]
        values = [
            estimate_text(kept[*key, metric, model])
            for model in models
            for metric in ("dice", "cldice")
        ]
        table.add_row(*names, str(first.used + first.excluded), *values)
    return table


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Lay out the comparisons that were named before looking, and pooled Dice.

    Args:
        comparisons: Of all pairs.

    Returns:
        A row for each.
    """
    table = Table(
        title="Paired differences on the same frames (second - first)",
        caption="Interval: bootstrap over patients. p: Wilcoxon signed-rank on the "
        "means of patients; Holm: corrected for all main comparisons (those with a p "
        "here). Without a prediction, a distance is the diagonal of the frame. All "
        "metrics are in comparison.csv.",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for name in ("models", "class", "averaged", "metric"):
        table.add_column(name, no_wrap=True)
    for name in ("difference [95 %]", "p", "Holm", "patients"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for one in comparisons:
        if one.is_main or (one.averaging, one.metric) == (POOLED, "dice"):
            table.add_row(
                f"{one.second} - {one.first}",
                one.class_name,
                one.averaging,
                one.metric,
                _interval_text(one.difference, one.low, one.high, signed=True),
                _p_text(one.p),
                _p_text(one.p_holm),
                str(one.patients),
                one.verdict,
            )
    return table


def interval_note(num_patients: int, resamples: int, *, known: bool) -> str:
    """Say what the intervals rest on.

    Args:
        num_patients: That were resampled.
        resamples: How many.
        known: False = sequences stood for patients.

    Returns:
        One or two sentences.
    """
    what = "patients" if known else "sequences (patients are not known)"
    if num_patients < 2:
        return f"No intervals: resampling needs at least two {what}, there is one."
    text = (
        f"95 % intervals: expanded percentiles of {resamples} bootstrap resamples of "
        f"{num_patients} {what}, not of frames."
    )
    if num_patients < FEW_UNITS:
        text += f" With fewer than {FEW_UNITS} they are too narrow, whatever is done."
    return text


def estimate_text(one: SummaryRow) -> str:
    """Return a value with its interval, such as "0.812 [0.790, 0.830]"."""
    if one.averaging == FRAMES:
        return str(int(one.value))
    return _interval_text(one.value, one.low, one.high)


def _interval_text(
    value: float, low: float, high: float, *, signed: bool = False
) -> str:
    if math.isnan(value):
        return NOTHING
    form = "{:+.3f}" if signed else "{:.3f}"
    text = form.format(value)
    if math.isnan(low):
        return text
    # A bracket at the start of a word would be Rich markup if it held letters only.
    return f"{text} [{form.format(low)}, {form.format(high)}]"


def _frames_text(cells: Sequence[SummaryRow]) -> str:
    texts: Mapping[str, None] = dict.fromkeys(
        f"{one.used} / {one.excluded}" for one in cells
    )
    return "; ".join(texts)


def _p_text(p: float) -> str:
    if math.isnan(p):
        return NOTHING
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _sortable(value: float) -> float:
    return math.inf if math.isnan(value) else value
