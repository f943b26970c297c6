"""`endofed finetune`: adapt a model to a few labelled frames, and see what it gives."""

from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from clients.data.archive import LAYOUTS
from clients.data.catalogue import FolderSpec
from clients.data.scan import POLARITIES
from experiments.commands.errors import user_errors
from experiments.commands.finetune_options import (
    BatchSize,
    ClDiceWeight,
    Data,
    DataSeed,
    Device,
    Domain,
    ImageLabels,
    ImageSize,
    Label,
    LearningRate,
    LoraRank,
    Loss,
    Methods,
    Mlflow,
    Model,
    ModelName,
    Network,
    Output,
    Overlays,
    Patience,
    Save,
    Scale,
    Seeds,
    Sequences,
    Shots,
    Simulated,
    Split,
    Starts,
    Steps,
    Task,
    ValidateEvery,
    Warmup,
    Workers,
)
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
from experiments.commands.word_options import parse_numbers, words
from experiments.finetuning.fewshot import ALL, FinetuneSettings
from experiments.finetuning.files import best_model
from experiments.finetuning.report import fewshot_table
from experiments.finetuning.run import FinetuneRequest, run_finetune
from experiments.finetuning.split import SPLITS, DataChoice
from experiments.model_source import RANDOM
from experiments.resources import count_cores
from strategies.settings import SettingsError

CHECKPOINTS_FOLDER = "checkpoints"

Defaults = FinetuneSettings


def finetune_command(
    model: Model,
    data: Data = None,
    domain: Domain = Defaults.domain,
    split_by: Split = SPLITS[0],
    train_sequences: Sequences = "",
    validation_sequences: Sequences = "",
    test_sequences: Sequences = "",
    shots: Shots = "1,5,10",
    seeds: Seeds = "0,1,2",
    methods: Methods = "full",
    starts: Starts = "random,foundation",
    network: Network = "",
    model_name: ModelName = "",
    image_size: ImageSize = 0,
    task: Task = Defaults.task,
    label: Label = Defaults.label,
    image_labels: ImageLabels = None,
    steps: Steps = Defaults.steps,
    batch_size: BatchSize = Defaults.batch_size,
    learning_rate: LearningRate = Defaults.learning_rate,
    encoder_learning_rate_scale: Scale = None,
    warmup_steps: Warmup = Defaults.warmup_steps,
    validate_every: ValidateEvery = Defaults.validate_every,
    patience: Patience = Defaults.patience,
    loss: Loss = Defaults.loss,
    cldice_weight: ClDiceWeight = Defaults.cldice_weight,
    lora_rank: LoraRank = Defaults.lora_rank,
    data_seed: DataSeed = Defaults.data_seed,
    train_patients: Simulated = Defaults.train_patients,
    validation_patients: Simulated = Defaults.validation_patients,
    test_patients: Simulated = Defaults.test_patients,
    frames_per_patient: Simulated = Defaults.frames_per_patient,
    layout: LayoutOption = "auto",
    classes: ClassesOption = ALL_CLASSES,
    labels: LabelsOption = None,
    ignore_label: IgnoreOption = None,
    line_width: WidthOption = "3px",
    skip_damaged: SkipOption = False,
    polarity: PolarityOption = "unknown",
    key: KeyOption = None,
    save: Save = "best",
    overlays: Overlays = None,
    mlflow: Mlflow = True,
    output: Output = None,
    workers: Workers = None,
    device: Device = "auto",
) -> None:
    """Adapt a model to a few labelled frames: methods, shots and seeds compared."""
    with user_errors(private=data is not None):
        study = FinetuneSettings(
            domain=domain,
            shots=parse_shots(shots),
            seeds=parse_numbers("--seeds", seeds),
            starts=words(starts),
            methods=words(methods),
            network=network,
            task=task,
            label=label,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            encoder_learning_rate_scale=encoder_learning_rate_scale,
            warmup_steps=warmup_steps,
            validate_every=validate_every,
            patience=patience,
            loss=loss,
            cldice_weight=cldice_weight,
            lora_rank=lora_rank,
            data_seed=data_seed,
            train_patients=train_patients,
            validation_patients=validation_patients,
            test_patients=test_patients,
            frames_per_patient=frames_per_patient,
        )
        choice = None
        if data is not None:
            mapping = label_map(classes, labels or [], ignore_label or [], line_width)
            choice = DataChoice(
                spec=FolderSpec(
                    folder=existing(data),
                    layout=one_of("--layout", layout, LAYOUTS),
                    labels=mapping,
                    skip_damaged=skip_damaged,
                    device_polarity=one_of("--polarity", polarity, POLARITIES),
                ),
                split_by=one_of("--split-by", split_by, SPLITS),
                train=words(train_sequences),
                validation=words(validation_sequences),
                test=words(test_sequences),
                key=key,
            )
        elif train_sequences or validation_sequences or test_sequences or image_labels:
            raise SettingsError(
                "Sequences and image labels are those of a folder: name it with --data."
            )
        request = FinetuneRequest(
            model=model,
            name=model_name,
            image_size=image_size,
            data=choice,
            image_labels=image_labels,
            save=save,
            overlays=data is None if overlays is None else overlays,
            mlflow=mlflow,
        )
        folder = (output or default_output(model)).resolve()
        finetune_with_progress(request, study, folder, workers, device)
    Console().print(f"Tables and figures are in {folder}", soft_wrap=True)


