from pathlib import Path

import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from clients.annotations.annotation import LabelMap
from clients.data.catalogue import FolderSpec
from clients.data.errors import DataError
from clients.data.identity import SiteKey
from experiments.finetuning.data import folder_data, simulated_data, unseen_frames
from experiments.finetuning.fewshot import ALL, FinetuneSettings
from experiments.finetuning.labels import (
    folder_labels,
    label_scores,
    label_shots,
    labelled_part,
    read_labels,
    simulated_labels,
)
from experiments.finetuning.split import DataChoice
from experiments.model_source import data_settings_of
from strategies.settings import SettingsError

SIZE = 32
SMALL = {
    "train_patients": 3,
    "validation_patients": 1,
    "test_patients": 1,
    "frames_per_patient": 2,
    "task": "classify",
}


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_scikit_learn(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Of four labels one is never true; it may be guessed.
    truth = torch.randint(3, (40,), generator=generator)
    guess = torch.randint(4, (40,), generator=generator)
    found = label_scores(guess, truth, 4)
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, guess))
    assert found["macro-f1"] == pytest.approx(
        f1_score(truth, guess, average="macro", zero_division=0)
    )
    recalls = [float((guess[truth == k] == k).double().mean()) for k in range(3)]
    assert found["balanced-accuracy"] == pytest.approx(sum(recalls) / 3)
    both = truth[:20], (guess % 3)[:20]
    assert label_scores(both[1], both[0], 3)["balanced-accuracy"] == pytest.approx(
        balanced_accuracy_score(*both)
    )


def test_labels_take_turns_and_fewer_shots_are_the_first_of_more() -> None:
    labels = torch.tensor([0] * 10 + [1] * 3)
    four, six = (label_shots(labels, count, seed=1) for count in (4, 6))
    assert four.tolist() == six[:4].tolist()
    assert sorted(labels[four].tolist()) == [0, 0, 1, 1]
    assert sorted(labels[six].tolist()) == [0, 0, 0, 1, 1, 1]
    assert len(label_shots(labels, ALL, seed=1)) == 13
    with pytest.raises(SettingsError, match=r"14 shots .* got 13"):
        label_shots(labels, 14, seed=1)


def test_a_simulated_frame_has_the_label_of_what_it_shows() -> None:
    settings = FinetuneSettings(**SMALL, domain="human", label="guidewire")
    try:
        data = simulated_labels(simulated_data(settings, SIZE), settings, SIZE)
    except SettingsError:
        pytest.skip("every frame of this seed shows a guidewire")
    part, labels = labelled_part(data, "train")
    masks = part.subset(torch.arange(len(part))).masks
    assert labels.tolist() == masks[:, 1].flatten(1).any(1).long().tolist()


def test_a_domain_is_a_label_and_every_part_has_whole_patients() -> None:
    settings = FinetuneSettings(**SMALL, domain="human,phantom", label="domain")
    data = simulated_labels(simulated_data(settings, SIZE), settings, SIZE)
    assert data.label_names == ("human", "phantom")
    split = unseen_frames(settings, SIZE)
    sequences = split.train.sequences
    _, labels = labelled_part(data, "train")
    # Of each domain five patients: the first five sequences are human.
    assert labels.tolist() == (sequences >= 5).long().tolist()


def test_a_table_labels_sequences_by_pseudonym_or_number_and_frames(
    tmp_path: Path,
) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("sequence,frame,label\nS-AB,,good\n2,3,bad\n")
    assert read_labels(file, ["S-AB", "S-CD"]) == {(0, 0): "good", (1, 3): "bad"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "needs rows with the columns"),
        ("sequence,label\n", "needs rows with the columns"),
        ("sequence,label\nS-secret,x\n", "Line 2"),
        ("sequence,label\n1,\n", "Line 2"),
        ("sequence,label\n1,x\n1,y\n", "Line 3 .* contradicts"),
    ],
)
def test_a_wrong_table_is_one_error_that_quotes_nothing(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_labels(file, ["S-AB"])
    assert "secret" not in str(caught.value)


def test_a_table_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_labels(tmp_path / "none.csv", ["S-AB"])


def test_real_frames_get_the_labels_of_their_sequence_or_their_own(
    phantom_xa: Path,
    tmp_path: Path,
) -> None:
    spec = FolderSpec(
        folder=phantom_xa, layout="pairs", labels=LabelMap(classes=("catheter",))
    )
    key = SiteKey.load_or_create(tmp_path / "key")
    choice = DataChoice(
        spec,
        train=("1", "2"),
        validation=("3",),
        test=("4",),
        key=tmp_path / "key",
        cache=tmp_path / "cache",
    )
    data, frames = folder_data(choice, data_settings_of({}, 32), seed=0)
    file = tmp_path / "labels.csv"
    rows = ["sequence,frame,label", "1,,left", "1,2,right", "2,,right", "3,,left"]
    file.write_text("\n".join([*rows, "4,1,left", ""]))
    found = folder_labels(data, frames, file, spec=spec, key=key)
    part, labels = labelled_part(found, "train")
    first = labels[part.sequences == 0].tolist()
    assert found.label_names == ("left", "right")
    assert first[:3] == [0, 1, 0]
    assert set(labels[part.sequences == 1].tolist()) == {1}
    # Of the fourth sequence one frame has a label.
    assert len(labelled_part(found, "test")[1]) == 1
    file.write_text("sequence,label\n1,left\n2,left\n3,left\n4,left\n")
    with pytest.raises(SettingsError, match="one label"):
        folder_labels(data, frames, file, spec=spec, key=key)
