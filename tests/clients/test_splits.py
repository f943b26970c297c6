"""Patients stay whole, and stay where they are when data are added."""

import hashlib
import random
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.data.errors import DataError
from clients.data.frames import FrameSet
from clients.data.splits import (
    Split,
    hashed_fraction,
    split_by_count,
    split_by_patient,
    take_part,
)

MakeFrames = Callable[[list[int]], FrameSet]

TOKENS = st.integers(0, 2**63 - 1)
SEEDS = st.integers(0, 2**63 - 1)
PATIENTS = st.sets(TOKENS, min_size=3, max_size=40)
SHARES = st.tuples(st.floats(0.01, 0.49), st.floats(0.01, 0.49))


def frames_of(patients: list[int], sequences: list[int] | None = None) -> FrameSet:
    """One frame of one pixel for each entry; its grey value is its number."""
    count = len(patients)
    return FrameSet(
        images=(torch.arange(count, dtype=torch.float32) / 4096).view(-1, 1, 1, 1),
        masks=torch.zeros(count, 2, 1, 1, dtype=torch.uint8),
        annotated=torch.ones(count, 2, dtype=torch.bool),
        sequences=torch.tensor(sequences or range(count)),
        patients=torch.tensor(patients),
    )


def parts_of(split: Split) -> dict[str, list[int]]:
    """Return the tokens of each part's frames."""
    names = ("test", "validation", "train")
    return {name: getattr(split, name).patients.tolist() for name in names}


def place_of(split: Split) -> dict[int, str]:
    """Return the part of each patient; fails if one is in two parts."""
    places: dict[int, str] = {}
    for part, tokens in parts_of(split).items():
        for token in set(tokens):
            assert token not in places
            places[token] = part
    return places


def rule(token: int, seed: int, validation: float = 0.2, test: float = 0.2) -> str:
    """Say where a patient belongs, written a second time with other arithmetic."""
    digest = hashlib.sha256(f"split {seed}:{token}".encode()).hexdigest()
    u = int(digest[:16], 16) / 2**64
    if u < test:
        return "test"
    return "validation" if u < test + validation else "train"


@settings(max_examples=50, deadline=None)
@given(patients=PATIENTS, seed=SEEDS, shares=SHARES)
def test_every_part_has_a_patient_and_nobody_is_in_two_or_lost(
    patients: set[int], seed: int, shares: tuple[float, float]
) -> None:
    frames = frames_of([token for token in patients for _ in range(2)])
    split = split_by_patient(
        frames, seed=seed, validation_share=shares[0], test_share=shares[1]
    )
    assert set(place_of(split)) == patients
    assert all(parts_of(split).values())
    numbers = [part.sequences for part in (split.train, split.validation, split.test)]
    assert torch.cat(numbers).sort().values.tolist() == list(range(len(frames)))


@settings(max_examples=50, deadline=None)
@given(patients=PATIENTS, added=st.sets(TOKENS, max_size=20), seed=SEEDS)
def test_added_patients_move_nobody_that_the_rule_has_placed(
    patients: set[int], added: set[int], seed: int
) -> None:
    before = place_of(split_by_patient(frames_of(sorted(patients)), seed=seed))
    everyone = sorted(patients | added)
    after = place_of(split_by_patient(frames_of(everyone), seed=seed))
    if len({rule(token, seed) for token in patients}) == 3:
        assert before == {token: rule(token, seed) for token in patients}
        assert {token: after[token] for token in patients} == before
    for places in (before, after):
        for token, part in places.items():
            if part != rule(token, seed):  # taken, and so alone in its part
                assert list(places.values()).count(part) == 1
                assert part not in {rule(other, seed) for other in places}


@settings(max_examples=50, deadline=None)
@given(patients=PATIENTS, seed=SEEDS, order=st.randoms())
def test_the_order_of_frames_does_not_matter(
    patients: set[int], seed: int, order: random.Random
) -> None:
    tokens = sorted(patients)
    shuffled = tokens.copy()
    order.shuffle(shuffled)
    first = place_of(split_by_patient(frames_of(tokens), seed=seed))
    assert place_of(split_by_patient(frames_of(shuffled), seed=seed)) == first


@settings(max_examples=50, deadline=None)
@given(patients=PATIENTS, seed=SEEDS, of=st.integers(1, 6))
def test_parts_of_a_folder_are_disjoint_and_complete(
    patients: set[int], seed: int, of: int
) -> None:
    frames = frames_of(sorted(patients))
    found: list[int] = []
    for number in range(1, of + 1):
        try:
            found += take_part(frames, number, of).patients.tolist()
        except DataError as error:
            assert f"falls into part {number}/{of}" in str(error)
    assert sorted(found) == sorted(patients)


def test_a_patient_stays_in_its_part_of_a_folder_when_others_are_added() -> None:
    few = take_part(frames_of(list(range(40))), 2, 3).patients.tolist()
    many = take_part(frames_of(list(range(90))), 2, 3).patients.tolist()
    assert [token for token in many if token < 40] == few
    assert 20 <= len(many) <= 40  # a third of 90, as dice fall