def finetune_with_progress(
    model: Path | FinetuneRequest,
    study: FinetuneSettings,
    output: Path,
    workers: int | None,
    device: str,
) -> None:
    """Run a few-shot study under a progress bar and print its table.

    Args:
        model: A foundation with its card beside it, or a whole request.
        study: What to compare.
        output: Folder of the study.
        workers: Processes; None = one a core.
        device: "auto", "cpu" or "cuda".
    """
    console = Console()
    is_simulated = not isinstance(model, FinetuneRequest) or model.data is None
    label = f"Finetuning on '{study.domain}'" if is_simulated else "Finetuning"
    is_random = isinstance(model, FinetuneRequest) and model.model == RANDOM
    starts = 1 if is_random else len(study.starts)
    total = len(study.shots) * len(study.seeds) * len(study.methods) * starts
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress("{task.description}", *columns, console=console) as progress:
        bar = progress.add_task(label, total=total)
        results = run_finetune(
            model,
            study,
            output,
            workers=workers or count_cores(),
            device=device,
            on_result=lambda _: progress.advance(bar),
            on_note=lambda text: progress.console.print(text, highlight=False),
        )
        progress.update(bar, completed=total)
    console.print(fewshot_table(results))
    best = best_model(output)
    if best is not None:
        console.print(f"Best on validation: {best}", soft_wrap=True, highlight=False)


def default_output(model: str) -> Path:
    """Return where a study goes if nobody says: beside what made the model.

    Args:
        model: What the user named.

    Returns:
        A folder that may exist.
    """
    path = Path(model)
    if path.suffix == ".safetensors" and path.parent.name == CHECKPOINTS_FOLDER:
        return path.parent.parent / "finetune"
    return Path("finetunings") / datetime.now().strftime("%Y%m%d-%H%M%S")


def parse_shots(text: str) -> tuple[int, ...]:
    """Read numbers of shots such as "1,5,all".

    Raises:
        SettingsError: If a part is neither a whole number nor "all".
    """
    parts = [part.strip() for part in text.split(",")]
    is_all = parts[-1] == "all"
    numbers = parts[:-1] if is_all else parts
    found = parse_numbers("--shots", ",".join(numbers)) if numbers else ()
    if ALL in found:
        raise SettingsError("--shots wants whole numbers of at least 1, or all; got 0.")
    return (*found, ALL) if is_all else found
