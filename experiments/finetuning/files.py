"""The files of a few-shot study: written whole, after every run, and read to go on.

`results.json` is the record; tables and curves are made from it. A study that was
interrupted keeps every run that had ended.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.finetuning.fewshot import (
    FinetuneError,
    FinetuneResult,
    FinetuneSettings,
)
from experiments.finetuning.finetuned import FINETUNED_FILE
from experiments.finetuning.report import budget_notes, gains_of, task_of
from experiments.finetuning.tables import (
    TEST,
    curves_csv,
    kebab,
    markdown_of,
    run_entry,
    runs_csv,
    summary_csv,
    summary_of,
)
from server.checkpoints import installed_versions
from server.journal import write_json

FORMAT = 1
MODELS = "models"  # folder of the networks that were kept
RESULTS_FILE = "results.json"
RUNS_FILE = "fewshot.csv"
TABLE_FILE = "fewshot.md"
SUMMARY_FILE = "fewshot_summary.csv"
CURVES_FILE = "learning_curves.csv"
LISTS = ("shots", "seeds", "starts", "methods")
"""Settings that may grow from one call to the next: their runs are independent."""
PROTOCOL = (
    "Shots are drawn by seed from the training part's frames that show a device; fewer "
    "shots are the first of more, 'all' takes every labelled frame. All starts and "
    "methods get the same shots, batches, augmentation, steps and learning rate; "
    "encoder weights that were learnt before change more slowly by the scale. The step "
    "with the best validation score is chosen, step 0 included, and measured once on "
    "the test frames; a run stops when validation has not improved for `patience` "
    "looks. The three parts share no patient, unless 'patients-in-two-parts' says so. "
    "Dice and clDice are pooled over test frames and classes. Intervals: Student's t "
    "over seeds, 95 %."
)


def identity_of(
    settings: FinetuneSettings, source: Mapping[str, Any], data_digest: str
) -> dict[str, Any]:
    """Return what must agree for runs to belong to one study.

    Args:
        settings: Of the study.
        source: Of the model; see `source_facts`.
        data_digest: Of the parts.

    Returns:
        Plain JSON.
    """
    own = {name: one for name, one in asdict(settings).items() if name not in LISTS}
    return {"settings": kebab(own), "source": dict(source), "data-digest": data_digest}


def read_results(folder: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Read what an earlier call has left.

    Args:
        folder: Of the study.
        identity: Of this call.

    Returns:
        The content of `results.json`, {} if there is none.

    Raises:
        FinetuneError: If it is of another study or unreadable.
    """
    path = folder / RESULTS_FILE
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        earlier = content["identity"]
        known = content["format"] == FORMAT
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise FinetuneError(
            f"The output folder holds a {RESULTS_FILE} that this version cannot read. "
            "Name another folder with --output."
        )
    wanted = json.loads(json.dumps(identity))
    differing = [name for name in wanted if wanted[name] != earlier.get(name)]
    if "settings" in differing:
        mine, theirs = wanted["settings"], earlier.get("settings", {})
        differing.remove("settings")
        differing += [key for key in mine if mine[key] != theirs.get(key)]
    if differing:
        raise FinetuneError(
            "The output folder holds a study that differs in "
            f"{', '.join(differing)}; nothing already computed is overwritten. Name "
            "another folder with --output, or use the same settings to go on."
        )
    return content


def best_model(folder: Path) -> Path | None:
    """Return the network of a study that was best on validation, if one was kept.

    Args:
        folder: Of the study.

    Returns:
        Path of its weights.
    """
    content = json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))
    name = content["best-model"]
    path = folder / MODELS / name / FINETUNED_FILE
    return path if name and path.is_file() else None


def results_of(content: Mapping[str, Any]) -> list[FinetuneResult]:
    """Return the runs of a `results.json`.

    Args:
        content: Of `read_results`.

    Returns:
        In the order in which they stand there.
    """
    return [
        FinetuneResult(
            shots=0 if run["shots"] == "all" else run["shots"],
            start=run["start"],
            seed=run["seed"],
            chosen_step=run["chosen-step"],
            validation_at_start=_number(run["validation-at-start"]),
            validation=_number(run["validation"]),
            scores={
                name.removeprefix(TEST): _number(value)
                for name, value in run.items()
                if name.startswith(TEST) and name != "test-frames"
            },
            test_frames=run["test-frames"],
            method=run["method"],
            steps=run["steps"],
            curve=tuple(
                {name: _number(value) for name, value in point.items()}
                for point in run["curve"]
            ),
        )
        for run in content.get("runs", [])
    ]


def write_results(
    folder: Path,
    results: Sequence[FinetuneResult],
    *,
    identity: Mapping[str, Any],
    data: Mapping[str, Any],
    best_model: str = "",
    transfer: str = "",
) -> None:
    """Write the record and the tables; each file whole or not at all.

    Args:
        folder: Made if it is missing.
        results: All runs so far, at least one, in the order to write them.
        identity: Of `identity_of`.
        data: What may be told of the frames.
        best_model: Name of the task whose network was kept; "" = none.
        transfer: What another network took over.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "format": FORMAT,
        "protocol": PROTOCOL,
        "task": task_of(results),
        "identity": identity,
        "settings": {"domain": data["domain"]} if "domain" in data else {},
        "data": data,
        "transfer": transfer,
        "best-model": best_model,
        "runs": [run_entry(one) for one in results],
        "summary": summary_of(results),
        "gains": [kebab(asdict(gain)) for gain in gains_of(results)],
        "verdict": [
            *(gain.verdict() for gain in gains_of(results)),
            *budget_notes(results),
        ],
        "versions": installed_versions(),
    }
    _write_text(folder / RUNS_FILE, runs_csv(results))
    _write_text(folder / SUMMARY_FILE, summary_csv(results))
    _write_text(folder / CURVES_FILE, curves_csv(results))
    _write_text(folder / TABLE_FILE, markdown_of(results))
    write_json(folder / RESULTS_FILE, content)  # last: it says that a run is done


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
