"""A checked folder on one screen, narrow or wide."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from clients.annotations.annotation import LabelMap
from clients.data.catalogue import Problem, Severity
from clients.data.findings import CheckReport
from experiments.check_json import report_content
from experiments.check_report import (
    group_problems,
    show_report,
    total_lines,
    verdict,
)
from models.classes import CLASS_NAMES
from tests.clients.reports import FACTS, SECRET, make_report, make_sequence

BAD, ODD = Severity.ERROR, Severity.WARNING


def shown(report: CheckReport, *, width: int = 80, show_all: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width)
    show_report(console, report, show_all=show_all)
    return console.file.getvalue()  # type: ignore[attr-defined]  # it is a StringIO


def two_classes(number: int) -> CheckReport:
    return make_report(
        [
            make_sequence(
                number,
                drawn={"catheter": 4, "guidewire": 0},
                area={"catheter": 2468, "guidewire": 0},
            )
        ],
        labels=LabelMap(classes=CLASS_NAMES),
    )


def test_totals_say_counts_sizes_spacing_and_polarity() -> None:
    report = make_report([make_sequence(1), make_sequence(2)])
    counts, facts, devices = total_lines(report)
    assert "2 patients, 2 sequences, 8 frames" in counts
    assert "8 labelled" in counts
    for part in ("100×50 px", "12 bit", "XA", "0.2 mm/px", "66.7 ms"):
        assert part in facts
    assert "dark" in devices
    assert "not annotated: guidewire" in devices


def test_totals_say_what_is_not_known() -> None:
    facts = replace(FACTS, modality="", spacing_mm=None, frame_time_ms=None)
    report = make_report([make_sequence(1, facts=facts, score=None)])
    lines = " ".join(total_lines(report))
    assert "unknown: modality, pixel spacing, frame time" in lines
    assert "not measurable" in lines


def test_totals_say_in_how_many_sequences_the_spacing_is_unknown() -> None:
    facts = replace(FACTS, spacing_mm=None)
    others = [make_sequence(2, facts=facts), make_sequence(3, facts=facts)]
    lines = " ".join(total_lines(make_report([make_sequence(1), *others])))
    assert "0.2 mm/px (unknown in 2)" in lines


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_broken_and_no_cell_is_cut(width: int) -> None:
    lines = shown(two_classes(1), width=width).splitlines()
    assert max(map(len, lines)) <= width
    (row,) = [line for line in lines if "S-AAAAAAAA01" in line]
    for part in ("P-AAAAAAAA01", "4/4", "100×50", "0.2", "12.34%", "none", "dark"):
        assert part in row
    assert "…" not in row


def test_a_wide_terminal_gets_modality_bits_and_frame_time() -> None:
    (row,) = [
        line
        for line in shown(two_classes(1), width=120).splitlines()
        if "S-AAAAAAAA01" in line
    ]
    for part in ("XA", "12", "66.7"):
        assert part in row.split()


def test_many_sequences_fit_on_one_screen_unless_all_are_wanted() -> None:
    report = make_report([make_sequence(number) for number in range(40)])
    text = shown(report)
    assert "… and 28 more (--all shows them)" in text
    assert len(text.splitlines()) <= 24
    assert "S-AAAAAAAA39" not in text
    assert "S-AAAAAAAA39" in shown(report, show_all=True)


def test_one_problem_in_many_frames_is_said_once_with_the_first_places() -> None:
    problems = [
        Problem(BAD, "the mask is too small", f"S-{sequence}", frame)
        for sequence in "ABCDE"
        for frame in range(1, 6)
    ]
    report = make_report([make_sequence(1)], *problems)
    (group,) = group_problems(report.problems)
    assert group.places(2) == "S-A frame 1, 2 +3; S-B frame 1, 2 +3; 3 more sequences"
    text = shown(report)
    assert text.casefold().count("the mask is too small") == 1
    assert "error 25×" in text
    everywhere = group.places(None)
    assert everywhere.endswith("S-E frame 1, 2, 3, 4, 5")


def test_a_problem_of_the_whole_folder_has_no_place() -> None:
    (group,) = group_problems([Problem(ODD, "links lead nowhere")])
    assert group.places(3) == ""


def test_brackets_in_a_problem_are_text_and_no_markup() -> None:
    text = shown(make_report([], Problem(BAD, "needs [0, 1] and [red]")))
    assert "[0, 1] and [red]" in text


def test_the_verdict_is_ready_with_warnings_and_not_with_errors() -> None:
    odd, bad = Problem(ODD, "odd"), Problem(BAD, "bad")
    good = make_sequence(1)
    assert verdict(make_report([good])) == (
        "[bold green]Ready:[/] 0 errors, 0 warnings."
    )
    assert "Ready:[/] 0 errors, 1 warning." in verdict(make_report([good], odd))
    assert "Not ready:[/] 1 error, 0 warnings." in verdict(make_report([good], bad))


def test_the_verdict_names_the_way_out_only_where_it_helps() -> None:
    bad = Problem(BAD, "bad")
    damaged = make_sequence(1, damaged=1)
    assert "--skip-damaged" in verdict(make_report([damaged], bad))
    assert "--skip-damaged" not in verdict(make_report([make_sequence(1)], bad))
    skipped = make_report([damaged], bad, skip_damaged=True)
    assert "--skip-damaged" not in verdict(skipped)


def test_an_empty_folder_has_a_verdict_and_no_table() -> None:
    text = shown(make_report([], Problem(BAD, "the folder is empty")))
    assert "0 patients, 0 sequences, 0 frames" in text
    assert "Not ready" in text
    assert "Sequence " not in text


def test_the_json_content_has_card_sequences_and_problems() -> None:
    problem = Problem(BAD, "bad", "S-AAAAAAAA01", 3)
    content = report_content(make_report([make_sequence(1)], problem))
    assert json.loads(json.dumps(content)) == content
    assert content["card"]["frames"] == 4
    (sequence,) = content["sequences"]
    assert sequence["id"] == "S-AAAAAAAA01"
    assert sequence["foreground-share"] == {"catheter": 0.01}
    assert sequence["spacing-origin"] == FACTS.spacing_origin
    assert content["problems"] == [
        {"severity": "error", "what": "bad", "sequence": "S-AAAAAAAA01", "frame": 3}
    ]
    assert SECRET not in json.dumps(content)
