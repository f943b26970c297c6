"""`endofed evaluate`: honest numbers of saved models, and of their differences.

Nothing printed or written names a file, a folder or a patient: sequences and patients
have the pseudonyms of `endofed data check`, models have letters.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from clients.data.archive import LAYOUTS
from clients.data.errors import DataError
from clients.data.identity import SiteKey
from clients.data.scan import POLARITIES
from clients.sites import load_sites
from clients.sources import SimulatedSource
from experiments.commands.bars import passing_bar
from experiments.commands.errors import user_errors
from experiments.commands.folder_options import (
    ALL_CLASSES,
    ClassesOption,
    IgnoreOption,
    KeyOption,
    LabelsOption,
    LayoutOption,
    PolarityOption,
    SkipOption,
    WidthOption,
    existing,
    label_map,
    one_of,
)
from experiments.evaluation.contenders import (
    classes_of,
    open_contenders,
    printable_source,
    shared_settings,
)
from experiments.evaluation.files import check_output
from experiments.evaluation.frames import (
    HELD_OUT,
    SPLITS,
    EvaluationFrames,
    load_evaluation_frames,
)
from experiments.evaluation.intervals import RESAMPLES
from experiments.evaluation.places import (
    folder_site,
    folders_of,
    seeds,
    simulated_site,
)
from experiments.evaluation.run import (
    Evaluation,
    EvaluationSettings,
    evaluate_models,
    write_evaluation,
)
from experiments.evaluation.show import show_evaluation
from experiments.model_source import ModelSource

Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL...",
        help="Checkpoints (.safetensors), official SAM files (.pth), "
        "models:/NAME@ALIAS or random.",
    ),
]
Data = Annotated[Path | None, typer.Option(help="Folder with labelled frames.")]
Sites = Annotated[
    Path | None, typer.Option(help="Sites file (TOML) instead: several sites.")
]
Domain = Annotated[str, typer.Option(help="Simulated domain instead.")]
SplitOption = Annotated[
    str,
    typer.Option(
        help=f"One of {', '.join(SPLITS)}, by patient; held-out: with --data, "
        "sequences that no finetuned model has seen, as their cards say."
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        min=0,
        help="Of split, simulated frames and resamples: for the test frames of a run "
        "or of a finetuned model, its seed.",
    ),
]
Sequences = Annotated[
    str, typer.Option(help="With --data: only these, as S-ABC...,S-DEF... or 1,4.")
]
Label = Annotated[
    list[str] | None,
    typer.Option(help="What to call a model, once for each. Default: A, B ..."),
]
Network = Annotated[str, typer.Option(help="Of official files and random.")]
ImageSize = Annotated[int, typer.Option(min=0, help="Of those, px; 0 = default.")]
Patients = Annotated[int, typer.Option(min=1, help="With --domain: of the simulation.")]
FramesEach = Annotated[int, typer.Option(min=1, help="With --domain.")]
Resamples = Annotated[int, typer.Option(min=100, help="Of the patients.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Frames per pass.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Of PyTorch. Default: its own.")
]
Gallery = Annotated[
    bool,
    typer.Option(
        "--gallery/--no-gallery",
        help="Draw the worst frames. These are pictures of patients: they are written "
        "into the output folder only, which stays on this machine.",
    ),
]
Output = Annotated[
    Path | None, typer.Option(help="New folder. Default: by date in ./runs.")
]


def evaluate_command(
    models: Models,
    data: Data = None,
    sites: Sites = None,
    domain: Domain = "",
    split: SplitOption = "all",
    seed: Seed = 0,
    sequences: Sequences = "",
    label: Label = None,
    network: Network = "",
    image_size: ImageSize = 0,
    layout: LayoutOption = "auto",
    classes: ClassesOption = ALL_CLASSES,
    labels: LabelsOption = None,
    ignore_label: IgnoreOption = None,
    line_width: WidthOption = "3px",
    skip_damaged: SkipOption = False,
    polarity: PolarityOption = "unknown",
    key: KeyOption = None,
    patients: Patients = SimulatedSource.patients,
    frames_per_patient: FramesEach = SimulatedSource.frames_per_patient,
    resamples: Resamples = RESAMPLES,
    device: Device = "auto",
    batch_size: BatchSize = 4,
    threads: Threads = None,
    gallery: Gallery = True,
    output: Output = None,
) -> None:
    """Measure saved models on labelled frames: all metrics, intervals, comparisons.

    A MODEL is a checkpoint (.safetensors), an official SAM file (.pth),
    models:/NAME@ALIAS or random. Give frames by --data, --sites or --domain.
    """
    with user_errors(private=True):
        one_of("--split", split, SPLITS)
        needs_data = "--sequences" if sequences else ""
        needs_data = "--split held-out" if split == HELD_OUT else needs_data
        _check_places(data, sites, domain, needs_data)
        if data is not None:
            meanings = label_map(classes, labels or [], ignore_label or [], line_width)
            one_of("--layout", layout, LAYOUTS)
            one_of("--polarity", polarity, POLARITIES)
            specs = (folder_site(data, layout, meanings, skip_damaged, polarity),)
        elif sites is not None:
            specs = load_sites(str(sites))
        else:
            specs = (simulated_site(domain, patients, frames_per_patient),)
        folder = output or Path("runs", f"evaluation-{datetime.now():%Y%m%d-%H%M%S}")
        check_output(folder, folders_of(specs))
        settings = _settings(split, seed, resamples, batch_size, device, threads)
        contenders = open_contenders(
            models, label or [], network=network, image_size=image_size, seed=seed
        )
        frames = load_evaluation_frames(
            specs,
            settings=shared_settings(contenders),
            split=split,
            seed_of=seeds(seed, of_a_run=sites is not None),
            key=SiteKey.load_or_create(key) if folders_of(specs) else None,
            classes=classes_of(contenders),
            sequences=[one for one in sequences.split(",") if one.strip()],
            models=contenders,
        )
        evaluation = _evaluate(contenders, frames, settings)
        named = {"--data": data, "--sites": sites, "--domain": domain}
        if data is not None:
            named |= {"--classes": classes, "--sequences": sequences}
        command = _command(zip(contenders, models, strict=True), named, settings)
        write_evaluation(evaluation, folder, command=command, gallery=gallery)
        show_evaluation(evaluation)
    _tell_place("the folder you named" if output else folder.as_posix(), gallery)


def _check_places(
    data: Path | None, sites: Path | None, domain: str, needs_data: str
) -> None:
    if sum(one is not None for one in (data, sites, domain or None)) != 1:
        raise DataError("Give one of --data, --sites and --domain.")
    if data is not None:
        existing(data)
    elif needs_data:
        raise DataError(f"{needs_data} goes with --data.")


def _settings(
    split: str,
    seed: int,
    resamples: int,
    batch_size: int,
    device: str,
    threads: int | None,
) -> EvaluationSettings:
    """Choose device and threads."""
    one_of("--device", device, ("auto", "cpu", "cuda"))
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise DataError("--device cuda: PyTorch sees no GPU here; choose cpu.")
    if threads is not None:
        torch.set_num_threads(threads)
    place = "cuda" if has_gpu and device != "cpu" else "cpu"
    return EvaluationSettings(
        split, seed, resamples, batch_size, place, torch.get_num_threads()
    )


def _evaluate(
    models: Mapping[str, ModelSource],
    frames: EvaluationFrames,
    settings: EvaluationSettings,
) -> Evaluation:
    with passing_bar(Console(stderr=True)) as progress:
        task = progress.add_task("Measuring frames", total=len(models) * len(frames))
        return evaluate_models(
            models,
            frames,
            settings,
            progress=lambda count: progress.update(task, advance=count),
        )


def _command(
    sources: Iterable[tuple[str, str]],
    places: Mapping[str, object],
    settings: EvaluationSettings,
) -> str:
    """Return what was called, with words in the place of paths."""
    words = ["endofed evaluate", *(printable_source(*one) for one in sources)]
    for option, value in places.items():
        if value:
            shown = option.strip("-").upper() if isinstance(value, Path) else value
            words.append(f"{option} {shown}")
    words += [
        f"--split {settings.split} --seed {settings.seed}",
        f"--resamples {settings.resamples} --batch-size {settings.batch_size}",
        f"--device {settings.device} --threads {settings.threads}",
    ]
    return " ".join(words)


def _tell_place(place: str, gallery: bool) -> None:
    console = Console()
    console.print(f"Tables and summary are in {place}.", highlight=False, markup=False)
    if gallery:
        console.print("The gallery in it shows patients: keep it on this machine.")
