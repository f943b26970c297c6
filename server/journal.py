"""The run folder: where a federation writes down what it did, while it does it.

`metrics.jsonl` is the one record of a run: one JSON object a line, written whole and
flushed before training goes on. The live display, the figures and MLflow are made
from the same records, so a run that dies keeps every number it had computed. The
keys of the events stand in `server/records.py`.

This module knows nothing of Flower, of weights or of images. It does not hold a lock:
two servers must not be given the same folder.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from numbers import Integral, Real
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal

from server.records import PhaseRecord, ResultRecord, RoundRecord, SettingValue

SUBFOLDERS = ("checkpoints", "figures", "mlartifacts", "flower")
EVENTS_FILE = "metrics.jsonl"
SETTINGS_FILE = "settings.json"
SITES_FILE = "sites.json"
RESULT_FILE = "result.json"
AUDIT_FILE = "audit.jsonl"
TEST_TABLE_CSV = "test_metrics.csv"
TEST_TABLE_JSON = "test_metrics.json"


class RunFolderError(ValueError):
    """The run folder cannot be used; the message says what to do."""


class Journal:
    """An open run folder.

    Args:
        folder: Absolute path of a folder made by `create`.
        clock: Gives the Unix time in seconds that events carry.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        """Open a run folder that exists."""
        self.folder = folder
        self._clock = clock

    @classmethod
    def create(
        cls, output: str, settings: Mapping[str, SettingValue], now: datetime
    ) -> "Journal":
        """Make a run folder and write its settings.

        Args:
            output: Absolute path, or "" for a new folder in `~/endofed-runs`.
            settings: The flat run config, dotted kebab-case keys.
            now: Names a new folder, such as `20261121-130501-fedefm`.

        Returns:
            The journal of the new run.

        Raises:
            RunFolderError: If the path is relative, holds a run already or cannot
                be written.
        """
        try:
            folder = _new_folder(settings, now) if not output else _checked(output)
            folder.mkdir(parents=True, exist_ok=bool(output))
            for name in SUBFOLDERS:
                (folder / name).mkdir(exist_ok=True)
            write_json(folder / SETTINGS_FILE, public_settings(settings))
        except (OSError, RuntimeError) as error:
            # The cause carries the path of this machine: leave it behind.
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise RunFolderError(
                f"The run folder cannot be made or written on the server ({reason}). "
                "Set output to an absolute path where the server may write."
            ) from None
        return cls(folder)

    @property
    def events_path(self) -> Path:
        """Path of `metrics.jsonl`."""
        return self.folder / EVENTS_FILE

    def started(self, strategy: str, num_rounds: int, sites: tuple[str, ...]) -> None:
        """Record that all sites are there and training begins."""
        self._append(
            {
                "event": "start",
                "strategy": strategy,
                "num_rounds": num_rounds,
                "sites": sites,
            }
        )

    def phase(self, record: PhaseRecord) -> None:
        """Record the end of a phase."""
        self._append(record.to_event())

    def round(self, record: RoundRecord) -> None:
        """Record the end of a round."""
        self._append(record.to_event())

    def tracking_failed(self) -> None:
        """Record that MLflow stopped taking numbers; the run goes on without it."""
        self._append({"event": "tracking", "tracking": "failed"})

    def ended(self, status: Literal["completed", "failed"], reason: str = "") -> None:
        """Record the end of the run."""
        self._append({"event": "end", "status": status, "reason": reason})

    def result(self, record: ResultRecord) -> None:
        """Write `result.json`."""
        self.write_json(RESULT_FILE, record.to_json())

    def write_json(self, name: str, content: Mapping[str, Any]) -> Path:
        """Write one JSON file of the run folder, whole or not at all.

        Args:
            name: Plain file name, such as `sites.json`.
            content: What to write; NaN and infinity become null.

        Returns:
            Path of the file.

        Raises:
            ValueError: If the name would leave the run folder.
        """
        return write_json(self._place(name), content)

    def write_text(self, name: str, text: str) -> Path:
        """Write one text file of the run folder, whole or not at all.

        Args:
            name: Plain file name, such as `test_metrics.csv`.
            text: What to write, without paths of this machine.

        Returns:
            Path of the file.

        Raises:
            ValueError: If the name would leave the run folder.
        """
        return _write_whole(self._place(name), text)

    def _place(self, name: str) -> Path:
        if Path(name).name != name:
            raise ValueError("A file of the run folder has a plain name, got a path.")
        return self.folder / name

    def _append(self, event: Mapping[str, Any]) -> None:
        stamped = {"event": event["event"], "time": self._clock(), **event}
        append_line(self.events_path, to_json_line(stamped))


