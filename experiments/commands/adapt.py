"""`endofed adapt`: labels from simulation, frames without labels, an adapted model.

Coarse to fine after arXiv 2410.07460. Nothing printed or written names a file or a
patient; sequences have the pseudonyms of `endofed data check`.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from clients.data.archive import LAYOUTS
from clients.data.catalogue import FolderSpec
from clients.data.errors import DataError
from clients.data.scan import POLARITIES
from clients.data.simulator import is_domain
from experiments.adaptation.plan import (
    FOLDER,
    SIMULATED,
    StudyPlan,
    check_rows,
    merge_tables,
    plan_of,
    read_table,
    split_overrides,
)
from experiments.adaptation.run import is_study, run_adaptation
from experiments.adaptation.study import StudyRequest
from experiments.adaptation.study_files import STUDY_FILE
from experiments.commands.adapt_options import (
    Config,
    Device,
    From,
    ImageSize,
    Name,
    Output,
    Overlays,
    Resume,
    RowsOption,
    Seeds,
    Set,
    Source,
    Split,
    Target,
    TestSequences,
    Threads,
    Unlabelled,
)
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
    label_map,
    one_of,
)
from experiments.commands.word_options import parse_numbers, words
from experiments.finetuning.split import SPLITS, DataChoice
from experiments.model_source import OFFICIAL_SUFFIXES, RANDOM, open_model
from experiments.prediction.predictor import choose_device
from experiments.run_config import PROJECT_FOLDER

SMALL_NETWORKS = ("sam-tiny", "sam-mini")
SMALL_FILE = "adapt_small.toml"


def adapt_command(
    model: From = "",
    source: Source = "",
    target: Target = "",
    config: Config = None,
    settings: Set = None,
    rows: RowsOption = "",
    seeds: Seeds = "",
    output: Output = None,
    resume: Resume = None,
    name: Name = "",
    image_size: ImageSize = 0,
    split_by: Split = SPLITS[0],
    test_sequences: TestSequences = "",
    unlabelled: Unlabelled = False,
    layout: LayoutOption = "auto",
    classes: ClassesOption = ALL_CLASSES,
    labels: LabelsOption = None,
    ignore_label: IgnoreOption = None,
    line_width: WidthOption = "3px",
    skip_damaged: SkipOption = False,
    polarity: PolarityOption = "unknown",
    key: KeyOption = None,
    overlays: Overlays = True,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Adapt a SAM to frames without labels, with labels from simulation."""
    is_private = is_folder(target) or is_folder(source)
    with user_errors(private=is_private):
        given = {
            "model": model,
            "name": name,
            "image-size": image_size,
            "target": FOLDER if is_folder(target) else target,
            "source": FOLDER if is_folder(source) else source and SIMULATED,
            "seeds": parse_numbers("--seeds", seeds) if seeds else (),
        }
        domains = "" if is_folder(source) or source == SIMULATED else source
        texts = [*(settings or [])]
        texts += [f"adapt.source-domains={domains}"] if domains else []
        plan = read_plan(config, resume, given, words(rows), texts)
        choice = DataChoice(
            spec=FolderSpec(
                folder=Path(),
                layout=one_of("--layout", layout, LAYOUTS),
                labels=label_map(classes, labels or [], ignore_label or [], line_width),
                skip_damaged=skip_damaged,
                device_polarity=one_of("--polarity", polarity, POLARITIES),
            ),
            split_by=one_of("--split-by", split_by, SPLITS),
            test=words(test_sequences),
            key=key,
        )
        folder = output_folder(output, resume)
        torch.set_num_threads(threads)
        _check_folders(plan, source, target, folder)
        request = StudyRequest(
            plan=plan,
            output=folder,
            device=choose_device(device),
            source=_placed(choice, source, unlabelled=False),
            target=_placed(choice, target, unlabelled=unlabelled),
            overlays=overlays,
        )
        run_adaptation(request, Console())
    place = "the folder you named" if output or resume else "./adaptations"
    _tell_place(place, is_private)


