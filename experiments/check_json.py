"""A checked folder for programs: all that `endofed data check` shows, as JSON."""

from typing import Any

from clients.data.card import build_card
from clients.data.findings import CheckReport, SequenceFindings


def report_content(report: CheckReport) -> dict[str, Any]:
    """Return everything that is shown, and the data card, for a JSON file.

    Args:
        report: Of a folder.

    Returns:
        Keys in kebab-case; what is not known is None. Pseudonyms are in it: unlike the
        card alone, it stays at the site.
    """
    return {
        "card": build_card(report),
        "sequences": [_sequence_content(one) for one in report.sequences],
        "problems": [
            {
                "severity": str(problem.severity),
                "what": problem.what,
                "sequence": problem.sequence or None,
                "frame": problem.frame,
            }
            for problem in report.problems
        ],
    }


def _sequence_content(sequence: SequenceFindings) -> dict[str, Any]:
    facts = sequence.facts
    return {
        "id": sequence.id,
        "patient": sequence.patient,
        "frames": sequence.frames,
        "frames-damaged": sequence.damaged,
        "frames-labelled": sequence.labelled,
        "sizes-px": [
            {"height": height, "width": width, "frames": count}
            for (height, width), count in sequence.sizes.items()
        ],
        "bits": facts.bits,
        "modality": facts.modality or None,
        "spacing-mm": facts.spacing_mm,
        "spacing-origin": facts.spacing_origin or None,
        "frame-time-ms": facts.frame_time_ms,
        "burned-in-text": facts.burned_in,
        "frames-drawn": dict(sequence.drawn),
        "foreground-share": sequence.foreground,
        "device-polarity": sequence.polarity or None,
        "device-score": sequence.score,
    }