def public_settings(settings: Mapping[str, SettingValue]) -> dict[str, SettingValue]:
    """Return the settings of a run without the paths of a machine.

    Args:
        settings: The flat run config.

    Returns:
        All settings but "output", sorted; "sites" and every other absolute path
        only as "custom", no sites file as "default".
    """
    public = {key: settings[key] for key in sorted(settings) if key != "output"}
    for key, value in public.items():
        if isinstance(value, str) and _is_path(value):
            public[key] = "custom"
    if "sites" in public:
        public["sites"] = "custom" if public["sites"] else "default"
    return public


def read_events(path: Path) -> list[dict[str, Any]]:
    """Read the events of a run, also while it is being written.

    Args:
        path: `metrics.jsonl`.

    Returns:
        The events in order; none if there is no file yet. A last line that is only
        half written is left out.

    Raises:
        ValueError: If a line before the last is not JSON.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    events = []
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                events.append(json.loads(line))
        except ValueError:
            if number == len(lines):
                break  # being written right now, or cut by a crash
            raise ValueError(
                f"Line {number} of {EVENTS_FILE} is not JSON: the file was changed "
                "after it was written. Restore it from a copy."
            ) from None
    return events


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write a JSON file through a temporary neighbour, so that none is ever half.

    Args:
        path: File to write or replace.
        content: NaN and infinity become null.

    Returns:
        The path.
    """
    text = json.dumps(to_jsonable(content), indent=2, ensure_ascii=False)
    return _write_whole(path, text + "\n")


def _write_whole(path: Path, text: str) -> Path:
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    return temporary.replace(path)


def append_line(path: Path, line: str) -> None:
    """Add a line to a file and force it to the disk.

    Args:
        path: File to grow; made if missing.
        line: Text without a line break.
    """
    with path.open("ab") as stream:
        stream.write(line.encode("utf-8") + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def to_json_line(content: Mapping[str, Any]) -> str:
    """Return an object as one line of strict JSON; NaN and infinity become null."""
    return json.dumps(to_jsonable(content), ensure_ascii=False, allow_nan=False)


def to_jsonable(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a value as plain JSON types, with null for NaN and infinity.

    Raises:
        TypeError: If it is no mapping, list, number, string, truth value or None.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_jsonable(inner) for inner in value]
    raise TypeError(f"Cannot write a {type(value).__name__} as JSON.")


def _new_folder(settings: Mapping[str, SettingValue], now: datetime) -> Path:
    """Return a free path in the home of the server."""
    strategy = settings.get("strategy", "run")
    base = Path.home() / "endofed-runs" / f"{now:%Y%m%d-%H%M%S}-{strategy}"
    folder, count = base, 1
    while folder.exists():  # two runs may start within a second
        count += 1
        folder = base.with_name(f"{base.name}-{count}")
    return folder


def _checked(output: str) -> Path:
    folder = Path(output)
    if not folder.is_absolute():
        raise RunFolderError(
            "output is a relative path, but the server runs elsewhere: give an "
            'absolute path, or "" for a new folder in ~/endofed-runs.'
        )
    for name in (RESULT_FILE, EVENTS_FILE):
        if (folder / name).exists():
            raise RunFolderError(
                f"The run folder already holds {name}, and nothing already computed "
                'is overwritten. Set output to another folder, or to "" for a new one.'
            )
    return folder


def _is_path(text: str) -> bool:
    return PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
