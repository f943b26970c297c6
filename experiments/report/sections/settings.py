"""What the run was told, what differs from the default, and with which software."""

from markupsafe import Markup

from experiments.report.markup import (
    EMPTY,
    Cell,
    Section,
    folded,
    joined,
    paragraph,
    table,
)
from experiments.report.plain_text import as_mapping
from experiments.report.run import Run
from experiments.run_config import default_run_config
from server.journal import public_settings
from strategies.settings import SettingValue

NOT_THERE = "no longer a setting"


def settings_section(run: Run) -> Section | None:
    """List settings and versions; None for a run without settings."""
    if not run.settings:
        return None
    defaults = public_settings(default_run_config())
    changed = changed_settings(run)
    if changed:
        rows = [
            [key, Cell(_written(value), "changed"), _written(defaults.get(key))]
            for key, value in changed.items()
        ]
        heads = ["setting", "this run", "default"]
        first = table(heads, rows, caption="Settings that differ from the default")
    else:
        first = paragraph("All settings have their defaults.")
    every = [
        [key, Cell(_written(value), "changed" if key in changed else "")]
        for key, value in run.settings.items()
    ]
    whole = table(["setting", "value"], every, caption="All settings of this run")
    missing = len(defaults.keys() - run.settings.keys())
    note = (
        f"{missing} settings of this version did not exist, or were not written down, "
        "when the run was made."
    )
    body = joined(
        [
            first,
            folded(f"All {len(every)} settings", whole),
            paragraph(note, "note") if missing else EMPTY,
            _versions(run),
        ]
    )
    return Section("settings", "Settings and versions", body)


def changed_settings(run: Run) -> dict[str, SettingValue]:
    """Return the settings of a run that differ from today's defaults.

    Args:
        run: What its folder holds.

    Returns:
        Also those that this version does not know any more.
    """
    defaults = public_settings(default_run_config())
    return {
        key: value
        for key, value in run.settings.items()
        if key not in defaults or value != defaults[key]
    }


def _versions(run: Run) -> Markup:
    versions = as_mapping(run.card.get("versions"))
    if not versions:
        return paragraph("Versions are written down when a run completes.", "note")
    rows = [[name, str(version)] for name, version in versions.items()]
    return table(["software", "version"], rows, caption="Versions")


def _written(value: object) -> str:
    if value is None:
        return NOT_THERE
    if isinstance(value, bool):
        return "true" if value else "false"
    return '""' if value == "" else str(value)
