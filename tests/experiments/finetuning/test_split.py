from pathlib import Path

import pytest
import torch

from clients.annotations.annotation import LabelMap
from clients.data.catalogue import FolderSpec
from clients.data.errors import DataError
from clients.data.frame_tasks import plan_tasks
from clients.data.frames import FrameSet
from clients.data.identity import SiteKey
from clients.data.scan import scan_folder
from clients.data.splits import Split
from experiments.finetuning.data import folder_data, labelled_sequences
from experiments.finetuning.split import PARTS, Chosen, DataChoice, divide
from experiments.model_source import data_settings_of

NAMES = ["S-A", "S-B", "S-C", "S-D", "S-E"]


def frames(sequences: list[int], patients: list[int] | None = None) -> FrameSet:
    count = len(sequences)
    return FrameSet(
        images=torch.arange(count).float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2) / 100,
        masks=torch.zeros(count, 2, 2, 2, dtype=torch.uint8),
        annotated=torch.ones(count, 2, dtype=torch.bool),
        sequences=torch.tensor(sequences),
        patients=None if patients is None else torch.tensor(patients),
    )


def choice(**values: object) -> DataChoice:
    return DataChoice(spec=FolderSpec(folder=Path()), **values)  # type: ignore[arg-type]


def sequences_of(split: Split) -> list[list[int]]:
    return [getattr(split, name).sequences.unique().tolist() for name in PARTS]


FIVE = frames([0, 0, 1, 1, 2, 2, 3, 3, 4, 4])


def test_chosen_frames_keep_their_numbers_through_every_choice() -> None:
    everything = Chosen.all(FIVE)
    some = everything.view(torch.tensor([3, 5, 7])).view(torch.tensor([2, 0]))
    assert some.numbers.tolist() == [7, 3]
    assert some.sequences.tolist() == [3, 1]
    images = some.subset(torch.tensor([1])).images
    assert float(images[0, 0, 0, 0]) == pytest.approx(0.03)
    assert some.digest() != everything.digest()


def test_a_split_by_sequence_needs_no_patients() -> None:
    one_patient = frames([0, 0, 1, 1, 2, 2, 3, 4], [9] * 8)
    split = divide(one_patient, choice(split_by="sequence"), NAMES, seed=0)
    parts = sequences_of(split)
    assert [len(part) for part in parts] == [3, 1, 1]
    assert {one for part in parts for one in part} == {0, 1, 2, 3, 4}
    with pytest.raises(DataError, match="--split-by sequence"):
        divide(one_patient, choice(), NAMES, seed=0)


def test_sequences_are_named_by_pseudonym_or_number() -> None:
    wanted = choice(train=("1", "s-b"), validation=("S-C",), test=("4", "5"))
    assert sequences_of(divide(FIVE, wanted, NAMES, seed=0)) == [[0, 1], [2], [3, 4]]


def test_what_is_not_named_is_shared_out_between_the_other_parts() -> None:
    parts = sequences_of(divide(FIVE, choice(train=("1", "2")), NAMES, seed=0))
    assert parts[0] == [0, 1]
    assert [len(part) for part in parts] == [2, 1, 2]
    assert sorted(parts[1] + parts[2]) == [2, 3, 4]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (choice(train=("1", "9")), "not among the labelled ones"),
        (choice(train=("S-X",)), "not among the labelled ones"),
        (choice(train=("0",)), "not among the labelled ones"),
        (choice(train=("1",), test=("S-A",)), "in one part only"),
        (choice(train=("1", "2", "3", "4")), "too few"),
        (choice(validation=("1",)), "--train-sequences"),
    ],
)
def test_a_wrong_choice_of_sequences_is_one_error(
    wanted: DataChoice, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        divide(FIVE, wanted, NAMES, seed=0)


def test_two_sequences_are_too_few_for_three_parts() -> None:
    with pytest.raises(DataError, match="at least 3 sequences, got 2"):
        divide(frames([0, 1]), choice(split_by="sequence"), NAMES, seed=0)


def test_views_of_a_real_phantom_go_where_they_are_sent(
    phantom_xa: Path, tmp_path: Path
) -> None:
    spec = FolderSpec(
        folder=phantom_xa, layout="pairs", labels=LabelMap(classes=("catheter",))
    )
    key = SiteKey.load_or_create(tmp_path / "key")
    settings = data_settings_of({}, 32)
    entries = labelled_sequences(spec, key)
    # The numbers of sequences are those of whoever prepares the frames.
    for task in plan_tasks(scan_folder(spec, key), settings):
        assert task.where.startswith(f"Sequence {entries[task.sequence].id},")
    names = [entry.id for entry in entries]
    wanted = DataChoice(
        spec,
        train=(names[0], names[1]),
        validation=("3",),
        test=tuple(names[3:]),
        key=tmp_path / "key",
        cache=tmp_path / "cache",
    )
    data, stored = folder_data(wanted, settings, seed=0)
    assert sequences_of(data.split) == [[0, 1], [2], [3, 4]]
    assert sum(data.description["frames"].values()) == len(stored) == 58
    assert data.description["patients-in-two-parts"] == 0
    assert data.description["chosen"]["test"] == names[3:]
