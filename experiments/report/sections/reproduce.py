"""The command that makes the same run again, and what its model is for."""

import json
import shlex

from markupsafe import Markup

from experiments.report.markup import EMPTY, Section, joined, paragraph, tag
from experiments.report.run import Run
from experiments.report.sections.settings import changed_settings
from experiments.run_config import PATH_LEFT_OUT, default_run_config
from strategies.settings import SettingValue


def reproduce_section(run: Run) -> Section | None:
    """Show the command; None for a run without settings."""
    if not run.settings:
        return None
    parts = [tag("pre", tag("code", " \\\n    ".join(command_of(run))), tabindex="0")]
    if any(word in "".join(command_of(run)) for word in ("FILE", "PATH", "RUN")):
        parts.append(
            paragraph(
                "Run folders keep no paths: put your own in the place of FILE, PATH "
                "and RUN. Sites with frames of their own have to give the same frames.",
                "note",
            )
        )
    parts.append(
        paragraph(
            "With the same version, machine, software and frames the same seed gives "
            "the same weights, bit for bit."
        )
    )
    return Section("reproduce", "How to reproduce it", joined([*parts, _model(run)]))


def command_of(run: Run) -> list[str]:
    """Return the command of a run.

    Args:
        run: What its folder holds.

    Returns:
        The words for a POSIX shell; an option and its value are one entry. Settings
        that this version does not know are left out.
    """
    words = ["endofed simulate"]
    for key, value in changed_settings(run).items():
        if key == "sites":
            words.append("--sites FILE")
        elif key == "resume":
            words.append("--resume RUN")
        elif value == PATH_LEFT_OUT:
            words.append(f"--set {key}=PATH")
        elif key in default_run_config():
            words.append(f"--set {shlex.quote(f'{key}={_as_toml(value)}')}")
    return words


def _as_toml(value: SettingValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    # JSON writes strings as TOML reads them.
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _model(run: Run) -> Markup:
    """Say which file the model is, what it is for and what it is not for."""
    parts = []
    if isinstance(digest := run.card.get("weights-digest"), str):
        text = Markup("Digest of the weights (SHA-256): {}").format(tag("code", digest))
        parts.append(paragraph(text, "note digest"))
    for key, name in (("intended-use", "Intended use"), ("limits", "Limits")):
        if isinstance(text := run.card.get(key), str):
            content = Markup("<strong>{}.</strong> {}").format(name, text)
            parts.append(paragraph(content))
    return joined(parts) if parts else EMPTY
