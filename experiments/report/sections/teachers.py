"""What teachers were worth to students: weights, scores, and where scores come from."""

import math
from collections.abc import Callable, Sequence
from statistics import fmean

from markupsafe import Markup

from experiments.report.bar_chart import divided_bar, fill_legend
from experiments.report.formats import MISSING, data_size, number, short
from experiments.report.heat_chart import (
    heat_over_rounds,
    pair_table,
    scale,
    whole_tenths,
)
from experiments.report.markup import (
    EMPTY,
    Section,
    bullets,
    figure,
    folded,
    joined,
    paragraph,
    side_by_side,
    table,
)
from experiments.report.plain_text import as_list, as_mapping, as_number
from experiments.report.run import Edge, Run

MAX_ROWS, MAX_ROUNDS = 60, 60  # of the heatmap

Pair = tuple[str, str]  # student, teacher


def teachers_section(run: Run) -> Section | None:
    """Show edges; None for a run without teachers."""
    between = [edge for edge in run.edges if not edge.is_control]
    if not between:
        return None
    parts = [
        side_by_side([_weights(between), _scores(run)]),
        _variance(run),
        folded("Every edge: means over the rounds", _edge_table(run.edges)),
    ]
    return Section("teachers", "Teachers and students", joined(parts))


def _weights(edges: Sequence[Edge]) -> Markup:
    """Draw the weight of every edge in every round."""
    known = [edge for edge in edges if edge.weight is not None]
    if not known:
        return EMPTY
    all_rounds = sorted({edge.round for edge in known})
    step = math.ceil(len(all_rounds) / MAX_ROUNDS)
    rounds = all_rounds[::step]
    pairs = sorted({(edge.student, edge.teacher) for edge in known})
    by_place = {(edge.student, edge.teacher, edge.round): edge.weight for edge in known}
    rows = {
        (teacher, student): [by_place.get((student, teacher, n)) for n in rounds]
        for student, teacher in pairs[:MAX_ROWS]
    }
    limits = whole_tenths(edge.weight for edge in known)
    chart = heat_over_rounds(
        rounds,
        rows,
        limits=limits,
        description=f"Weight of {len(rows)} edges in {len(rounds)} rounds",
    )
    notes = [f"Drawn: every {step} rounds."] if step > 1 else []
    if len(pairs) > len(rows):
        notes.append(f"{len(pairs) - len(rows)} further edges are not drawn.")
    parts = [chart, scale(limits, "weight"), *(paragraph(one, "note") for one in notes)]
    return figure(joined(parts), "Edge weights over the rounds (teacher → student)")


def _scores(run: Run) -> Markup:
    """Make the matrix of mean scores, with the diagonal where it was measured."""
    means = _means(run.edges, lambda edge: edge.score)
    if not means:
        return EMPTY
    has_control = any(student == teacher for student, teacher in means)
    diagonal = (
        "The diagonal is a control: a copy of the student that was trained at home, "
        "scored like a teacher."
        if has_control
        else "The diagonal was not measured (setting fedefm.diagonal)."
    )
    names = sorted({name for pair in means for name in pair})
    matrix = pair_table(
        names,
        means,
        corner="student ↓ teacher →",
        caption="Mean EMD score over the rounds (1 = alike)",
    )
    return joined(
        [Markup("<div>"), matrix, paragraph(diagonal, "note"), Markup("</div>")]
    )


def _variance(run: Run) -> Markup:
    """Show how much of the scores' variance each factor explains."""
    content = run.score_variance or as_mapping(run.result.get("emd"))
    found = {
        name: as_number(value)
        for name, value in as_mapping(content.get("shares")).items()
    }
    shares = {name: value for name, value in found.items() if value is not None}
    notes = [str(note) for note in as_list(content.get("notes"))]
    if not shares:
        return bullets(notes) if notes else EMPTY
    told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    named = [f"{name} {share:.0%}" for name, share in shares.items()]
    parts = [divided_bar(shares, description=f"Shares: {told}"), fill_legend(named)]
    parts.append(
        paragraph(
            f"Of {short(as_number(content.get('num_scores')))} scores, mean "
            f"{number(as_number(content.get('mean')))}, standard deviation "
            f"{number(as_number(content.get('spread')))}. Only what the pair of "
            "student and host explains can say who should teach whom.",
            "note",
        )
    )
    if notes:
        parts.append(bullets(notes))
    return figure(joined(parts), "Where the variance of the scores comes from")


def _edge_table(edges: Sequence[Edge]) -> Markup:
    columns: dict[str, Callable[[Edge], float | None]] = {
        "weight": lambda edge: edge.weight,
        "score": lambda edge: edge.score,
        "duality gap": lambda edge: edge.gap,
        "teacher's loss": lambda edge: edge.teacher_loss,
        "bytes a round": lambda edge: edge.num_bytes,
    }
    means = {name: _means(edges, read) for name, read in columns.items()}
    shown = [name for name in columns if means[name]]
    pairs = sorted({_pair(edge) for edge in edges})
    rows = []
    for student, teacher in pairs:
        is_own = student == teacher
        head = f"{student} (control)" if is_own else f"{teacher} → {student}"
        cells = [_write(name, means[name].get((student, teacher))) for name in shown]
        rows.append([head, *cells])
    return table(
        ["teacher → student", *shown],
        rows,
        caption="Edges, means over the rounds that have a number",
    )


def _write(name: str, value: float | None) -> str:
    if value is None:
        return MISSING
    if name == "bytes a round":
        return data_size(value)
    return f"{value:.1e}" if name == "duality gap" else number(value)


def _means(
    edges: Sequence[Edge], read: Callable[[Edge], float | None]
) -> dict[Pair, float]:
    found: dict[Pair, list[float]] = {}
    for edge in edges:
        if (value := read(edge)) is not None:
            found.setdefault(_pair(edge), []).append(value)
    return {pair: fmean(values) for pair, values in found.items()}


def _pair(edge: Edge) -> Pair:
    return edge.student, edge.student if edge.is_control else edge.teacher
