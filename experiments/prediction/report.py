"""What a prediction says at its end: how long it took, what became of every input."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from experiments.model_source import ModelSource
from experiments.prediction.outputs import OutputChoice
from experiments.prediction.runner import InputReport, PredictOptions
from experiments.prediction.stream import StreamReport
from experiments.prediction.timing import Spread, StageTimes
from models.classes import CLASS_NAMES

SUMMARY_FORMAT = 1


def times_table(times: StageTimes) -> Table:
    """Show where the time went.

    Args:
        times: Of all frames.

    Returns:
        Median and 95th percentile of every stage.
    """
    table = Table(
        title=f"Milliseconds a frame, {times.num_frames} frames",
        caption="Of a batch every frame has an equal share. The first batch counts, "
        "too. Putting back on the original pixels belongs to write.",
        box=box.SIMPLE_HEAD,
        min_width=60,
    )
    table.add_column("stage")
    for heading in ("median", "p95"):
        table.add_column(heading, justify="right")
    for stage, spread in times.spreads().items():
        table.add_row(stage, *(f"{value:.1f}" for value in spread))
    return table


def stream_lines(report: StreamReport) -> list[str]:
    """Say how well a stream was kept up with.

    Args:
        report: Of the stream.

    Returns:
        Lines for the user.
    """
    predicted = len(report.latencies_s)
    lines = [
        f"Frames received: {report.received}, predicted: {predicted}, dropped: "
        f"{report.dropped}"
    ]
    found = report.percentiles_ms()
    if found:
        words = ", ".join(f"{name} {value:.1f}" for name, value in found.items())
        lines.append(f"Latency from arrival to prediction, ms: {words}")
    return lines


def stream_content(report: StreamReport) -> dict[str, Any]:
    """Return the report of a stream for a file of JSON.

    Args:
        report: Of the stream.

    Returns:
        Its numbers.
    """
    return {
        "received": report.received,
        "predicted": len(report.latencies_s),
        "dropped": report.dropped,
        "latency-ms": report.percentiles_ms(),
        "ended-early": report.failure or None,
    }


def summary_content(
    reports: Sequence[InputReport],
    times: StageTimes,
    output: OutputChoice,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the content of `predictions.json`; it names no file of the user.

    Args:
        reports: Of all inputs.
        times: Of all frames.
        output: What was written.
        about: The model and how it was used.

    Returns:
        The content.
    """
    return {
        "format": SUMMARY_FORMAT,
        "classes": list(CLASS_NAMES),
        "written": sorted(output.kinds),
        **about,
        "inputs": [_input_content(one) for one in reports],
        "frames": times.num_frames,
        "milliseconds-per-frame": {
            stage: _spread_content(spread) for stage, spread in times.spreads().items()
        },
    }


def about_content(
    source: ModelSource, options: PredictOptions, device: str, precision: str
) -> dict[str, Any]:
    """Return what `predictions.json` says of the model and how it was used.

    Args:
        source: The model.
        options: How inputs were predicted.
        device: Where.
        precision: One of `PRECISIONS`.

    Returns:
        The content; of a classifier also its labels.
    """
    content = {
        "model": {
            "kind": source.kind,
            "name": source.recipe.name,
            "image-size": source.recipe.image_size,
            "weights-digest": source.card.get("weights-digest"),
        },
        "threshold": options.threshold,
        "frame-size": options.settings.frame_size,
        "inverted": options.inverted,
        "device": device,
        "precision": precision,
    }
    if source.labels:
        content |= {"classes": list(source.labels), "written": ["classes"]}
    return content


def _input_content(one: InputReport) -> dict[str, Any]:
    facts = one.facts
    return {
        "number": one.number,
        "status": "failed" if one.problem else "done",
        "problem": one.problem or None,
        "folder": one.folder or None,
        "notes": list(one.notes),
        "frames": facts and facts.num_frames,
        "height-px": facts and facts.height,
        "width-px": facts and facts.width,
        "spacing-mm": facts and facts.spacing_mm,
        "spacing-origin": (facts and facts.spacing_origin) or None,
    }


def _spread_content(spread: Spread) -> dict[str, float]:
    return {"median": spread.median_ms, "p95": spread.p95_ms}
