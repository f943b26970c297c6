"""All inputs, one after the other: read, prepare, predict, put back, write.

An input that cannot be read or written costs one line, and the rest goes on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clients.data.errors import DataError
from clients.data.placement import Placement
from clients.data.preprocessing import Prepared, prepare_frame
from clients.images.opening import is_dicom, open_source
from clients.images.source import ImageSource, SourceFacts
from experiments.prediction.frames import PredictedFrame
from experiments.prediction.inputs import InputFile
from experiments.prediction.outputs import InputWriter, OutputChoice, whole_folder
from experiments.prediction.predictor import Predictor
from experiments.prediction.prompts import PixelPrompts
from experiments.prediction.timing import StageTimes
from strategies.data_settings import DataSettings

NOT_DICOM = "no DICOM file, so there is no DICOM Segmentation"
ORIGINAL = -1
"""Frame size: that of each input, its longer side."""


@dataclass(frozen=True)
class PredictOptions:
    """How every input is predicted."""

    settings: DataSettings  # of the model's card; frame_size may be ORIGINAL
    output: OutputChoice
    inverted: bool = False  # exchange dark and bright
    threshold: float = 0.5  # 0 to below 1
    batch_size: int = 4
    prompts: PixelPrompts | None = None


@dataclass(frozen=True)
class InputReport:
    """What became of one input; it names no file."""

    number: int
    facts: SourceFacts | None = None  # None where it could not be opened
    folder: str = ""  # in the output folder; "" = failed
    problem: str = ""  # why it failed
    notes: tuple[str, ...] = field(default=())


def predict_inputs(
    inputs: Sequence[InputFile],
    folders: Mapping[int, Path],
    predictor: Predictor,
    options: PredictOptions,
    *,
    times: StageTimes,
    on_frames: Callable[[int, int], None] | None = None,
) -> Iterator[InputReport]:
    """Predict inputs one by one.

    Args:
        inputs: The files.
        folders: Where the results of each go, by number.
        predictor: The network.
        options: How.
        times: Gathers how long it takes.
        on_frames: Hears after every batch how many frames of how many of the input
            are done.

    Yields:
        A report of every input when it is done.
    """
    for one in inputs:
        work = partial(
            _predict_input,
            one,
            folders[one.number],
            predictor,
            options,
            times,
            on_frames,
        )
        yield guarded(one.number, work)


def guarded(number: int, work: Callable[[], InputReport]) -> InputReport:
    """Do the work on an input; whatever is wrong with it becomes its report.

    Args:
        number: Of the input.
        work: What is to be done.

    Returns:
        What the work returned, or why it could not be done.

    Raises:
        MemoryError: The next input would fail as well.
    """
    try:
        return work()
    except DataError as error:
        return InputReport(number, problem=str(error))
    except MemoryError:
        raise
    except OSError:
        return InputReport(
            number,
            problem="cannot be read, or its results cannot be written; is there "
            "room and permission?",
        )
    except Exception as error:  # noqa: BLE001 - its text may quote the file
        problem = f"an unexpected {type(error).__name__}; please report it"
        return InputReport(number, problem=problem)


def _predict_input(
    one: InputFile,
    place: Path,
    predictor: Predictor,
    options: PredictOptions,
    times: StageTimes,
    on_frames: Callable[[int, int], None] | None,
) -> InputReport:
    source = open_source(one.path)
    facts = source.facts
    dicom = one.path if is_dicom(one.path) else None
    settings = settings_for(options.settings, facts, predictor.image_size)
    predictor.check_prompts(options.prompts, settings.frame_size)
    with whole_folder(place) as folder:
        writer = InputWriter(folder, options.output, facts, dicom)
        try:
            done = 0
            for batch in _batches(
                source, predictor, replace(options, settings=settings), times
            ):
                for placed in batch:
                    with times.measure("write"):  # putting back belongs to it
                        writer.add(PredictedFrame.restored(*placed, options.threshold))
                done += len(batch)
                if on_frames is not None:
                    on_frames(done, facts.num_frames)
            writer.finish()
        finally:
            writer.close()
    wants_dicom = "dicom-seg" in options.output.kinds
    notes = (NOT_DICOM,) if wants_dicom and dicom is None else ()
    return InputReport(one.number, facts, place.name, notes=notes)


def settings_for(
    settings: DataSettings, facts: SourceFacts, network_size: int
) -> DataSettings:
    """Decide how large the frames of an input are prepared.

    Args:
        settings: With a size, or `ORIGINAL`.
        facts: Of the input.
        network_size: px; smaller frames are grown to it.

    Returns:
        Settings with a size.
    """
    if settings.frame_size != ORIGINAL:
        return settings
    return replace(settings, frame_size=max(facts.height, facts.width, network_size))


class _Placed(NamedTuple):
    """What the network said of a frame, before it is put back."""

    number: int
    pixels: NDArray[np.number]
    probabilities: NDArray[np.float32]
    placement: Placement


def _batches(
    source: ImageSource,
    predictor: Predictor,
    options: PredictOptions,
    times: StageTimes,
) -> Iterator[list[_Placed]]:
    numbers = iter(range(1, source.facts.num_frames + 1))
    while chosen := list(islice(numbers, options.batch_size)):
        pixels, prepared = [], list[Prepared]()
        for number in chosen:
            try:
                with times.measure("read"):
                    pixels.append(source.read_frame(number - 1))
                with times.measure("prepare"):
                    prepared.append(
                        prepare_frame(
                            pixels[-1], options.settings, invert=options.inverted
                        )
                    )
            except DataError as error:
                raise DataError(f"frame {number}: {error}") from None
        with times.measure("network", len(chosen)):
            found = predictor.probabilities(prepared, options.prompts)
        placements = [one.placement for one in prepared]
        yield [
            _Placed(*values)
            for values in zip(chosen, pixels, found, placements, strict=True)
        ]
