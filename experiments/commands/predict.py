"""`endofed predict`: find devices in images, DICOM files, videos and streams.

Nothing printed names a file of the user; inputs go by their number in the order of the
command line, and so do the results unless the user wishes for the files' names.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.markup import escape

from clients.data.errors import DataError
from clients.data.scan import POLARITIES
from experiments.commands.bars import passing_bar
from experiments.commands.errors import user_errors
from experiments.model_source import open_model
from experiments.prediction import stream_session
from experiments.prediction.classes import Row, classify_inputs, write_classes
from experiments.prediction.inputs import InputFile, folder_names, list_inputs
from experiments.prediction.options import (
    BoxOption,
    FrameLimitOption,
    InputsArgument,
    KeepIdentityOption,
    KeepNamesOption,
    MasksOption,
    ModelArgument,
    OutputOption,
    PointsOption,
    PolarityOption,
    StreamOption,
    StreamSizeOption,
    ThresholdOption,
    TileOption,
    WriteOption,
    one_of,
    output_kinds,
    prepared_size,
)
from experiments.prediction.outputs import (
    KINDS,
    MASK_STYLES,
    OutputChoice,
    whole_folder,
)
from experiments.prediction.predictor import PRECISIONS, Predictor, choose_device
from experiments.prediction.prompts import PixelPrompts
from experiments.prediction.report import (
    about_content,
    stream_content,
    stream_lines,
    summary_content,
    times_table,
)
from experiments.prediction.runner import (
    ORIGINAL,
    InputReport,
    PredictOptions,
    predict_inputs,
)
from experiments.prediction.stream import Mailbox, Pixels, receive, run_stream
from experiments.prediction.stream_session import StreamSession
from experiments.prediction.stream_sources import stream_frames
from experiments.prediction.timing import StageTimes
from server.journal import write_json

SOME_FAILED = 1
USUAL = "masks,tips"
SUMMARY_FILE = "predictions.json"
STREAM_FOLDER = "stream"
status = Console(stderr=True)


def predict_command(
    model: ModelArgument,
    inputs: InputsArgument = None,
    output: OutputOption = None,
    write: WriteOption = USUAL,
    masks: MasksOption = "classes",
    keep_names: KeepNamesOption = False,
    keep_identity: KeepIdentityOption = False,
    threshold: ThresholdOption = 0.5,
    batch_size: Annotated[int, typer.Option(min=1, help="Frames in a pass.")] = 4,
    tile: TileOption = "auto",
    polarity: PolarityOption = "unknown",
    box: BoxOption = "",
    points: PointsOption = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="float32 or bf16.")] = "float32",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Use torch.compile: a slow start.")
    ] = False,
    folded: Annotated[
        bool, typer.Option("--fold", help="Fold normalisations into convolutions.")
    ] = False,
    name: Annotated[str, typer.Option(help="Network of a .pth file or random.")] = "",
    image_size: Annotated[
        int, typer.Option(min=0, help="Its side for these, px; 0 = its usual one.")
    ] = 0,
    stream: StreamOption = "",
    stream_size: StreamSizeOption = "",
    frames: FrameLimitOption = 0,
) -> None:
    """Find devices in images, DICOM files, videos or a stream."""
    with user_errors(private=True):
        choice = OutputChoice(
            kinds=output_kinds(write, stream_session.KINDS if stream else KINDS),
            masks=one_of("--masks", masks, MASK_STYLES),
            keep_identity=keep_identity,
        )
        prompts = PixelPrompts.parse(box, points)
        one_of("--polarity", polarity, POLARITIES)
        one_of("--precision", precision, PRECISIONS)
        if not 0 <= threshold < 1:
            raise DataError("--threshold must be at least 0 and below 1.")
        place = choose_device(device)
        files = _files(inputs or [], output, is_stream=bool(stream))
        if stream and output is None and write != USUAL and choice.kinds != {"tips"}:
            raise DataError("--output is missing: only tips go to standard output.")
        source = open_model(model, name=name, image_size=image_size)
        if source.labels and (stream or prompts or write != USUAL or tile != "auto"):
            raise DataError(
                "This model classifies whole frames and writes their probabilities; "
                "--write, --stream, --box, --points and --tile are for models that "
                "segment."
            )
        size = source.network.image_size
        usual = size if source.labels else source.data.frame_size
        frame_size = prepared_size(tile, network_size=size, usual=usual)
        predictor = Predictor(
            source, device=place, precision=precision, compiled=compiled, folded=folded
        )
        if frame_size != ORIGINAL:
            predictor.check_prompts(prompts, frame_size)
        options = PredictOptions(
            settings=replace(source.data, frame_size=frame_size),
            inverted=source.data.polarity == "dark" and polarity == "bright",
            threshold=threshold,
            batch_size=batch_size,
            prompts=prompts,
            output=replace(choice, model_name=source.recipe.name),
        )
        about = about_content(source, options, str(place), precision)
        if stream:
            given = stream_frames(stream, stream_size)
            failed = _run_stream(given, predictor, options, frames, output)
        elif output is not None:
            names = folder_names(files, keep_names=keep_names)
            if source.labels:
                rows: list[Row] = []
                work = partial(classify_inputs, files, names, predictor, options, rows)
                failed = _run_files(len(files), work, options, output, about)
                write_classes(output, source.labels, rows)
            else:
                folders = {number: output / text for number, text in names.items()}
                work = partial(predict_inputs, files, folders, predictor, options)
                failed = _run_files(len(files), work, options, output, about)
    if failed:
        raise typer.Exit(SOME_FAILED)


def _run_files(
    count: int,
    work: Callable[..., Iterator[InputReport]],
    options: PredictOptions,
    output: Path,
    about: Mapping[str, Any],
) -> bool:
    """Predict all files, print what came of it; say whether any failed."""
    output.mkdir(parents=True, exist_ok=True)
    times = StageTimes()
    reports: list[InputReport] = []
    with passing_bar(status) as progress:
        overall = progress.add_task("Inputs", total=count)
        current = progress.add_task("Frames", total=None)
        for report in work(
            times=times,
            on_frames=lambda done, total: progress.update(
                current, completed=done, total=total
            ),
        ):
            progress.advance(overall)
            reports.append(report)
            _tell(report)
    summary = summary_content(reports, times, options.output, about)
    write_json(output / SUMMARY_FILE, summary)
    Console().print(times_table(times))
    failed = sum(bool(one.problem) for one in reports)
    status.print(f"{len(reports) - failed} of {len(reports)} inputs are predicted.")
    if "dicom-seg" in options.output.kinds and options.output.keep_identity:
        status.print(
            "[yellow]DICOM Segmentations carry names of patients: they stay at the "
            "site.[/]"
        )
    return failed > 0


def _run_stream(
    given: Iterator[Pixels],
    predictor: Predictor,
    options: PredictOptions,
    limit: int,
    output: Path | None,
) -> bool:
    """Predict a stream until it ends; say whether it ended in a failure."""
    with contextlib.ExitStack() as stack:
        folder, say = None, _print_line
        if output is not None:
            folder = stack.enter_context(whole_folder(output / STREAM_FOLDER))
            lines = stack.enter_context((folder / "tips.jsonl").open("w"))
            say = partial(_write_line, lines)
        session = StreamSession(predictor, options, say=say, folder=folder)
        predictor.warm_up()
        mailbox = Mailbox()
        receive(given, mailbox)
        report = run_stream(mailbox, session, limit=limit)
        if folder is not None:
            write_json(folder / "stream.json", stream_content(report))
    for line in stream_lines(report):
        status.print(line, highlight=False, soft_wrap=True)
    if report.failure:
        status.print(f"[bold red]Error:[/] {escape(report.failure)}", soft_wrap=True)
    return bool(report.failure)


def _tell(report: InputReport) -> None:
    for text in (report.problem, *report.notes):
        if text:
            colour = "red" if report.problem else "yellow"
            status.print(
                f"[{colour}]Input {report.number}:[/] {escape(text)}",
                soft_wrap=True,
                highlight=False,
            )


def _files(
    inputs: list[Path], output: Path | None, *, is_stream: bool
) -> list[InputFile]:
    """Check what is read and where results go before anything takes time."""
    if output is not None and output.exists():
        if not output.is_dir() or any(output.iterdir()):
            raise DataError("--output must be a new or an empty folder.")
    if is_stream:
        if inputs:
            raise DataError("Give either inputs or --stream, not both.")
        return []
    if output is None:
        raise DataError("--output is missing: name a new folder for the results.")
    files = list_inputs(inputs)
    if not files:
        raise DataError("There is nothing to predict: name images or folders of them.")
    return files


def _print_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()  # a robot waits for it


def _write_line(stream: TextIO, line: str) -> None:
    stream.write(line + "\n")
