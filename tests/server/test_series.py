import math

from server.records import EdgeRecord
from server.series import (
    edge_series,
    edges_by_round,
    last_value,
    mean_edges,
    mean_scores,
    overall_series,
    site_names,
    site_series,
    student_series,
    without_controls,
    worst_site,
)


def make_edge(student: str, teacher: str, score: float | None) -> dict[str, object]:
    return {"student": student, "teacher": teacher, "score": score, "weight": 1.0}


EVENTS = [
    {"event": "start", "sites": ["b", "a", "absent"], "num_rounds": 2},
    {"event": "round", "round": 0, "sites": {"a": {"val/dice": 0.2}}, "edges": []},
    {"event": "phase", "round": 1, "phase": "overseas", "replied": ["a"]},
    {
        "event": "round",
        "round": 1,
        "sites": {"a": {"val/dice": 0.6}, "b": {"val/dice": 0.5}},
        "global": {"val/dice": 0.55},
        "edges": [make_edge("b", "a", 0.8), make_edge("a", "b", 0.4)],
    },
    {"event": "tracking", "tracking": "failed"},
    {
        "event": "round",
        "round": 2,
        "sites": {"a": {"val/dice": None}, "b": {}},
        "global": {"val/dice": None},
        "edges": [make_edge("a", "b", 0.6), make_edge("a", "c", None)],
    },
]


def same(found: list[float], wanted: list[float]) -> bool:
    """Compare two series in which NaN equals NaN."""
    return str(found) == str(wanted)


def test_missing_numbers_are_gaps_and_not_zeros() -> None:
    rounds, values = site_series(EVENTS, "b", "val/dice")
    assert rounds == [0, 1, 2]
    assert same(values, [math.nan, 0.5, math.nan])
    assert same(overall_series(EVENTS, "val/dice")[1], [math.nan, 0.55, math.nan])


def test_a_round_after_which_nobody_measured_is_no_gap() -> None:
    events = [
        {"event": "round", "round": 1, "global": {"train/loss": 1.0}, "sites": {}},
        {
            "event": "round",
            "round": 2,
            "global": {"train/loss": 0.5, "val/dice": 0.7},
            "sites": {"ward": {"val/dice": 0.7}, "wing": {"train/loss": 0.5}},
        },
    ]
    assert overall_series(events, "val/dice") == ([2], [0.7])
    assert overall_series(events, "train/loss") == ([1, 2], [1.0, 0.5])
    assert site_series(events, "ward", "val/dice") == ([2], [0.7])
    rounds, values = site_series(events, "wing", "val/dice")
    assert rounds == [2]
    assert math.isnan(values[0])


def test_a_site_that_never_answered_is_named_too() -> None:
    assert site_names(EVENTS) == ["a", "absent", "b"]


def test_the_worst_site_is_that_of_the_last_round_with_numbers() -> None:
    assert worst_site(EVENTS[:2]) == "a"
    assert worst_site(EVENTS) == "b"
    assert worst_site(EVENTS[:1]) is None


def test_the_last_value_is_the_last_that_is_a_number() -> None:
    assert last_value(site_series(EVENTS, "a", "val/dice")) == (1, 0.6)
    assert last_value(site_series(EVENTS, "absent", "val/dice")) is None


def test_edges_come_sorted_and_only_from_rounds_that_have_some() -> None:
    by_round = edges_by_round(EVENTS)
    assert list(by_round) == [1, 2]
    assert by_round[1] == [
        EdgeRecord("a", "b", 0.4, 1.0),
        EdgeRecord("b", "a", 0.8, 1.0),
    ]


def test_the_mean_score_counts_only_rounds_with_a_score() -> None:
    assert mean_scores(edges_by_round(EVENTS)) == {("a", "b"): 0.5, ("b", "a"): 0.8}


def test_an_edge_that_pauses_has_a_gap() -> None:
    series = edge_series(edges_by_round(EVENTS), "score")
    assert same(series["b", "a"], [0.8, math.nan])
    assert same(series["a", "c"], [math.nan, math.nan])


def test_a_student_gets_the_mean_of_the_teachers_that_it_had() -> None:
    series = {("a", "b"): [0.2, 0.4], ("a", "c"): [0.6, math.nan], ("b", "a"): [1, 1]}
    assert student_series(series) == {("a", ""): [0.4, 0.4], ("b", ""): [1, 1]}


def test_what_is_written_of_an_edge_is_what_is_read() -> None:
    edge = EdgeRecord("a", "b", 0.4, None, gap=1e-9, teacher_loss=0.5, num_bytes=7)
    event = {"event": "round", "round": 1, "edges": [edge.to_json()]}
    assert edges_by_round([event]) == {1: [edge]}


def test_controls_are_edges_of_a_silo_with_itself() -> None:
    between, own = EdgeRecord("a", "b", 0.4, 1.0), EdgeRecord("a", "a", 0.9, None)
    assert (between.is_control, own.is_control) == (False, True)
    assert without_controls({1: [own, between], 2: [own]}) == {1: [between]}


def test_mean_edges_have_mean_scores_and_all_their_bytes() -> None:
    by_round = {
        1: [EdgeRecord("a", "b", 0.4, 1.0, num_bytes=10)],
        2: [
            EdgeRecord("a", "b", 0.8, None, num_bytes=5),
            EdgeRecord("b", "a", None, 0),
        ],
    }
    first, second = mean_edges(by_round)
    assert (first.student, first.teacher, first.weight, first.num_bytes) == (
        ("a", "b", 1.0, 15)
    )
    assert first.score is not None
    assert math.isclose(first.score, 0.6)
    assert (second.score, second.weight, second.num_bytes) == (None, 0, 0)
