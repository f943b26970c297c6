"""What a few-shot study found, in a table, a CSV and a JSON file, good or bad.

Means and sample standard deviations are over seeds: other shots, other random weights,
other batches, the same test frames. A gain is the foundation's value minus that of
random weights with the same seed and shots. When the foundation is no better, the
verdict says so.
"""

import csv
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from experiments.fewshot import STARTS, FinetuneResult, FinetuneSettings
from server.checkpoints import installed_versions
from server.journal import write_json

PROTOCOL = (
    "Shots are drawn by seed from the pool's frames that show a device; fewer shots "
    "are the first of more. Both starts get the same shots, batches, augmentation, "
    "steps and learning rate. The step with the best validation Dice is chosen, step "
    "0 included, and measured once on the test frames. Pool, validation and test share "
    "no patient. Dice and clDice are pooled over test frames and classes."
)


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of one number over seeds."""

    mean: float
    sd: float  # NaN with a single seed

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Compute both; the deviation divides by the number of values minus one."""
        sd = statistics.stdev(values) if len(values) > 1 else math.nan
        return cls(statistics.fmean(values), sd)

    def __str__(self) -> str:
        """Return "0.412 ± 0.031", or the mean alone where there is no deviation."""
        deviation = "" if math.isnan(self.sd) else f" ± {self.sd:.3f}"
        return f"{self.mean:.3f}{deviation}"


@dataclass(frozen=True)
class Gain:
    """What the foundation adds to random weights at one number of shots."""

    shots: int
    dice: Spread
    cldice: Spread
    seeds: int
    seeds_better: int  # where the foundation has the higher test Dice

    def verdict(self) -> str:
        """Say in one sentence whether the foundation helped, in test Dice."""
        start = f"{self.shots} shot{'s' if self.shots > 1 else ''}: foundation"
        value = f"{_signed(self.dice)} Dice ({self.seeds_better} of {self.seeds} seeds)"
        if self.dice.mean <= 0:
            return f"{start} NO better than random: {value}"
        if self.seeds_better < self.seeds:
            return f"{start} not clearly better than random: {value}"
        return f"{start} better than random: {value}"


def spread_of(
    results: Sequence[FinetuneResult], shots: int, start: str, name: str
) -> Spread:
    """Return mean and deviation of one field over the seeds of one row.

    Args:
        results: Of the whole study.
        shots: Row.
        start: Row, one of STARTS.
        name: A field of `FinetuneResult`.

    Returns:
        The spread.
    """
    return Spread.of(
        [
            getattr(one, name)
            for one in results
            if (one.shots, one.start) == (shots, start)
        ]
    )


def gains_of(results: Sequence[FinetuneResult]) -> list[Gain]:
    """Compare both starts, seed by seed.

    Args:
        results: Of the whole study; both starts have the same shots and seeds.

    Returns:
        One gain for each number of shots, ascending.
    """
    by_run = {(one.shots, one.start, one.seed): one for one in results}
    gains = []
    for shots in sorted({one.shots for one in results}):
        seeds = sorted({one.seed for one in results if one.shots == shots})
        pairs = [
            tuple(by_run[shots, start, seed] for start in STARTS) for seed in seeds
        ]
        dice = [after.test_dice - before.test_dice for before, after in pairs]
        cldice = [after.test_cldice - before.test_cldice for before, after in pairs]
        better = sum(value > 0 for value in dice)
        gains.append(
            Gain(shots, Spread.of(dice), Spread.of(cldice), len(seeds), better)
        )
    return gains


def budget_notes(results: Sequence[FinetuneResult]) -> list[str]:
    """Tell where training did not help, so that a gain may be due to a small budget.

    Args:
        results: Of the whole study.

    Returns:
        A sentence for each start with runs whose best step is 0, before training.
    """
    notes = []
    for start in STARTS:
        steps = [one.chosen_step for one in results if one.start == start]
        if 0 in steps:
            notes.append(
                f"from {start}: step 0 is the best of {steps.count(0)} of "
                f"{len(steps)} runs; more steps may change the comparison"
            )
    return notes


