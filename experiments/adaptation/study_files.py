"""What a study leaves in its folder: numbers, tables, pictures, and the adapted model.

Written after every variant and seed, each file whole or not at all. `results.json` is
the record; nothing in it names a file, a folder or a patient. Pictures and masks of a
folder's frames show patients and stay where the folder is.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from experiments.adaptation.curves import (
    check_shape,
    draw_learning_curves,
    mean_curve,
)
from experiments.adaptation.differences import paired_differences
from experiments.adaptation.pictures import draw_adaptation, draw_cleaning
from experiments.adaptation.plan import StudyPlan
from experiments.adaptation.row_titles import row_title
from experiments.adaptation.rows import Rows
from experiments.adaptation.stages import Pipeline
from experiments.adaptation.study import Findings, Opened, StudyRequest
from experiments.adaptation.style_sheet import draw_style_sheet
from experiments.adaptation.tables import AdaptationTable
from experiments.finetuning.checks import source_facts
from experiments.finetuning.finetuned import save_finetuned
from experiments.model_source import ModelSource
from server.checkpoints import installed_versions
from server.journal import write_json

FORMAT = 1
RESULTS_FILE = "results.json"
STUDY_FILE = "study.json"
FIGURES = "figures"
MODEL = "model"
SHOWN_ROWS = ("direct", "pseudo", "ours", "real")
TITLES = {
    "test": "Test frames of the target",
    "adaptation": "Frames of the target that were adapted to",
}
BASELINES = (("ours", "direct"), ("ours", "pseudo"), ("pseudo", "direct"))
PROTOCOL = (
    "Labels come from the source only; masks of the target are for scores, and train "
    "the row 'real' alone. Adaptation and test frames share no patient or sequence. "
    "Prompts come from the cleaned masks of the coarse network, also on test frames. "
    "Every row that trains has the budget of the fine stage and the network of its "
    "last epoch is measured: nothing is chosen by a score. TENT and TRIBE see the "
    "adaptation frames first and go on adapting on the test frames. Images reach SAM "
    "with its own mean and deviation, unlike in the released code. Clusters of "
    "pseudo-labels are cleaned by our parameters: the paper gives none."
)


def public_study(plan: StudyPlan) -> dict[str, Any]:
    """Return a plan as a study file has it, without paths.

    Args:
        plan: Of the study.

    Returns:
        Tables that `plan_of` reads; a model that is a file has to be named again.
    """
    study = {
        name.replace("_", "-"): list(value) if isinstance(value, tuple) else value
        for name, value in vars(plan).items()
        if name not in ("variants", "model")
    }
    if plan.model == "random" or plan.model.startswith("models:/"):
        study["model"] = plan.model
    variants = [
        {
            "name": one.name,
            "rows": list(one.rows),
            "frames": one.frames,
            "labels-from": one.labels_from,
            "adapt": {
                name.replace("_", "-"): value
                for name, value in asdict(one.settings).items()
            },
        }
        for one in plan.variants
    ]
    return {"study": study, "variant": variants}


def tables_of(findings: Findings) -> dict[str, AdaptationTable]:
    """Return the tables that there are numbers for, by the part of the frames."""
    return {
        part: AdaptationTable(TITLES[part], tuple(runs))
        for part, runs in findings.runs.items()
        if runs
    }


def write_numbers(folder: Path, opened: Opened, findings: Findings) -> None:
    """Write tables and the record.

    Args:
        folder: Of the study; made if it is missing.
        opened: What it began with.
        findings: So far.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = tables_of(findings)
    for part, table in tables.items():
        ending = "" if part == "test" else f"_{part}"
        write_text(folder / f"table{ending}.md", table.markdown())
        write_text(folder / f"table{ending}.csv", table.csv())
    content = {
        "format": FORMAT,
        "protocol": PROTOCOL,
        "study": public_study(opened.plan),
        "model": source_facts(opened.model),
        "data": opened.target.description,
        "tables": {part: one.summary() for part, one in tables.items()},
        "differences": differences(tables),
        "curves": {
            name: {
                "seeds": [asdict(one) for one in curves],
                "shape": check_shape(mean_curve(curves)).to_dict(),
            }
            for name, curves in findings.curves.items()
        },
        "runs": findings.notes,
        "problems": findings.problems,
        "versions": installed_versions(),
    }
    write_json(folder / RESULTS_FILE, content)


