"""The command line of `endofed benchmark learning`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from clients.data.splits import Split
from clients.optimisation import TrainingError
from experiments.benchmarks import RESULTS
from experiments.benchmarks.learning import (
    DOMAINS,
    SCORES,
    Learned,
    Look,
    Study,
    learn,
    mean_and_deviation,
    pooled_split,
    settings_of,
    to_json,
)
from experiments.benchmarks.networks import describe_machine
from experiments.commands.errors import user_errors
from experiments.commands.word_options import choose, parse_numbers, words
from models.classes import CLASS_NAMES
from models.registry import BUILDERS
from strategies.settings import RunSettings, SettingsError

OUTPUT = RESULTS / "learning.json"
COMMON = Study()
_CLASSES = tuple((f"test {name}", "test", f".{name}") for name in CLASS_NAMES)
PARTS = (("validation", "validation", ""), ("test", "test", ""), *_CLASSES)
"""Rows of the table: words, which scores, and of which class."""


def learning_command(
    networks: Annotated[
        str, typer.Option(help="With commas between.")
    ] = "sam-tiny,fga-net-small",
    steps: Annotated[int, typer.Option(min=1, help="Of each.")] = COMMON.steps,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Frames in a step.")
    ] = COMMON.batch_size,
    size: Annotated[int, typer.Option(help="Of a frame, px.")] = COMMON.image_size,
    domains: Annotated[str, typer.Option(help="Simulated hospitals.")] = ",".join(
        DOMAINS
    ),
    patients: Annotated[
        int, typer.Option(min=1, help="Of each domain.")
    ] = COMMON.patients,
    frames_per_patient: Annotated[
        int, typer.Option(min=1, help="Near-duplicates.")
    ] = COMMON.frames_per_patient,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak of all. Default: each family's own.")
    ] = None,
    loss: Annotated[str, typer.Option(help="See train.loss.")] = COMMON.loss,
    seeds: Annotated[str, typer.Option(help="Of weights and batches, as 0,1,2.")] = "0",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Of PyTorch.")] = 2,
    output: Annotated[Path, typer.Option(help="JSON file.")] = OUTPUT,
) -> None:
    """Train networks on the same simulated frames and test them on other patients."""
    with user_errors():
        named = tuple(dict.fromkeys(words(domains)))
        if not named:
            raise SettingsError("--domains must name one at least, got none.")
        study = Study(
            domains=named,
            patients=patients,
            frames_per_patient=frames_per_patient,
            image_size=size,
            steps=steps,
            batch_size=batch_size,
            loss=loss,
        )
        # All mistakes are found before anything is trained.
        chosen = dict.fromkeys(choose(networks, tuple(BUILDERS), "--networks"))
        plans = [settings_of(name, study, learning_rate) for name in chosen]
        numbers = list(dict.fromkeys(parse_numbers("--seeds", seeds, at_least=0)))
        torch.set_num_threads(threads)
        split = pooled_split(study)
        results = _learn_all(
            study, plans, split, numbers, torch.device(device), output=output
        )
    # Wider than most pipes claim to be: cut numbers are worse than long lines.
    Console(width=max(Console().width, 130)).print(_table(results, split))


def _learn_all(
    study: Study,
    plans: Sequence[RunSettings],
    split: Split,
    seeds: Sequence[int],
    device: torch.device,
    *,
    output: Path,
) -> list[Learned]:
    """Train one network after the other; what is done is in the file at once."""
    status = Console(stderr=True)
    machine = describe_machine(device)
    results: list[Learned] = []
    output.parent.mkdir(parents=True, exist_ok=True)
    for settings in plans:
        for seed in seeds:
            title = f"{settings.model.name}, seed {seed}"

            def tell(look: Look, title: str = title) -> None:
                status.print(
                    f"{title}, {_words(look)}",
                    style="dim",
                    highlight=False,
                    soft_wrap=True,
                )

            try:
                found = learn(settings, split, seed=seed, device=device, progress=tell)
            except TrainingError as error:
                raise SettingsError(f"{title}: {error}.") from None
            results.append(found)
            content = {**machine, **to_json(study, split, results)}
            output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return results


def _words(look: Look) -> str:
    trained = "" if look.train_loss is None else f"loss {look.train_loss:.3f}, "
    return (
        f"step {look.step}: {trained}validation loss {look.validation_loss:.3f}, "
        f"Dice {look.dice:.3f}, clDice {look.cldice:.3f}"
    )


def _table(results: Sequence[Learned], split: Split) -> Table:
    sizes = [len(one) for one in (split.train, split.validation, split.test)]
    table = Table(
        title="Trained on {}, validated on {}, tested on {} frames".format(*sizes),
        caption="10⁶ parameters; seconds and frames a second in training; scores "
        "pooled over the frames, and over the classes where none is named; with "
        "several seeds mean ± standard deviation. Other patients in every part.",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("network", no_wrap=True)
    for heading in ("10⁶", "rate", "steps", "s", "frames/s"):
        table.add_column(heading, no_wrap=True, justify="right")
    for heading in ("part", "Dice", "clDice"):
        table.add_column(heading, no_wrap=True)
    for name in dict.fromkeys(one.network for one in results):
        runs = [one for one in results if one.network == name]
        for row, (title, part, label) in enumerate(PARTS):
            cells = [
                _cell([getattr(one, part)[score + label] for one in runs])
                for score in SCORES
            ]
            table.add_row(*(_facts(runs) if row == 0 else [""] * 6), title, *cells)
    return table


def _facts(runs: Sequence[Learned]) -> list[str]:
    first = runs[0]
    seconds, _ = mean_and_deviation([one.seconds for one in runs])
    speed, _ = mean_and_deviation([one.frames_per_second for one in runs])
    return [
        first.network,
        f"{first.parameters / 1e6:.2f}",
        f"{first.learning_rate:g}",
        str(first.steps),
        f"{seconds:.1f}",
        f"{speed:.1f}",
    ]


def _cell(values: Sequence[float]) -> str:
    mean, deviation = mean_and_deviation(values)
    return f"{mean:.3f}" if deviation is None else f"{mean:.3f} ± {deviation:.3f}"