def read_plan(
    config: Path | None,
    resume: Path | None,
    given: Mapping[str, Any],
    rows: tuple[str, ...],
    overrides: list[str],
) -> StudyPlan:
    """Put a study together: an earlier run, a file, options, in this order.

    Args:
        config: Study file.
        resume: Folder of an earlier run.
        given: Options of the command line by their name in `[study]`; empty ones were
            not given.
        rows: Of the command line; for every variant.
        overrides: Of --set.

    Returns:
        The study.

    Raises:
        SettingsError: If something of it is wrong.
    """
    study, others = split_overrides(overrides)
    tables = [read_table(resume / STUDY_FILE)] if resume is not None else []
    tables += [read_table(config)] if config is not None else []
    options = {name: value for name, value in given.items() if value}
    table = merge_tables(*tables, {"study": {**study, **options}})
    table = merge_tables(preset_of(table["study"]), table)
    if rows:
        table["study"]["rows"] = rows
        table["variant"] = [{**one, "rows": rows} for one in table["variant"]]
    plan = plan_of(table, others)
    check_rows(plan)
    return plan


def preset_of(study: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a network needs in place of the paper's.

    Args:
        study: The `[study]` table, with the model to start from.

    Returns:
        A study's tables; empty for all but `SMALL_NETWORKS`.

    Raises:
        CheckpointError: If there is no such model.
    """
    model, name = study.get("model", ""), study.get("name", "")
    if not model or Path(model).suffix in OFFICIAL_SUFFIXES:
        return {}
    if model != RANDOM:
        name = open_model(model).recipe.name
    if name not in ("", *SMALL_NETWORKS):  # "": open_model's own choice
        return {}
    return read_table(PROJECT_FOLDER / "experiments" / "configs" / SMALL_FILE)


def is_folder(text: str) -> bool:
    """Tell whether what an option names is a folder, and no simulated domain."""
    names = [one.strip() for one in text.split(",")]
    is_simulated = text == SIMULATED or all(map(is_domain, names))
    return bool(text) and not is_simulated and Path(text).is_dir()


def output_folder(output: Path | None, resume: Path | None) -> Path:
    """Return where a study goes.

    Args:
        output: Of the command line.
        resume: Of the command line.

    Returns:
        An absolute path.

    Raises:
        DataError: If both are given, or results lie in the folder.
    """
    if resume is not None:
        if output is not None and output.resolve() != resume.resolve():
            raise DataError("Give --output for a new study or --resume, not both.")
        return resume.resolve()
    folder = output or Path("adaptations") / f"{datetime.now():%Y%m%d-%H%M%S}"
    if is_study(folder):
        raise DataError(
            "The output folder holds an adaptation. Go on with it by --resume, or name "
            "a new folder."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError("--output must be a new or an empty folder.")
    return folder.resolve()


def _check_folders(plan: StudyPlan, source: str, target: str, output: Path) -> None:
    """Ask for folders again that an earlier run had, for it has kept no path."""
    for option, kind, named in (
        ("--source", plan.source, source),
        ("--target", plan.target, target),
    ):
        if kind == FOLDER and not is_folder(named):
            raise DataError(
                f"The study's {option[2:]} is a folder: name it with {option}."
            )
        if is_folder(named) and output.is_relative_to(Path(named).resolve()):
            raise DataError(
                "The output folder lies inside a folder of frames, where it would be "
                "read as data; name another one with --output."
            )
    if plan.source not in (SIMULATED, FOLDER):
        raise DataError(
            f"study.source is '{SIMULATED}' or '{FOLDER}'; domains stand in "
            "adapt.source-domains."
        )


def _placed(choice: DataChoice, named: str, *, unlabelled: bool) -> DataChoice | None:
    """Return a choice of the folder that an option names, None if it is none."""
    if not is_folder(named):
        return None
    spec = replace(choice.spec, folder=Path(named), unlabelled=unlabelled)
    return replace(choice, spec=spec)


def _tell_place(place: str, is_private: bool) -> None:
    console = Console()
    console.print(f"Tables, masks and the adapted model are in {place}.")
    if is_private:
        console.print(
            "Pictures, masks and stages in it show patients: keep it on this machine."
        )
