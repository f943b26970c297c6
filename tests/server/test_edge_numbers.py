from server.edge_numbers import add_bytes, describe_edges, edge_numbers, read_edges
from server.records import EdgeRecord


def test_a_reply_without_scores_has_no_edges() -> None:
    assert read_edges("a", {"loss": 1.0, "weight:b": 0.5}) == []
    assert edge_numbers([]) == {}


def test_a_number_that_nobody_has_is_not_named() -> None:
    edges = [EdgeRecord("a", "b", 0.5, None), EdgeRecord("a", "c", float("nan"), None)]
    assert edge_numbers(edges) == {"emd/score": 0.5}


def test_controls_alone_make_no_score() -> None:
    assert edge_numbers([EdgeRecord("a", "a", 0.9, None)]) == {"emd/diagonal": 0.9}


def test_what_cost_bytes_is_an_edge_even_without_a_score() -> None:
    scored = EdgeRecord("b", "a", 0.9, 1.0)
    assert add_bytes([scored], {("b", "a"): 7, ("a", "b"): 5}) == (
        EdgeRecord("a", "b", None, None, num_bytes=5),
        EdgeRecord("b", "a", 0.9, 1.0, num_bytes=7),
    )


def test_few_teachers_are_named_and_many_counted() -> None:
    few = [EdgeRecord("a", name, 0.9, 0.5) for name in "bc"]
    assert describe_edges(few) == ["a learns from b 0.900 (0.50), c 0.900 (0.50)"]
    many = [EdgeRecord("a", name, 0.1 * n, 0.5) for n, name in enumerate("bcdefgh")]
    many.append(EdgeRecord("a", "a", 0.95, None))
    assert describe_edges(many) == [
        "a learns from 7 teachers 0.300 (0.000 to 0.600); itself 0.950"
    ]


def test_edges_without_a_score_are_not_talked_of() -> None:
    assert describe_edges([EdgeRecord("a", "b", None, None, num_bytes=5)]) == []
    own = EdgeRecord("a", "a", 0.9, None)
    assert describe_edges([own]) == ["a learns from nobody; itself 0.900"]
