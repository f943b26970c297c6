"""What a classifier says of whole frames, as one table for all inputs."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients.data.errors import DataError
from clients.data.preprocessing import prepare_frame
from clients.images.opening import open_source
from clients.images.source import ImageSource
from experiments.prediction.inputs import InputFile
from experiments.prediction.predictor import Predictor
from experiments.prediction.runner import InputReport, PredictOptions, guarded
from experiments.prediction.timing import StageTimes

CLASSES_FILE = "classes.csv"

Row = tuple[str, int, NDArray[np.float32]]
"""Name of the input in the results, number of the frame from 1, probabilities."""


def classify_inputs(
    inputs: Sequence[InputFile],
    names: Mapping[int, str],
    predictor: Predictor,
    options: PredictOptions,
    rows: list[Row],
    *,
    times: StageTimes,
    on_frames: Callable[[int, int], None] | None = None,
) -> Iterator[InputReport]:
    """Classify the frames of inputs one by one.

    Args:
        inputs: The files.
        names: What the results call each, by number.
        predictor: A classifier.
        options: How; the frame size is the network's.
        rows: Grows by the frames of every input that could be read to its end.
        times: Gathers how long it takes.
        on_frames: Hears after every batch how many frames of how many of the input
            are done.

    Yields:
        A report of every input when it is done.
    """
    for one in inputs:

        def classify(one: InputFile = one) -> InputReport:
            source, found = open_source(one.path), list[Row]()
            for number, said in _frames(source, predictor, options, times):
                found.append((names[one.number], number, said))
                if on_frames is not None:
                    on_frames(number, source.facts.num_frames)
            rows.extend(found)
            return InputReport(one.number, source.facts, CLASSES_FILE)

        yield guarded(one.number, classify)


def classes_table(labels: Sequence[str], rows: Sequence[Row]) -> str:
    """Write the table.

    Args:
        labels: In the order of the probabilities.
        rows: Of all frames.

    Returns:
        CSV: input, frame, the likeliest label, then the probability of each.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["input", "frame", "label", *(f"p({name})" for name in labels)])
    for name, number, said in rows:
        best = labels[int(said.argmax())]
        writer.writerow([name, number, best, *(f"{value:.6f}" for value in said)])
    return stream.getvalue()


def write_classes(folder: Path, labels: Sequence[str], rows: Sequence[Row]) -> Path:
    """Write the table into a folder, whole or not at all.

    Args:
        folder: Exists.
        labels: In the order of the probabilities.
        rows: Of all frames.

    Returns:
        Path of the file.
    """
    temporary = folder / f".{CLASSES_FILE}.part"
    temporary.write_text(classes_table(labels, rows), encoding="utf-8")
    return temporary.replace(folder / CLASSES_FILE)


def _frames(
    source: ImageSource,
    predictor: Predictor,
    options: PredictOptions,
    times: StageTimes,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    numbers = iter(range(1, source.facts.num_frames + 1))
    while chosen := list(islice(numbers, options.batch_size)):
        prepared = []
        for number in chosen:
            try:
                with times.measure("read"):
                    pixels = source.read_frame(number - 1)
                with times.measure("prepare"):
                    prepared.append(
                        prepare_frame(pixels, options.settings, invert=options.inverted)
                    )
            except DataError as error:
                raise DataError(f"frame {number}: {error}") from None
        with times.measure("network", len(chosen)):
            said = predictor.label_probabilities(prepared)
        yield from zip(chosen, said, strict=True)
