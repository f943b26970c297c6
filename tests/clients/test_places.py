"""What names say of role, patient, sequence and frame."""

import unicodedata
from pathlib import PurePath

import pytest

from clients.data.places import (
    Place,
    is_below_masks,
    patient_of,
    place_of,
    sequences_of,
    split_number,
)


def sequences(*stems: str, folders: tuple[str, ...] = ()) -> list[str]:
    places = [Place(folders, stem) for stem in stems]
    found = sequences_of(places)
    return [found[place][0] for place in places]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/a/b_03.png", "masks/a/b_03.png"),
        ("a.png", "Masks/a.PNG"),
        ("p1/images/a.tif", "p1/masks/a.npy"),
        ("dicom/IM1", "labels/IM1.png"),
        ("DICOM/1.2.840.7", "annotations/masks/1.2.840.7.png"),
        ("images/M\u00fcller.png", "masks/Mu\u0308ller.png"),
    ],
)
def test_an_image_and_its_mask_have_one_place(image: str, mask: str) -> None:
    assert place_of(PurePath(image)) == place_of(PurePath(mask))
    assert is_below_masks(PurePath(mask)) and not is_below_masks(PurePath(image))


def test_only_known_suffixes_are_no_part_of_the_name() -> None:
    assert place_of(PurePath("1.2.840.7")).stem == "1.2.840.7"
    assert place_of(PurePath("1.2.840.7.DCM")).stem == "1.2.840.7"
    assert place_of(PurePath("a.b_1.json")) == Place((), "a.b_1")


def test_a_file_named_masks_is_not_below_masks() -> None:
    assert not is_below_masks(PurePath("images/masks.png"))


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("IM1_02", ("IM1", "_", "02")),
        ("a-b-7", ("a-b", "-", "7")),
        ("frame12", ("frame", "", "12")),
        ("0007", ("", "", "0007")),
        ("IM1_x", None),
        ("a\n1", ("a\n", "", "1")),
    ],
)
def test_a_name_is_taken_apart_before_its_last_number(
    stem: str, expected: tuple[str, str, str] | None
) -> None:
    assert split_number(stem) == expected


def test_a_number_after_a_line_is_that_of_a_frame() -> None:
    assert sequences("IM1_02", "IM1_3", "IM2-1") == ["IM1", "IM1", "IM2"]


def test_a_number_right_after_letters_is_part_of_the_name() -> None:
    assert sequences("case1", "case2", "case10") == ["case1", "case2", "case10"]


def test_one_padded_number_makes_frames_of_all_with_the_same_letters() -> None:
    assert sequences("scan08", "scan9", "scan10") == ["scan"] * 3
    assert sequences("scan08", "case10") == ["scan", "case10"]
    # A zero alone is not padding.
    assert sequences("case0", "case10") == ["case0", "case10"]


@pytest.mark.parametrize("stem", ["frame1", "Run2_Frame10", "img7", "IMAGE3"])
def test_a_word_for_a_frame_makes_its_number_a_frames(stem: str) -> None:
    assert sequences(stem) == [stem.rstrip("0123456789")]


def test_names_that_are_numbers_are_frames_of_their_folder() -> None:
    assert sequences("1", "2", "10", folders=("p1",)) == ["p1/"] * 3


def test_frames_of_different_folders_are_different_sequences() -> None:
    places = [Place(("p1",), "a_1"), Place(("p2",), "a_1")]
    assert sequences_of(places) == {
        places[0]: ("p1/a", 1),
        places[1]: ("p2/a", 1),
    }


def test_the_patient_is_the_first_folder_else_the_sequence() -> None:
    deep = place_of(PurePath("images/p1/run2/0001.png"))
    assert patient_of(deep, "p1/run2/") == "p1"
    flat = place_of(PurePath("images/IM1_02.png"))
    assert patient_of(flat, "IM1") == "IM1"


def test_accents_are_compared_in_one_spelling() -> None:
    name = unicodedata.normalize("NFD", "Müller")
    assert Place.of((name,), name) == Place(("Müller",), "Müller")