def differences(tables: Mapping[str, AdaptationTable]) -> list[str]:
    """Say what the method gains on test frames, seed by seed.

    Args:
        tables: Of `tables_of`.

    Returns:
        Sentences; none where there is no truth.
    """
    table = tables.get("test")
    if table is None or len({run.variant for run in table.runs}) > 1:
        return []
    measured = {run.row for run in table.runs if run.scores.overall is not None}
    pairs = [*BASELINES, ("real", "ours")]
    return [
        paired_differences(table, row, baseline).sentence()
        for row, baseline in pairs
        if {row, baseline} <= measured
    ]


def write_pictures(
    request: StudyRequest, line: Pipeline, findings: Findings, title: str
) -> None:
    """Draw style sheet, learning curves and test frames with predictions.

    Args:
        request: Says whether pictures of frames are wanted.
        line: Stages of the variant and seed that is shown.
        findings: With the curves of all variants.
        title: Of the picture of predictions.
    """
    figures = request.output / FIGURES
    figures.mkdir(parents=True, exist_ok=True)
    for number, (name, curves) in enumerate(findings.curves.items(), start=1):
        ending = "" if len(findings.curves) == 1 else f"_{number:02d}"
        draw_learning_curves(
            curves,
            figures / f"learning_curve{ending}.png",
            title=f"Student and teacher{f', {name}' if name else ''}",
        )
    if not request.overlays:
        return
    job = line.job
    draw_style_sheet(
        job.source, job.target.unlabelled, line.synthetic, figures / "style.png"
    )
    _draw_predictions(request, line, findings, title)


def _draw_predictions(
    request: StudyRequest, line: Pipeline, findings: Findings, title: str
) -> None:
    """Draw what some rows and the cleaning made of the frames that are shown."""
    job, guides, rows = line.job, line.guides, Rows(line, line.files)
    figures, names = request.output / FIGURES, job.settings.class_names
    measured = {run.row for runs in findings.runs.values() for run in runs}
    frames = job.target.adaptation if job.target.test is None else job.target.test
    labels = guides.adaptation if guides.test is None else guides.test
    found = {row: rows.get(row).masks for row in SHOWN_ROWS if row in measured}
    draw_adaptation(
        frames,
        {"pseudo-label": labels, **{row_title(row): one for row, one in found.items()}},
        figures / "overlays.png",
        title=title,
        classes=names,
    )
    if "direct" in found and job.labels_from == "coarse":
        draw_cleaning(
            frames,
            found["direct"],
            labels,
            figures / "cleaning.png",
            title="Predictions of the coarse network, cleaned",
            classes=names,
        )


def save_adapted(
    request: StudyRequest,
    opened: Opened,
    line: Pipeline,
    findings: Findings,
    variant: str,
) -> Path:
    """Keep the student as a model that any command opens.

    Args:
        request: Says where.
        opened: What the study began with.
        line: Stages of the variant and seed that is kept.
        findings: With its scores.
        variant: Its name.

    Returns:
        Path of the weights; the card lies beside them.
    """
    job = line.job
    scores = {
        part: run.scores.overall
        for part, runs in findings.runs.items()
        for run in runs
        if (run.variant, run.row, run.seed) == (variant, "ours", job.seed)
    }
    return save_finetuned(
        request.output / MODEL,
        line.pair[1].cpu(),
        source=adapted_source(opened),
        task=_task(opened, line),
        metrics={
            f"{part}/{name}": value
            for part, overall in scores.items()
            if overall is not None
            for name, value in asdict(overall).items()
        },
        training=job.settings.training,
    )


def _task(opened: Opened, line: Pipeline) -> dict[str, Any]:
    """Say for the card on what and how the student was trained."""
    job, description = line.job, opened.target.description
    task: dict[str, Any] = {
        "kind": "segment",
        "method": "sim-to-real",
        "seed": job.seed,
        "data-seed": opened.plan.data_seed,
        "classes": list(job.settings.class_names),
        "adapt": asdict(job.settings),
        "quality": line.guides_stage.facts["quality"],
        "data": description,
    }
    if description.get("simulated"):
        task["domain"] = description["domain"]
    return task


def adapted_source(opened: Opened) -> ModelSource:
    """Return the model to start from, with frames prepared as they were here."""
    return replace(opened.model, data=opened.data)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
