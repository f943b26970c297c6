"""The data card: what a site may tell others about its data.

Numbers and digests only. No pseudonym, no name of a file, no date, no number out of a
header: a card can leave the site.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from clients.data.catalogue import FolderSpec
from clients.data.findings import CheckReport

SCHEMA = "endofed-data-card"
SCHEMA_VERSION = 1


def build_card(report: CheckReport) -> dict[str, Any]:
    """Sum up a checked folder.

    Args:
        report: Of `clients.data.check.check_catalogue`.

    Returns:
        Content for a JSON file, keys in kebab-case; what is not known is None. The
        digest and all counts stay the same when files are renamed.
    """
    classes = report.spec.labels.classes
    return {
        "schema": SCHEMA,
        "schema-version": SCHEMA_VERSION,
        "endofed-version": _installed_version(),
        "digest-sha256": report.digest,
        "patients": report.num_patients,
        "sequences": len(report.sequences),
        "frames": report.count("frames"),
        "frames-damaged": report.count("damaged"),
        "frames-labelled": report.count("labelled"),
        "classes": {name: _class_card(report, name) for name in classes},
        "sizes-px": [
            {"height": height, "width": width, "frames": count}
            for (height, width), count in report.sizes.items()
        ],
        "bits": report.known("bits"),
        "modalities": report.known("modality"),
        "spacing-mm": _range(report, "spacing_mm"),
        "frame-time-ms": _range(report, "frame_time_ms"),
        "device-polarity": {
            "measured": report.polarity or None,
            "score": _rounded(report.score),
            "declared": report.spec.device_polarity,
        },
        "declared": _declared(report.spec),
        "problems": {"errors": len(report.errors), "warnings": len(report.warnings)},
    }


def _declared(spec: FolderSpec) -> dict[str, Any]:
    return {
        "layout": spec.layout,
        "classes": list(spec.labels.classes),
        "line-width": spec.labels.line_width,
        "line-unit": spec.labels.line_unit,
        "min-patients": spec.min_patients,
        "skip-damaged": spec.skip_damaged,
    }


def _class_card(report: CheckReport, name: str) -> dict[str, Any]:
    drawn = report.drawn[name]
    return {
        "frames-drawn": drawn,
        "frames-empty": report.count("labelled") - drawn,
        "foreground-share": _rounded(report.foreground.get(name)),
    }


def _range(report: CheckReport, name: str) -> dict[str, float | int | None]:
    values = report.known(name)
    known = sum(getattr(one.facts, name) is not None for one in report.sequences)
    return {
        "lowest": _rounded(values[0]) if values else None,
        "highest": _rounded(values[-1]) if values else None,
        "sequences-known": known,
    }


def _rounded(value: float | None) -> float | None:
    """Keep six digits, which is more than anything here is measured to."""
    return None if value is None else float(f"{value:.6g}")


def _installed_version() -> str | None:
    try:
        return version("endofed")
    except PackageNotFoundError:  # a hospital receives the folders, not the package
        return None
