import pytest

from strategies.topology import complete, ring


def test_everyone_on_the_ring_learns_from_the_one_before() -> None:
    assert ring(["c", "a", "b"]) == {"a": ("c",), "b": ("a",), "c": ("b",)}


def test_two_silos_teach_each_other() -> None:
    assert ring(["a", "b"]) == {"a": ("b",), "b": ("a",)}


@pytest.mark.parametrize("topology", [ring, complete])
def test_a_lone_silo_has_no_teacher(topology: type) -> None:
    assert topology(["a"]) == {"a": ()}


def test_in_the_complete_graph_all_others_teach() -> None:
    assert complete(["b", "c", "a"]) == {
        "a": ("b", "c"),
        "b": ("a", "c"),
        "c": ("a", "b"),
    }
