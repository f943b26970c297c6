import pytest
import torch

from clients.data.frames import FrameSet
from experiments.finetuning.data import unseen_frames
from experiments.finetuning.fewshot import (
    ALL,
    FinetuneSettings,
    choose_shots,
    overlay_indices,
    run_generator,
)
from strategies.settings import SettingsError

SIZE = 32


def frames_with_device(flags: list[bool], sequences: list[int]) -> FrameSet:
    """Frames whose grey value is their number, with one labelled pixel or none."""
    masks = torch.zeros(len(flags), 2, 8, 8, dtype=torch.uint8)
    masks[:, 1, 4, 4] = torch.tensor(flags, dtype=torch.uint8)
    numbers = torch.arange(len(flags)) / 100
    return FrameSet(
        images=numbers.view(-1, 1, 1, 1).repeat(1, 1, 8, 8),
        masks=masks,
        annotated=torch.ones(len(flags), 2, dtype=torch.bool),
        sequences=torch.tensor(sequences),
    )


def numbers_of(frames: FrameSet) -> list[int]:
    return [round(100 * float(image[0, 0, 0])) for image in frames.images]


def test_fewer_shots_are_the_first_of_more_shots() -> None:
    pool = frames_with_device([True] * 12, list(range(12)))
    one, five, ten = (
        numbers_of(choose_shots(pool, shots=count, seed=3)) for count in (1, 5, 10)
    )
    assert one == five[:1]
    assert five == ten[:5]
    assert len(set(ten)) == 10


def test_seeds_choose_different_shots() -> None:
    pool = frames_with_device([True] * 12, list(range(12)))
    chosen = {
        tuple(numbers_of(choose_shots(pool, shots=5, seed=seed))) for seed in range(3)
    }
    assert len(chosen) == 3


def test_only_frames_that_show_a_device_become_shots() -> None:
    pool = frames_with_device([False, True, False, True, True], [0, 0, 1, 1, 2])
    assert sorted(numbers_of(choose_shots(pool, shots=3, seed=0))) == [1, 3, 4]
    with pytest.raises(SettingsError, match=r"4 shots need as many .* got 3"):
        choose_shots(pool, shots=4, seed=0)


def test_pool_validation_and_test_have_their_sizes_and_share_no_patient() -> None:
    settings = FinetuneSettings(
        train_patients=3, validation_patients=2, test_patients=4, frames_per_patient=2,
        shots=(1,),
    )  # fmt: skip
    split = unseen_frames(settings, SIZE)
    parts = (split.train, split.validation, split.test)
    patients = [set(part.sequences.tolist()) for part in parts]
    assert [len(part) for part in patients] == [3, 2, 4]
    assert len(set.union(*patients)) == 9
    assert [len(part) for part in parts] == [6, 4, 8]


def test_the_default_study_has_enough_frames_for_its_shots() -> None:
    settings = FinetuneSettings()
    split = unseen_frames(settings, SIZE)
    assert (len(split.validation), len(split.test)) == (16, 32)
    assert len(settings.seeds) >= 3
    for seed in settings.seeds:
        chosen = choose_shots(split.train, shots=max(settings.shots), seed=seed)
        assert len(chosen) == 10


def test_frames_depend_on_the_data_seed_only() -> None:
    small = {"train_patients": 1, "validation_patients": 1, "test_patients": 1}
    first = unseen_frames(FinetuneSettings(**small, shots=(1,)), SIZE)
    same = unseen_frames(FinetuneSettings(**small, shots=(1, 2), seeds=(7,)), SIZE)
    other = unseen_frames(FinetuneSettings(**small, shots=(1,), data_seed=1), SIZE)
    assert same.test.digest() == first.test.digest()
    assert other.test.digest() != first.test.digest()


def test_the_picture_shows_the_middle_device_frame_of_each_patient() -> None:
    # Patient 5: devices in 0, 1, 2. Patient 6: none. Patient 7: device in 5 only.
    flags = [True, True, True, False, False, True, False]
    test = frames_with_device(flags, [5, 5, 5, 6, 7, 7, 7])
    assert overlay_indices(test, 3).tolist() == [1, 5]
    assert overlay_indices(test, 1).tolist() == [1]


def test_the_picture_of_empty_frames_shows_empty_frames() -> None:
    test = frames_with_device([False] * 4, [0, 0, 1, 1])
    assert overlay_indices(test, 3).tolist() == [1, 3]


def test_numbers_of_a_run_depend_on_seed_shots_and_purpose() -> None:
    def draw(seed: int, shots: int, purpose: str) -> int:
        generator = run_generator(seed, shots=shots, purpose=purpose)
        return int(torch.randint(2**31, (1,), generator=generator))

    assert draw(0, 1, "batches") == draw(0, 1, "batches")
    keys = [(0, 1, "batches"), (1, 1, "batches"), (0, 5, "batches"), (0, 1, "shots")]
    assert len({draw(*key) for key in keys}) == 4


def test_all_takes_every_frame_of_the_pool_also_those_without_device() -> None:
    pool = frames_with_device([False, True, True], [0, 0, 1])
    assert numbers_of(choose_shots(pool, shots=ALL, seed=0)) == [0, 1, 2]


def test_any_domain_of_the_simulator_may_be_unseen() -> None:
    assert FinetuneSettings(domain="random-7").domain == "random-7"
    with pytest.raises(SettingsError, match="random-N"):
        FinetuneSettings(domain="random-x")


def test_all_wrong_settings_are_reported_together() -> None:
    with pytest.raises(SettingsError) as caught:
        FinetuneSettings(
            domain="moon",
            shots=(5, 1),
            seeds=(),
            methods=("full", "half"),
            network="resnet",
            steps=0,
            learning_rate=float("nan"),
            cldice_weight=2.0,
        )
    text = str(caught.value)
    assert "8 few-shot setting(s)" in text
    for part in (
        "domain must be one of",
        "shots must be different numbers >= 1 in ascending order, got (5, 1)",
        "seeds must be",
        "methods must be different ones of full, lora",
        "network must be one of",
        "steps must be >= 1, got 0",
        "learning-rate must be > 0, got nan",
        "cldice-weight must be 0 to 1, got 2.0",
    ):
        assert part in text


def test_shots_that_the_pool_does_not_have_are_refused_with_their_number() -> None:
    pool = frames_with_device([True, True, False], [0, 1, 2])
    with pytest.raises(SettingsError, match=r"got 2.* 3 frames in all"):
        choose_shots(pool, shots=3, seed=0)


@pytest.mark.parametrize("shots", [(ALL,), (1, 5, ALL)])
def test_all_may_stand_behind_the_numbers_of_shots(shots: tuple[int, ...]) -> None:
    assert FinetuneSettings(shots=shots).shots == shots


@pytest.mark.parametrize("shots", [(), (ALL, 1), (1, 1)])
def test_other_orders_of_shots_are_refused(shots: tuple[int, ...]) -> None:
    with pytest.raises(SettingsError, match="ascending"):
        FinetuneSettings(shots=shots)
