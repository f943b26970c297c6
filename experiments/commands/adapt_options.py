"""The options of `endofed adapt`, and what they say of themselves."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.adaptation.plan import ROWS
from experiments.finetuning.split import SPLITS

From = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="MODEL",
        help="SAM to start from: checkpoint (.safetensors), official SAM or MedSAM "
        "file (.pth), models:/NAME@ALIAS or random.",
    ),
]
Source = Annotated[
    str,
    typer.Option(
        metavar="simulated|DOMAIN,...|DIR",
        help="Where labels come from: simulated domains, or a labelled folder with "
        "the layout and labels of the target.",
    ),
]
Target = Annotated[
    str,
    typer.Option(
        metavar="DIR|DOMAIN",
        help="Folder with frames to adapt to, or a simulated domain. Its masks, if "
        "any, are for scores only.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(help="Study file (TOML): [study], [adapt] and [[variant]]."),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="One setting, as adapt.epochs=5 or study.test-patients=4; repeatable.",
    ),
]
RowsOption = Annotated[
    str, typer.Option("--rows", help=f"What is compared, some of {', '.join(ROWS)}.")
]
Seeds = Annotated[str, typer.Option(help="As 0,1,2. Default: 0.")]
Output = Annotated[
    Path | None,
    typer.Option(help="New folder. Default: by date in ./adaptations."),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        help="Folder of an earlier adaptation to go on with: what is there is not "
        "computed again. Paths have to be given again."
    ),
]
Name = Annotated[str, typer.Option(help="Network of an official file or of random.")]
ImageSize = Annotated[int, typer.Option(min=0, help="Of those, px; 0 = default.")]
Split = Annotated[
    str,
    typer.Option(help=f"How a folder's test frames are held out: {', '.join(SPLITS)}."),
]
TestSequences = Annotated[
    str,
    typer.Option(help="Or those: as S-ABC…,S-DEF… of `data check`, or 1,4 from 1."),
]
Unlabelled = Annotated[
    bool, typer.Option("--unlabelled", help="Open no mask, even if there are some.")
]
Overlays = Annotated[
    bool,
    typer.Option(
        "--overlays/--no-overlays",
        help="Draw frames. Those of a folder are pictures of patients, written into "
        "the output folder.",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Threads = Annotated[
    int,
    typer.Option(
        min=1,
        help="Of PyTorch. More are faster for large networks, but sums are then added "
        "in another order: resume with the same number.",
    ),
]
