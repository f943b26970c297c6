"""A checked folder on one screen: totals, sequences, problems and a verdict.

Nothing here knows a path or a name; sequences and patients have their pseudonyms.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clients.data.catalogue import Problem, Severity
from clients.data.findings import CheckReport, SequenceFindings
from models.classes import CLASS_NAMES

MAX_ROWS = 12  # sequences, unless all are wanted
MAX_PLACES = 3  # of one problem
COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow"}


def show_report(console: Console, report: CheckReport, *, show_all: bool) -> None:
    """Print a report.

    Args:
        console: Where to print; narrow ones get fewer columns.
        report: What to print.
        show_all: Every sequence and every place of a problem, however many.
    """
    for line in total_lines(report):
        console.print(line, highlight=False)
    if report.sequences:
        table = sequence_table(report, wide=True, show_all=show_all)
        unlimited = console.options.update(width=10 * console.width)
        if console.measure(table, options=unlimited).maximum > console.width:
            table = sequence_table(report, wide=False, show_all=show_all)
        console.print(table)
    if report.problems:
        console.print(problem_table(report.problems, show_all=show_all))
    console.print(verdict(report), highlight=False)


def total_lines(report: CheckReport) -> list[str]:
    """Say in a few lines what the folder holds.

    Args:
        report: What to sum up.

    Returns:
        Lines with Rich markup.
    """
    counts = (
        f"[bold]{_count(report.num_patients, 'patient')}, "
        f"{_count(len(report.sequences), 'sequence')}, "
        f"{_count(report.count('frames'), 'frame')}[/]: "
        f"{report.count('labelled')} labelled"
    )
    if report.count("damaged"):
        counts += f", [red]{report.count('damaged')} damaged[/]"
    if not report.sequences:
        return [counts]
    facts = {
        "size": _sizes(report),
        "bits": _numbers(report, "bits", "bit"),
        "modality": "/".join(map(str, report.known("modality"))),
        "pixel spacing": _numbers(report, "spacing_mm", "mm/px"),
        "frame time": _numbers(report, "frame_time_ms", "ms between frames"),
    }
    parts = [text for text in facts.values() if text]
    unknown = [name for name, text in facts.items() if not text]
    if unknown:
        parts.append(f"unknown: {', '.join(unknown)}")
    return [counts, " · ".join(parts), _devices(report)]


def sequence_table(report: CheckReport, *, wide: bool, show_all: bool) -> Table:
    """Lay the sequences out, one a row.

    Args:
        report: With at least one sequence.
        wide: With all columns; else those that fit on a terminal of 80.
        show_all: Every sequence, however many.

    Returns:
        The table; its caption says what was left out.
    """
    shown = report.sequences if show_all else report.sequences[:MAX_ROWS]
    classes = report.spec.labels.classes
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1) if wide else 0,
        caption=_caption(len(report.sequences) - len(shown), classes),
        caption_justify="left",
    )
    optional = ("Kind", "Bits", "ms") if wide else ()
    for name in ("Sequence", "Patient"):
        table.add_column(name, no_wrap=True)
    for name in ("Labelled", "Size px", *optional, "mm/px", *classes):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Devices", no_wrap=True)
    for sequence in shown:
        table.add_row(*_cells(sequence, classes, wide))
    return table


def problem_table(problems: Iterable[Problem], *, show_all: bool) -> Table:
    """Lay the problems out, each text once.

    Args:
        problems: In order.
        show_all: Every place of a problem, however many.

    Returns:
        The table, two columns without a head.
    """
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for group in group_problems(problems):
        count = len(group.problems)
        times = f" {count}×" if count > 1 else ""
        colour = COLOURS[group.severity]
        what = escape(group.what[:1].upper() + group.what[1:].rstrip("."))
        places = group.places(None if show_all else MAX_PLACES)
        table.add_row(
            f"[{colour}]{group.severity}[/]{times}",
            f"{what}\n[dim]{places}[/]" if places else what,
        )
    return table


@dataclass(frozen=True)
class ProblemGroup:
    """Problems with one text."""

    severity: Severity
    what: str
    problems: tuple[Problem, ...]

    def places(self, limit: int | None) -> str:
        """Say where they are.

        Args:
            limit: Of sequences that are listed, None = all.

        Returns:
            Pseudonyms with frame numbers, and how many more there are; "" where the
            whole folder is meant.
        """
        frames: dict[str, list[int]] = {}
        for problem in self.problems:
            if problem.sequence:
                found = frames.setdefault(problem.sequence, [])
                found += [] if problem.frame is None else [problem.frame]
        shown = list(frames.items())[:limit]
        texts = [_place(name, numbers, limit) for name, numbers in shown]
        if len(shown) < len(frames):
            texts.append(_count(len(frames) - len(shown), "more sequence"))
        return "; ".join(texts)


def group_problems(problems: Iterable[Problem]) -> list[ProblemGroup]:
    """Put problems with the same text together, in the order of the first of each."""
    groups: dict[tuple[Severity, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.severity, problem.what), []).append(problem)
    return [ProblemGroup(*key, tuple(found)) for key, found in groups.items()]


def verdict(report: CheckReport) -> str:
    """Say in one line, with Rich markup, whether the folder can be used."""
    counts = (
        f"{_count(len(report.errors), 'error')}, "
        f"{_count(len(report.warnings), 'warning')}"
    )
    if not report.errors:
        return f"[bold green]Ready:[/] {counts}."
    helps = 0 < report.count("damaged") < report.count("frames")
    advice = ""
    if helps and not report.spec.skip_damaged:
        advice = "; --skip-damaged leaves damaged frames out"
    return f"[bold red]Not ready:[/] {counts}{advice}."


def _cells(
    sequence: SequenceFindings, classes: Sequence[str], wide: bool
) -> Iterable[str]:
    facts, foreground = sequence.facts, sequence.foreground
    yield sequence.id
    yield sequence.patient
    yield f"{sequence.labelled}/{sequence.frames}"
    sizes = [f"{width}×{height}" for height, width in sequence.sizes]
    yield sizes[0] if len(sizes) == 1 else "differ" if sizes else "–"
    if wide:
        yield facts.modality or "–"
        yield str(facts.bits)
        yield _number(facts.frame_time_ms)
    yield _number(facts.spacing_mm)
    for name in classes:
        nothing = "none" if sequence.labelled else "–"
        yield f"{foreground[name]:.2%}" if sequence.drawn[name] else nothing
    polarity = sequence.polarity
    yield (polarity or "–") + (_share(polarity, sequence.score) if wide else "")


def _devices(report: CheckReport) -> str:
    measured = report.polarity or "not measurable"
    share = _share(report.polarity, report.score, " of their length")
    declared = report.spec.device_polarity
    text = f"devices [bold]{measured}[/]{share}, declared {declared}"
    absent = [n for n in CLASS_NAMES if n not in report.spec.labels.classes]
    return f"{text} · not annotated: {', '.join(absent)}" if absent else text


def _caption(num_hidden: int, classes: Sequence[str]) -> str:
    notes = [
        f"{', '.join(classes)}: share of the pixels of labelled frames",
        "Devices: darker or brighter than what is beside them",
    ]
    if num_hidden:
        notes.insert(0, f"… and {num_hidden} more (--all shows them)")
    return "\n".join(notes)


def _sizes(report: CheckReport) -> str:
    sizes = [f"{width}×{height}" for height, width in report.sizes]
    if len(sizes) > 2:
        return f"{len(sizes)} sizes, most {sizes[0]} px"
    return f"{' and '.join(sizes)} px" if sizes else ""


def _numbers(report: CheckReport, name: str, unit: str) -> str:
    values = report.known(name)
    if not values:
        return ""
    ends = dict.fromkeys(_number(value) for value in (values[0], values[-1]))
    missing = sum(getattr(one.facts, name) is None for one in report.sequences)
    rest = f" (unknown in {missing})" if missing else ""
    return f"{' to '.join(ends)} {unit}{rest}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _share(polarity: str, score: float | None, of_what: str = "") -> str:
    """Say in which share of the pieces devices are as the word says."""
    if polarity not in ("dark", "bright") or score is None:
        return ""
    return f" ({(1 + abs(score)) / 2:.0%}{of_what})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _place(sequence: str, frames: Sequence[int], limit: int | None) -> str:
    if not frames:
        return sequence
    numbers = ", ".join(map(str, frames[:limit]))
    rest = "" if limit is None or len(frames) <= limit else f" +{len(frames) - limit}"
    return f"{sequence} frame {numbers}{rest}"
