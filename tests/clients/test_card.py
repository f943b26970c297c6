"""What a site may tell others of its data, and what the card must not hold."""

import json
from dataclasses import replace

from clients.annotations.annotation import LabelMap
from clients.data.card import build_card
from clients.data.catalogue import Problem, Severity
from tests.clients.reports import FACTS, SECRET, make_report, make_sequence


def test_a_card_sums_up_all_sequences() -> None:
    larger = make_sequence(
        2,
        patient="P-AAAAAAAA01",
        facts=replace(FACTS, modality="RF", spacing_mm=0.4, bits=8),
        frames=6,
        damaged=1,
        labelled=5,
        sizes={(100, 100): 5},
        drawn={"catheter": 5},
        area={"catheter": 3000},
        labelled_pixels=50_000,
        score=-0.5,
    )
    problems = (
        Problem(Severity.ERROR, "bad", "S-AAAAAAAA02", 3),
        Problem(Severity.WARNING, "odd"),
    )
    card = build_card(make_report([make_sequence(1), larger], *problems))
    assert card["schema"] == "endofed-data-card"
    assert card["digest-sha256"] == "d" * 64
    assert (card["patients"], card["sequences"]) == (1, 2)
    assert card["frames"] == 10
    assert card["frames-damaged"] == 1
    assert card["frames-labelled"] == 9
    assert card["classes"] == {
        "catheter": {
            "frames-drawn": 7,
            "frames-empty": 2,
            "foreground-share": 0.0457143,  # (200 + 3000) / (20000 + 50000)
        }
    }
    assert card["sizes-px"] == [
        {"height": 100, "width": 100, "frames": 5},
        {"height": 50, "width": 100, "frames": 4},
    ]
    assert card["bits"] == [8, 12]
    assert card["modalities"] == ["RF", "XA"]
    assert card["spacing-mm"] == {"lowest": 0.2, "highest": 0.4, "sequences-known": 2}
    assert card["device-polarity"] == {
        "measured": "dark",
        "score": -0.75,
        "declared": "unknown",
    }
    assert card["problems"] == {"errors": 1, "warnings": 1}


def test_what_nobody_knows_is_null_not_zero() -> None:
    facts = replace(FACTS, modality="", spacing_mm=None, frame_time_ms=None)
    bare = make_sequence(
        1, facts=facts, labelled=0, drawn={"catheter": 0}, labelled_pixels=0, score=None
    )
    card = build_card(make_report([bare]))
    unknown = {"lowest": None, "highest": None, "sequences-known": 0}
    assert card["spacing-mm"] == unknown
    assert card["frame-time-ms"] == unknown
    assert card["modalities"] == []
    assert card["classes"]["catheter"]["foreground-share"] is None
    assert card["device-polarity"]["measured"] is None
    assert card["device-polarity"]["score"] is None


def test_a_card_holds_neither_folder_nor_pseudonyms_nor_labels() -> None:
    problem = Problem(Severity.ERROR, "bad", "S-AAAAAAAA01", 3)
    text = json.dumps(build_card(make_report([make_sequence(1)], problem)))
    for secret in (SECRET, "S-A", "P-A", "secret-label", "nowhere"):
        assert secret not in text


def test_a_card_says_what_the_site_declares() -> None:
    labels = LabelMap(classes=("catheter",), line_width=1.5, line_unit="mm")
    report = make_report(
        [make_sequence(1)], labels=labels, min_patients=5, device_polarity="bright"
    )
    card = build_card(report)
    assert card["declared"] == {
        "layout": "auto",
        "classes": ["catheter"],
        "line-width": 1.5,
        "line-unit": "mm",
        "min-patients": 5,
        "skip-damaged": False,
    }
    assert card["device-polarity"]["declared"] == "bright"


def test_an_empty_folder_has_a_card() -> None:
    card = build_card(make_report([]))
    assert (card["patients"], card["frames"], card["sizes-px"]) == (0, 0, [])
    assert json.loads(json.dumps(card)) == card
