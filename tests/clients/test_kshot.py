"""Few labelled frames: spread, nested, and never empty or held out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.data.errors import DataError
from clients.data.frames import FrameSet
from clients.data.kshot import draw_shots
from clients.data.splits import split_by_patient

# Which devices a frame shows: none, catheter, guidewire, both.
EMPTY, CATHETER, WIRE, BOTH = [0, 0], [1, 0], [0, 1], [1, 1]


def frames_of(
    shown: list[list[int]],
    patients: list[int],
    sequences: list[int] | None = None,
    annotated: list[list[bool]] | None = None,
) -> FrameSet:
    """Frames of four pixels, with one pixel marked for each device."""
    count = len(shown)
    masks = torch.zeros(count, 2, 2, 2, dtype=torch.uint8)
    masks[:, :, 1, 0] = torch.tensor(shown, dtype=torch.uint8)
    return FrameSet(
        images=torch.zeros(count, 1, 2, 2),
        masks=masks,
        annotated=torch.tensor(annotated or [[True, True]] * count),
        sequences=torch.tensor(sequences or patients),
        patients=torch.tensor(patients),
    )


@st.composite
def pools(draw: st.DrawFn) -> FrameSet:
    """Frames of up to six patients with up to three sequences each, in any order."""
    owners = draw(st.lists(st.integers(0, 5), min_size=1, max_size=40))
    kinds = st.sampled_from([EMPTY, CATHETER, WIRE, BOTH])
    shown = [draw(kinds) for _ in owners]
    sequences = [3 * owner + draw(st.integers(0, 2)) for owner in owners]
    return frames_of(shown, owners, sequences)


def useful(frames: FrameSet) -> int:
    return int((frames.masks.flatten(1).amax(dim=1) > 0).sum())


@settings(max_examples=50, deadline=None)
@given(pool=pools(), seed=st.integers(0, 2**31))
def test_fewer_shots_are_the_first_of_more_shots(pool: FrameSet, seed: int) -> None:
    count = useful(pool)
    if count == 0:
        return
    everything = draw_shots(pool, count, seed=seed).tolist()
    assert len(set(everything)) == count
    for shots in range(1, count):
        assert draw_shots(pool, shots, seed=seed).tolist() == everything[:shots]


@settings(max_examples=50, deadline=None)
@given(pool=pools(), seed=st.integers(0, 2**31))
def test_shots_are_spread_as_evenly_as_patients_have_frames(
    pool: FrameSet, seed: int
) -> None:
    has_device = pool.masks.flatten(1).amax(dim=1) > 0
    available = torch.bincount(pool.patients[has_device], minlength=6)
    for shots in range(1, useful(pool) + 1):
        chosen = draw_shots(pool, shots, seed=seed)
        assert has_device[chosen].all()
        taken = torch.bincount(pool.patients[chosen], minlength=6)
        # Nobody gave two more than another who still had one to give.
        assert int(taken.max()) <= least(taken, available) + 1


def least(taken: torch.Tensor, available: torch.Tensor) -> int:
    """Return the fewest frames of a patient who has more to give."""
    waiting = taken[taken < available]
    return int(waiting.min()) if len(waiting) else int(taken.max())


def test_five_shots_of_five_patients_are_one_of_each() -> None:
    patients = [patient for patient in range(5) for _ in range(4)]
    pool = frames_of([BOTH] * 20, patients)
    for seed in range(5):
        chosen = draw_shots(pool, 5, seed=seed)
        assert sorted(pool.patients[chosen].tolist()) == [0, 1, 2, 3, 4]


def test_one_patient_gives_of_another_sequence_before_the_same_again() -> None:
    pool = frames_of([BOTH] * 6, [0] * 6, [0, 0, 0, 0, 1, 2])
    for seed in range(5):
        chosen = draw_shots(pool, 3, seed=seed)
        assert sorted(pool.sequences[chosen].tolist()) == [0, 1, 2]


def test_a_patient_gives_the_frame_that_shows_all_classes() -> None:
    pool = frames_of([CATHETER, BOTH, EMPTY, WIRE, BOTH, WIRE], [0, 0, 0, 1, 1, 1])
    for seed in range(5):
        assert sorted(draw_shots(pool, 2, seed=seed).tolist()) == [1, 4]


def test_one_shot_shows_all_classes_if_any_frame_does() -> None:
    pool = frames_of([CATHETER, WIRE, BOTH, CATHETER], [0, 1, 2, 3])
    assert {int(draw_shots(pool, 1, seed=seed)) for seed in range(8)} == {2}


def test_a_class_that_nobody_looked_for_is_not_missed() -> None:
    annotated = [[True, False], [True, True]]
    pool = frames_of([CATHETER, CATHETER], [0, 1], annotated=annotated)
    assert {int(draw_shots(pool, 1, seed=seed)) for seed in range(8)} == {0}


def test_frames_without_a_device_are_never_shots() -> None:
    pool = frames_of([EMPTY, WIRE, EMPTY, CATHETER], [0, 1, 2, 3])
    assert sorted(draw_shots(pool, 2, seed=0).tolist()) == [1, 3]
    with pytest.raises(DataError, match=r"3 shots need as many frames .* got 2"):
        draw_shots(pool, 3, seed=0)


def test_frames_that_nobody_annotated_are_never_shots() -> None:
    nobody = [[False, False], [True, False], [False, False]]
    pool = frames_of([EMPTY, CATHETER, EMPTY], [0, 0, 0], annotated=nobody)
    assert draw_shots(pool, 1, seed=0).tolist() == [1]
    assert draw_shots(pool, 1, seed=0, per="sequence").tolist() == [1]


def test_shots_of_sequences_are_all_their_labelled_frames() -> None:
    shown = [BOTH, EMPTY, EMPTY, EMPTY, CATHETER, EMPTY]
    pool = frames_of(shown, [0, 0, 1, 1, 2, 2])
    two = draw_shots(pool, 2, seed=0, per="sequence").tolist()
    assert two == [0, 1, 4, 5]  # the sequence that shows both comes first
    assert draw_shots(pool, 1, seed=0, per="sequence").tolist() == two[:2]
    with pytest.raises(DataError, match=r"3 shots need as many sequences .* got 2"):
        draw_shots(pool, 3, seed=0, per="sequence")


def test_seeds_choose_different_shots_and_one_seed_the_same() -> None:
    pool = frames_of([BOTH] * 24, [n // 2 for n in range(24)])
    chosen = [tuple(draw_shots(pool, 5, seed=s).tolist()) for s in (0, 1, 2, 0)]
    assert len(set(chosen)) == 3 and chosen[0] == chosen[3]


def test_a_patients_turn_does_not_depend_on_who_else_is_there() -> None:
    tokens = [patient for patient in range(8) for _ in range(3)]
    pool = frames_of([BOTH] * 24, tokens)
    order = pool.patients[draw_shots(pool, 8, seed=1)].tolist()
    few = pool.view(pool.patients >= 3)
    found = few.patients[draw_shots(few, 5, seed=1)].tolist()
    assert found == [token for token in order if token >= 3]


def test_shots_share_no_sequence_with_validation_or_test() -> None:
    patients = [n // 4 for n in range(48)]
    split = split_by_patient(
        frames_of([BOTH] * 48, patients, [n // 2 for n in range(48)]), seed=0
    )
    held_out = {*split.validation.sequences.tolist(), *split.test.sequences.tolist()}
    for per in ("frame", "sequence"):
        shots = split.train.view(draw_shots(split.train, 10, seed=0, per=per))
        assert not held_out & set(shots.sequences.tolist())
        assert len(shots) >= 10


@pytest.mark.parametrize(
    ("shots", "per", "message"),
    [(0, "frame", "at least 1, got 0"), (1, "patient", "per frame or per sequence")],
)
def test_impossible_wishes_are_refused(shots: int, per: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        draw_shots(frames_of([BOTH], [0]), shots, seed=0, per=per)