def test_parts_of_a_folder_say_nothing_of_the_split() -> None:
    frames = frames_of(list(range(3000)))
    split = place_of(split_by_patient(frames, seed=0))
    first = take_part(frames, 1, 2).patients.tolist()
    share = sum(split[token] == "test" for token in first) / len(first)
    assert share == pytest.approx(0.2, abs=0.04)  # 0.4 if both were one draw


@pytest.mark.parametrize(("number", "of"), [(0, 3), (4, 3), (1, 0)])
def test_a_part_that_does_not_exist_is_refused(number: int, of: int) -> None:
    with pytest.raises(DataError, match=r"A part must be"):
        take_part(frames_of([0, 1, 2]), number, of)


def test_the_shares_are_reached_as_dice_reach_them() -> None:
    split = split_by_patient(frames_of(list(range(2000))), seed=7)
    assert len(split.test) / 2000 == pytest.approx(0.2, abs=0.03)
    assert len(split.validation) / 2000 == pytest.approx(0.2, abs=0.03)


def test_the_patient_nearest_to_an_empty_part_fills_it() -> None:
    # All four belong to the training part by the rule.
    by_u = sorted(range(30), key=lambda token: hashed_fraction(f"split 0:{token}"))
    high = [t for t in by_u if hashed_fraction(f"split 0:{t}") >= 0.4][:4]
    places = place_of(split_by_patient(frames_of(high), seed=0))
    assert places == {
        high[0]: "test",
        high[1]: "validation",
        high[2]: "train",
        high[3]: "train",
    }


def test_several_sequences_of_one_patient_stay_together() -> None:
    frames = frames_of([5, 5, 5, 7, 7, 9, 9], [0, 0, 1, 2, 3, 4, 5])
    split = split_by_patient(frames, seed=0)
    assert sorted(map(len, (split.train, split.validation, split.test))) == [2, 2, 3]
    assert len(place_of(split)) == 3


def test_where_patients_are_not_known_sequences_are_divided(
    make_frames: MakeFrames,
) -> None:
    split = split_by_patient(make_frames([0, 0, 0, 3, 3, 4, 9]), seed=1)
    parts = (split.train, split.validation, split.test)
    found = [set(part.sequences.tolist()) for part in parts]
    assert set.union(*found) == {0, 3, 4, 9}
    assert sum(map(len, found)) == 4


def test_a_sequence_of_two_patients_is_refused() -> None:
    with pytest.raises(DataError, match="sequence must be of one patient"):
        split_by_patient(frames_of([1, 2, 3, 4], [0, 0, 1, 2]), seed=0)


def test_two_patients_are_too_few_and_the_error_says_so() -> None:
    frames = frames_of([1, 1, 1, 2, 2])
    with pytest.raises(DataError, match=r"at least 3 patients.*got 2"):
        split_by_patient(frames, seed=0)


@pytest.mark.parametrize("shares", [(0.0, 0.2), (0.2, 1.0), (0.6, 0.4), (-0.1, 0.2)])
def test_impossible_shares_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(DataError, match="shares"):
        split_by_patient(
            frames_of([0, 1, 2]),
            seed=0,
            validation_share=shares[0],
            test_share=shares[1],
        )


def test_the_seed_decides() -> None:
    frames = frames_of(list(range(10)))
    found = [place_of(split_by_patient(frames, seed=seed)) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_frames_keep_their_order_within_a_part() -> None:
    train = split_by_patient(frames_of([0, 1, 2, 3] * 3), seed=0).train
    grey = train.images.flatten()
    assert torch.equal(grey, grey.sort().values)


@settings(max_examples=50, deadline=None)
@given(patients=PATIENTS, seed=SEEDS)
def test_a_split_by_count_has_exact_numbers(patients: set[int], seed: int) -> None:
    frames = frames_of(sorted(patients))
    split = split_by_count(frames, seed=seed, validation_patients=1, test_patients=1)
    sizes = {part: len(tokens) for part, tokens in parts_of(split).items()}
    assert sizes == {"test": 1, "validation": 1, "train": len(patients) - 2}
    assert set(place_of(split)) == patients


@pytest.mark.parametrize("counts", [(0, 1), (1, 0), (2, 2), (5, 1)])
def test_counts_that_leave_a_part_empty_are_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(DataError, match="must leave one for training: of 4 patients"):
        split_by_count(
            frames_of([0, 1, 2, 3]),
            seed=0,
            validation_patients=counts[0],
            test_patients=counts[1],
        )


def test_a_hash_is_the_first_bits_of_sha256() -> None:
    # printf 'split 3:12' | sha256sum begins with these digits.
    assert hashed_fraction("split 3:12") == pytest.approx(
        int("e6123fed35b2619d", 16) / 2**64, abs=1e-15
    )
