"""The options of `endofed finetune`, and what they say of themselves."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.finetuning.fewshot import STARTS, TASKS
from experiments.finetuning.keeping import SAVE
from experiments.finetuning.split import SPLITS
from models.training_modes import TRAINING_MODES

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Checkpoint (.safetensors), official SAM or MedSAM file (.pth), "
        "models:/NAME@ALIAS or random.",
    ),
]
Data = Annotated[
    Path | None, typer.Option(help="Folder that `endofed data check` accepts.")
]
Domain = Annotated[
    str, typer.Option(help="Simulated domain that no hospital had, without --data.")
]
Split = Annotated[
    str, typer.Option(help=f"How a folder is divided, one of {', '.join(SPLITS)}.")
]
Sequences = Annotated[
    str,
    typer.Option(
        help="Instead: sequences, as S-ABC…,S-DEF… of `data check` or 1,4 from 1."
    ),
]
Shots = Annotated[str, typer.Option(help="Labelled frames, as 1,5,10,20,50,all.")]
Seeds = Annotated[str, typer.Option(help="Seeds, as 0,1,2.")]
Methods = Annotated[
    str, typer.Option(help=f"What trains, some of {', '.join(TRAINING_MODES)}.")
]
Starts = Annotated[str, typer.Option(help=f"Some of {', '.join(STARTS)}.")]
Network = Annotated[
    str, typer.Option(help="Another network whose encoder starts from the model's.")
]
ModelName = Annotated[str, typer.Option(help="Of an official file and of random.")]
ImageSize = Annotated[int, typer.Option(min=0, help="Of those, px; 0 = default.")]
Task = Annotated[str, typer.Option(help=f"One of {', '.join(TASKS)}.")]
Label = Annotated[
    str,
    typer.Option(
        help="To classify simulated frames: catheter or guidewire (is it there), or "
        "domain, with several in --domain."
    ),
]
ImageLabels = Annotated[
    Path | None,
    typer.Option(
        help="To classify a folder: CSV with sequence, label and, if need be, frame."
    ),
]
Scale = Annotated[
    float | None,
    typer.Option(
        help="Of the learning rate, for encoder weights learnt before. Default: 0.1; "
        "random weights, adapters and new layers always have 1."
    ),
]
Save = Annotated[
    str, typer.Option(help=f"Networks to keep, of {', '.join(SAVE)} on validation.")
]
Overlays = Annotated[
    bool | None,
    typer.Option(
        "--overlays/--no-overlays",
        help="Draw test frames. Default: simulated ones only; those of a folder are "
        "pictures of patients, written into the output folder.",
    ),
]
Mlflow = Annotated[
    bool,
    typer.Option(
        "--mlflow/--no-mlflow", help="Write to the MLflow of the federation, too."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        help="Goes on where the same study stopped. Default: finetune in the "
        "checkpoint's run folder, else a new one in ./finetunings."
    ),
]
Steps = Annotated[int, typer.Option(help="Of every run, at most.")]
BatchSize = Annotated[int, typer.Option(help="Frames.")]
LearningRate = Annotated[float, typer.Option(help="Peak of AdamW.")]
Warmup = Annotated[int, typer.Option(help="Steps, linear; a cosine follows.")]
ValidateEvery = Annotated[int, typer.Option(help="Steps between looks at validation.")]
Patience = Annotated[
    int, typer.Option(help="Looks without a better one before a run stops.")
]
Loss = Annotated[str, typer.Option(help="As train.loss.")]
ClDiceWeight = Annotated[float, typer.Option(help="Share of soft clDice, 0 to 1.")]
LoraRank = Annotated[int, typer.Option(help="Of adapters.")]
DataSeed = Annotated[int, typer.Option(help="Decides who is in which part.")]
Simulated = Annotated[int, typer.Option(help="Simulated, without --data.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes. Default: cores.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
