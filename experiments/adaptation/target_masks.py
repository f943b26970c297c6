"""Masks of the target's frames by the adapted model, at the frames' own size."""

import math
from pathlib import Path

from clients.data.catalogue import FolderSpec
from clients.data.frame_tasks import is_inverted
from experiments.adaptation.rows import ADAPTATION, TEST, Rows
from experiments.adaptation.stages import Pipeline
from experiments.adaptation.study import Opened, StudyRequest
from experiments.model_source import ModelSource
from experiments.prediction.inputs import InputFile
from experiments.prediction.outputs import OutputChoice, label_map, write_png
from experiments.prediction.predictor import Predictor
from experiments.prediction.runner import InputReport, PredictOptions, predict_inputs
from experiments.prediction.timing import StageTimes
from models.assembly import merged
from models.classes import CLASS_NAMES

MASKS = "masks"
BATCH = 4


def write_masks(request: StudyRequest, opened: Opened, line: Pipeline) -> list[str]:
    """Write the student's masks of all frames of the target.

    Args:
        request: Says where. What an earlier run has written stays.
        opened: With the files of a folder.
        line: Stages of the variant and seed whose student is used.

    Returns:
        What could not be predicted, one sentence each, without names.
    """
    folder = request.output / MASKS
    if request.target is None:
        write_simulated(folder, line)
        return []
    targets = {
        number: target
        for number, target in enumerate(opened.target.files, start=1)
        if not (folder / target.name).exists()
    }
    reports = predict_inputs(
        [InputFile(number, one.path) for number, one in targets.items()],
        {number: folder / one.name for number, one in targets.items()},
        Predictor(_student(opened, line), device=request.device),
        _options(request.target.spec, opened, line),
        times=StageTimes(),
    )
    problems = [_sentence(one) for one in reports if one.problem]
    for name in set(CLASS_NAMES) - set(line.job.settings.class_names):
        for path in folder.glob(f"*/masks/*_{name}.png"):
            path.unlink()  # nobody taught the student this class
    return problems


def _student(opened: Opened, line: Pipeline) -> ModelSource:
    """Return the student as a model that was opened, its adapters folded in."""
    return ModelSource(
        kind="finetuned",
        network=merged(line.pair[1].cpu()),
        recipe=opened.model.recipe,
        data=opened.data,
        card={},
    )


def _options(spec: FolderSpec, opened: Opened, line: Pipeline) -> PredictOptions:
    """Prepare frames as they were for training."""
    return PredictOptions(
        settings=opened.data,
        output=OutputChoice(frozenset({"masks"})),
        inverted=is_inverted(spec, opened.data),
        threshold=probability(line.job.settings.logit_threshold),
        batch_size=BATCH,
    )


def write_simulated(folder: Path, line: Pipeline) -> None:
    """Write the masks of simulated frames; 1 = first class, 2 = second, 3 = both."""
    target = line.job.target
    rows = Rows(line, line.files)
    part = ADAPTATION if target.test is None else TEST
    folder.mkdir(parents=True, exist_ok=True)
    for number, masks in enumerate(rows.get("ours").masks.bool().numpy(), start=1):
        write_png(folder / f"{part}_{number:04d}.png", label_map(masks))


def probability(logit: float) -> float:
    """Return the sigmoid of a logit."""
    return 1 / (1 + math.exp(-logit))


def _sentence(report: InputReport) -> str:
    return f"File {report.number} of the target: {report.problem}"