def fewshot_table(results: Sequence[FinetuneResult]) -> Table:
    """Lay the study out for a terminal.

    Args:
        results: Of the whole study.

    Returns:
        A row for each number of shots and start; under it how values were averaged
        and, for each number of shots, whether the foundation helped.
    """
    table = Table(
        title="Few-shot finetuning on an unseen domain, test frames",
        caption=_caption(results),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,  # else it does not fit into 80 columns
    )
    for name in ("shots", "start", "Dice", "clDice", "gain in Dice"):
        alignment = "left" if name == "start" else "right"
        table.add_column(name, justify=alignment, no_wrap=True)
    table.add_column("missed /\nfalse alarms", justify="right", no_wrap=True)
    gains = {gain.shots: gain for gain in gains_of(results)}
    for shots, gain in gains.items():
        for start in STARTS:
            is_last = start == STARTS[-1]
            colour = "green" if gain.dice.mean > 0 else "red"
            table.add_row(
                str(shots) if start == STARTS[0] else "",
                start,
                str(spread_of(results, shots, start, "test_dice")),
                str(spread_of(results, shots, start, "test_cldice")),
                f"[{colour}]{_signed(gain.dice)}[/{colour}]" if is_last else "",
                " / ".join(
                    f"{spread_of(results, shots, start, name).mean:.1f}"
                    for name in ("missed", "false_alarms")
                ),
                end_section=is_last,
            )
    return table


def write_report(
    results: Sequence[FinetuneResult],
    settings: FinetuneSettings,
    card: Mapping[str, Any],
    output: Path,
) -> None:
    """Write `fewshot.csv` (every run) and `fewshot.json` (everything).

    Args:
        results: Of the whole study, in the order to write them.
        settings: Of the study.
        card: Of the foundation.
        output: Folder; made if it is missing.
    """
    output.mkdir(parents=True, exist_ok=True)
    names = [field.name for field in fields(FinetuneResult)]
    with (output / "fewshot.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(name.replace("_", "-") for name in names)
        writer.writerows([getattr(one, name) for name in names] for one in results)
    gains = gains_of(results)
    content = {
        "protocol": PROTOCOL,
        "settings": _kebab(asdict(settings)),
        "foundation": {
            key: card.get(key)
            for key in ("model-name", "image-size", "seed", "domains", "weights-digest")
        },
        "runs": [_kebab(asdict(one)) for one in results],
        "summary": [
            _summary_row(results, gain, start) for gain in gains for start in STARTS
        ],
        "gains": [_kebab(asdict(gain)) for gain in gains],
        "verdict": [*(gain.verdict() for gain in gains), *budget_notes(results)],
        "versions": installed_versions(),
    }
    write_json(output / "fewshot.json", content)


def _summary_row(
    results: Sequence[FinetuneResult], gain: Gain, start: str
) -> dict[str, Any]:
    return {
        "shots": gain.shots,
        "start": start,
        "seeds": gain.seeds,
        **{
            name.replace("_", "-"): asdict(spread_of(results, gain.shots, start, name))
            for name in ("test_dice", "test_cldice", "test_dice_per_image")
        },
    }


def _caption(results: Sequence[FinetuneResult]) -> str:
    frames = max(one.test_frames for one in results)
    seeds = len({one.seed for one in results})
    return "\n".join(
        [
            f"mean ± sample sd, seeds: {seeds}; pooled over {frames} test frames and "
            "all classes",
            "missed: labels without prediction; false alarms: the converse (means)",
            *(gain.verdict() for gain in gains_of(results)),
            *budget_notes(results),
        ]
    )


def _signed(spread: Spread) -> str:
    return str(spread) if spread.mean < 0 else f"+{spread}"


def _kebab(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("_", "-"): value for key, value in content.items()}
