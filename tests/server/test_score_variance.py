"""Shares of variance: by hand, and against numpy's least squares on whole designs."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from server.journal import Journal
from server.records import EdgeRecord, RoundRecord
from server.score_variance import (
    ScoreVariance,
    describe,
    find_score_variance,
    flatten,
    write_score_variance,
)

Rounds = dict[int, list[EdgeRecord]]


def make_rounds(
    pairs: Sequence[tuple[str, str]],
    numbers: Sequence[int],
    score: Callable[[int, str, str], float],
) -> Rounds:
    """Score (student, host) pairs in rounds."""
    return {
        number: [EdgeRecord(s, h, score(number, s, h), 1.0) for s, h in pairs]
        for number in numbers
    }


def find(by_round: Rounds) -> ScoreVariance:
    found = find_score_variance(by_round)
    assert found is not None
    return found


BALANCED = [(student, host) for student in "ab" for host in "xy"]
COMPLETE = [(s, h) for s in "abcd" for h in "abcd" if s != h]
RING = [("a", "d"), ("b", "a"), ("c", "b"), ("d", "c")]


def test_a_balanced_table_splits_as_by_hand() -> None:
    # Eight scores 0.5 + round + host + student + pair, each effect plus or minus:
    # round 0.04, host 0.03, student 0.02, pair 0.01; so the sum of squares of each is
    # 8 times its square, and the total 8 * (16 + 9 + 4 + 1) * 1e-4 = 0.024.
    def score(number: int, student: str, host: str) -> float:
        r, h, s = 2 * number - 3, 2 * (host == "y") - 1, 2 * (student == "b") - 1
        return 0.5 + 0.04 * r + 0.03 * h + 0.02 * s + 0.01 * h * s

    found = find(make_rounds(BALANCED, [1, 2], score))
    assert found.shares == pytest.approx(
        {"round": 16 / 30, "host": 9 / 30, "student": 4 / 30, "pair": 1 / 30, "rest": 0}
    )
    assert found.freedom == {"round": 1, "host": 1, "student": 1, "pair": 1, "rest": 3}
    assert (found.num_scores, found.notes) == (8, ())
    assert found.mean == pytest.approx(0.5)
    assert found.spread == pytest.approx((0.024 / 8) ** 0.5)


def test_noise_of_single_rounds_is_the_rest() -> None:
    # Only the pair's change between two rounds: a product of round, host and student.
    def score(number: int, student: str, host: str) -> float:
        r, h, s = 2 * number - 3, 2 * (host == "y") - 1, 2 * (student == "b") - 1
        return 0.5 + 0.04 * r * h * s

    shares = find(make_rounds(BALANCED, [1, 2], score)).shares
    assert shares["rest"] == pytest.approx(1)


def reference_shares(by_round: Rounds) -> dict[str, float]:
    """Do it on the whole one-hot design, a column a level, with numpy's lstsq."""
    rows = [(r, e) for r, edges in by_round.items() for e in edges]
    scores = np.array([edge.score for _, edge in rows])
    keys = {
        "round": [r for r, _ in rows],
        "host": [e.teacher for _, e in rows],
        "student": [e.student for _, e in rows],
        "pair": [f"{e.student}/{e.teacher}" for _, e in rows],
    }
    design = np.ones((len(rows), 1))
    shares = {}
    total = left = ((scores - scores.mean()) ** 2).sum()
    for name, values in keys.items():
        one_hot = np.array(
            [[v == level for level in sorted(set(values))] for v in values]
        )
        design = np.hstack([design, one_hot])
        fit = design @ np.linalg.lstsq(design, scores)[0]
        residual = ((scores - fit) ** 2).sum()
        shares[name] = (left - residual) / total
        left = residual
    return {**shares, "rest": left / total}


def test_unbalanced_scores_split_as_a_least_squares_fit_does() -> None:
    generator = np.random.default_rng(0)
    effect = {name: generator.normal() for name in "abcd"}
    by_round = make_rounds(
        COMPLETE,
        range(1, 7),
        lambda number, s, h: (
            0.9
            + 0.01 * number
            + 0.02 * effect[h]
            + 0.01 * effect[s]
            + 0.01 * generator.normal()
        ),
    )
    by_round[3] = by_round[3][:5]  # a hospital was missing
    del by_round[5][7]
    found = find(by_round)
    assert found.shares == pytest.approx(reference_shares(by_round), abs=1e-9)
    assert sum(found.shares.values()) == pytest.approx(1)
    assert sum(found.freedom.values()) == found.num_scores - 1


def test_controls_change_no_share_and_are_told_apart() -> None:
    generator = np.random.default_rng(1)
    by_round = make_rounds(COMPLETE, [1, 2, 3], lambda *_: generator.normal())
    before = find(by_round)
    for edges in by_round.values():
        edges += [EdgeRecord(name, name, 5.0, None) for name in "ab"]
        edges.append(EdgeRecord("c", "c", 2.0, None))
    after = find(by_round)
    assert before.diagonal is None
    assert after.diagonal == pytest.approx(4.0)
    assert (after.shares, after.mean) == (before.shares, before.mean)


def test_in_a_ring_host_student_and_pair_are_one() -> None:
    level = dict(zip("abcd", [0.1, 0.2, 0.3, 0.4], strict=True))
    found = find(
        make_rounds(RING, [1, 2, 3], lambda number, s, _: level[s] + 0.1 * number)
    )
    # Rounds 0.1, 0.2, 0.3 have variance 2/300, levels 5/400.
    assert found.shares == pytest.approx(
        {"round": 8 / 23, "host+student+pair": 15 / 23, "rest": 0}
    )
    assert found.notes == (
        "host, student, pair cannot be told apart in these edges and rounds.",
    )


def test_two_hospitals_are_a_ring_too() -> None:
    pairs = [("a", "b"), ("b", "a")]
    found = find(make_rounds(pairs, [1, 2], lambda number, s, _: number + (s == "a")))
    assert list(found.shares) == ["round", "host+student+pair", "rest"]


def test_a_star_knows_hosts_but_not_students_from_pairs() -> None:
    pairs = [(leaf, "hub") for leaf in "abc"] + [("hub", leaf) for leaf in "abc"]
    found = find(make_rounds(pairs, [1, 2], lambda n, s, h: n * 0.1 + len(s) - len(h)))
    assert list(found.shares) == ["round", "host", "student+pair", "rest"]


def test_one_round_has_no_share_of_rounds_and_no_rest() -> None:
    generator = np.random.default_rng(2)
    found = find(make_rounds(COMPLETE, [4], lambda *_: generator.normal()))
    assert list(found.shares) == ["host", "student", "pair+rest"]
    assert found.notes == (
        "There is only one round: no share of the variance is its.",
        "pair, rest cannot be told apart in these edges and rounds.",
    )
    assert sum(found.shares.values()) == pytest.approx(1)


def test_one_edge_varies_by_round_only() -> None:
    found = find(make_rounds([("a", "b")], [1, 2, 3], lambda number, *_: number))
    assert found.shares == pytest.approx({"round+rest": 1})
    assert [note.split(":")[0] for note in found.notes[:3]] == [
        "There is only one host",
        "There is only one student",
        "There is only one pair",
    ]


def test_equal_scores_have_no_shares() -> None:
    found = find(make_rounds(COMPLETE, [1, 2], lambda *_: 1.0))
    assert found.shares == {}
    assert "equal" in found.notes[0]
    assert describe(found.to_json()) == "EMD score 1.000 (spread 0.000)"


def test_missing_scores_are_left_out() -> None:
    by_round = make_rounds(COMPLETE, [1, 2], lambda number, *_: float(number))
    by_round[1].append(EdgeRecord("a", "z", None, None))
    by_round[2].append(EdgeRecord("a", "z", float("nan"), None))
    assert find(by_round).num_scores == 2 * 12
    assert find_score_variance({}) is None
    assert find_score_variance({1: [EdgeRecord("a", "a", 0.9, None)]}) is None


def test_the_line_for_people_has_mean_spread_shares_and_diagonal() -> None:
    content = ScoreVariance(24, 0.93, 0.0123, 0.9512, {"round": 0.614, "host": 0.386})
    assert describe(content.to_json()) == (
        "EMD score 0.930 (spread 0.012); variance by round 61%, host 39%; "
        "diagonal 0.951"
    )
    assert flatten(content.to_json()) == {
        "emd/mean_score": 0.93,
        "emd/spread": 0.0123,
        "emd/mean_diagonal": 0.9512,
        "emd/variance/round": 0.614,
        "emd/variance/host": 0.386,
    }
    assert flatten({}) == {}


def test_it_is_written_into_the_run_folder(tmp_path: Path) -> None:
    journal = Journal.create(str(tmp_path / "run"), {}, datetime(2026, 11, 21))
    assert write_score_variance(journal) == {}
    assert not (journal.folder / "score_variance.json").exists()
    for number, edges in make_rounds(RING, [1, 2], lambda n, *_: float(n)).items():
        journal.round(RoundRecord(number, 1.0, {}, {}, tuple(edges)))
    content = write_score_variance(journal)
    assert content["mean"] == 1.5
    assert content["shares"]["round"] == pytest.approx(1)
    assert json.loads((journal.folder / "score_variance.json").read_text()) == content


def test_noise_is_shared_out_by_degrees_of_freedom() -> None:
    sites = [f"{index:02}" for index in range(12)]
    pairs = [(s, h) for s in sites for h in sites if s != h]
    generator = np.random.default_rng(3)
    found = find(make_rounds(pairs, range(1, 9), lambda *_: generator.normal()))
    assert list(found.shares) == ["round", "host", "student", "pair", "rest"]
    assert found.freedom["pair"] == 132 - 1 - 11 - 11
    # Of noise every degree of freedom takes about the same.
    assert found.shares["rest"] == pytest.approx(found.freedom["rest"] / 1055, abs=0.05)
