"""Which annotation belongs to which frame, and when nobody can tell."""

from pathlib import Path, PurePath

import numpy as np
import pytest

from clients.annotations.annotation import FrameOutlines, LabelMap
from clients.annotations.drawing import DrawnAnnotation
from clients.annotations.masks import MaskFiles
from clients.data.archive import Source
from clients.data.listing import FoundFile
from clients.data.pairing import TWO_ANNOTATIONS, TWO_IMAGES, Claim, Pairing, pair
from clients.data.places import Place, place_of
from clients.images.source import SourceFacts

LABELS = LabelMap()
DRAWN = DrawnAnnotation(FrameOutlines(None, None, ()), LABELS)


def source(path: str, frames: int | None = 1, *, dicom: bool = False) -> Source:
    file = FoundFile(Path("/top", path), PurePath(path), 1, 1, 1)
    facts = None if frames is None else SourceFacts(frames, 8, 8, 8)
    return Source(file, place_of(file.relative), dicom, facts)


def mask(path: str, layer: str = "", pages: int = 1) -> Claim:
    return Claim((place_of(PurePath(path)),), Path(path), layer=layer, pages=pages)


def drawn(
    *stems: str, folders: tuple[str, ...] = (), number: int | None = None
) -> Claim:
    return Claim(tuple(Place(folders, s) for s in stems), DRAWN, number=number)


def masks_of(pairing: Pairing) -> dict[tuple[str, int], tuple[dict[str, str], object]]:
    """Return file name and index of each frame -> its mask files and their page."""
    found = {}
    for key, made in pairing.annotations.items():
        assert isinstance(made, MaskFiles)
        paths = {layer: str(path) for layer, path in made.paths.items()}
        found[str(key.path.relative_to("/top")), key.index] = (paths, made.index)
    return found


def nothing_wrong(pairing: Pairing) -> bool:
    return not (pairing.conflicts or pairing.unused or pairing.between_kinds)


@pytest.mark.parametrize("path", ["masks/a/b_03.png", "masks/b_03.png"])
def test_a_mask_goes_to_the_image_of_its_place_else_of_its_name(path: str) -> None:
    pairing = pair(
        [source("images/a/b_03.png"), source("images/a/b_04.png")], [mask(path)], LABELS
    )
    assert masks_of(pairing) == {("images/a/b_03.png", 0): ({"": path}, None)}
    assert nothing_wrong(pairing)


def test_place_goes_before_name() -> None:
    sources = [source("images/a/x.png"), source("images/b/x.png")]
    pairing = pair(sources, [mask("masks/a/x.png"), mask("masks/b/x.png")], LABELS)
    assert masks_of(pairing) == {
        ("images/a/x.png", 0): ({"": "masks/a/x.png"}, None),
        ("images/b/x.png", 0): ({"": "masks/b/x.png"}, None),
    }


def test_of_two_images_with_one_name_the_one_in_the_folder_is_meant() -> None:
    sources = [source("p1/left/x.png"), source("p2/left/x.png")]
    pairing = pair(sources, [mask("p2/masks/x.png")], LABELS)
    assert list(masks_of(pairing)) == [("p2/left/x.png", 0)]


def test_a_mask_whose_name_fits_two_images_is_an_error() -> None:
    sources = [source("images/a/x.png"), source("images/b/x.png")]
    pairing = pair(sources, [mask("masks/x.png")], LABELS)
    assert not pairing.annotations
    assert [found.what for found in pairing.conflicts] == [TWO_IMAGES]


def test_numbers_of_frames_count_from_zero_with_any_digits() -> None:
    claims = [mask("masks/IM1_0.png"), mask("masks/IM1_002.png")]
    pairing = pair([source("IM1.dcm", 3, dicom=True)], claims, LABELS)
    assert masks_of(pairing) == {
        ("IM1.dcm", 0): ({"": "masks/IM1_0.png"}, None),
        ("IM1.dcm", 2): ({"": "masks/IM1_002.png"}, None),
    }
    assert nothing_wrong(pairing)


def test_a_frame_that_does_not_exist_has_no_mask() -> None:
    pairing = pair([source("a.mp4", 3)], [mask("masks/a_3.png")], LABELS)
    assert pairing.unused == 1 and not pairing.annotations


def test_one_mask_is_for_all_frames_but_those_with_their_own() -> None:
    claims = [mask("masks/a.png"), mask("masks/a_01.png")]
    found = masks_of(pair([source("a.npy", 3)], claims, LABELS))
    assert [found["a.npy", k][0][""] for k in range(3)] == [
        "masks/a.png",
        "masks/a_01.png",
        "masks/a.png",
    ]


def test_of_a_mask_with_as_many_frames_each_has_its_own() -> None:
    found = masks_of(pair([source("a.mp4", 3)], [mask("masks/a.npy", pages=3)], LABELS))
    assert [found["a.mp4", k][1] for k in range(3)] == [0, 1, 2]


@pytest.mark.parametrize(("frames", "pages"), [(3, 2), (1, 2)])
def test_a_mask_with_another_number_of_frames_is_an_error(
    frames: int, pages: int
) -> None:
    claims = [mask("masks/a.tif", pages=pages)]
    pairing = pair([source("a.npy", frames)], claims, LABELS)
    (conflict,) = pairing.conflicts
    assert f"{pages} frames, the image {frames}" in conflict.what
    assert not pairing.annotations


def test_masks_of_several_classes_become_one_annotation() -> None:
    claims = [
        mask("masks/catheter/a.png", "catheter"),
        mask("masks/guidewire/a_1.png", "guidewire"),
    ]
    claims = [
        Claim((Place((), PurePath(str(c.content)).stem),), c.content, layer=c.layer)
        for c in claims
    ]
    found = masks_of(pair([source("a.npy", 2)], claims, LABELS))
    # The own guidewire of frame 1 does not take its catheter away.
    assert set(found["a.npy", 0][0]) == {"catheter"}
    assert set(found["a.npy", 1][0]) == {"catheter", "guidewire"}


@pytest.mark.parametrize(
    "second",
    [
        mask("masks/a_1.png"),
        mask("masks/a_01.png", "catheter"),
        drawn("a_01"),
    ],
    ids=["same number", "a class beside all classes", "drawn, too"],
)
def test_two_annotations_of_one_frame_are_an_error(second: Claim) -> None:
    claims = [mask("masks/a_01.png"), second]
    pairing = pair([source("a.npy", 2)], claims, LABELS)
    (conflict,) = pairing.conflicts
    assert conflict.what == TWO_ANNOTATIONS and conflict.index == 1
    assert not pairing.annotations


def test_two_images_that_differ_in_the_suffix_are_an_error_even_without_mask() -> None:
    sources = [source("images/a.png"), source("images/a.tif"), source("images/b.png")]
    for claims in ([], [mask("masks/a.png")]):
        pairing = pair(sources, claims, LABELS)
        assert [found.what for found in pairing.conflicts] == [TWO_IMAGES]


def test_a_mask_that_fits_a_still_and_a_dicom_frame_needs_a_layout() -> None:
    sources = [source("images/IM1_02.png"), source("dicom/IM1.dcm", 5, dicom=True)]
    pairing = pair(sources, [mask("masks/IM1_02.png")], LABELS)
    assert pairing.between_kinds == 1
    assert not pairing.conflicts and not pairing.annotations


def test_masks_of_an_image_that_cannot_be_read_are_not_left_over() -> None:
    claims = [mask("masks/a_07.png"), mask("masks/b.png"), mask("masks/c.png")]
    pairing = pair([source("a.dcm", None), source("b.png", None)], claims, LABELS)
    assert pairing.unused == 1 and not pairing.annotations and not pairing.conflicts


def test_drawings_find_their_image_by_any_of_their_names() -> None:
    claims = [drawn("other", "a"), drawn("b_1", folders=("notes",))]
    pairing = pair([source("images/a.png"), source("b.mp4", 2)], claims, LABELS)
    assert {(key.path.name, key.index) for key in pairing.annotations} == {
        ("a.png", 0),
        ("b.mp4", 1),
    }


def test_later_names_are_not_asked_for_if_the_first_fits() -> None:
    def places():  # noqa: ANN202 - yields one place, then fails
        yield Place((), "a")
        raise AssertionError

    pairing = pair([source("a.png")], [Claim(places(), DRAWN)], LABELS)
    assert len(pairing.annotations) == 1


def test_a_drawing_for_a_film_needs_the_number_of_its_frame() -> None:
    pairing = pair([source("a.mp4", 3)], [drawn("a")], LABELS)
    assert pairing.unused == 1 and not pairing.annotations


def test_numbered_drawings_belong_to_the_film_of_their_name_else_the_only_one() -> None:
    films = [source("p1/a.mp4", 3), source("p1/b.mp4", 3), source("p2/c.mp4", 3)]
    claims = [
        drawn("b", folders=("p1",), number=2),
        drawn("export", folders=("p2",), number=0),
        drawn("export", folders=("p1",), number=0),  # of a or of b?
        drawn("b", folders=("p1",), number=3),  # has frames 0, 1, 2
    ]
    pairing = pair(films, claims, LABELS)
    assert {(key.path.name, key.index) for key in pairing.annotations} == {
        ("b.mp4", 2),
        ("c.mp4", 0),
    }
    assert pairing.unused == 2


def test_a_paired_mask_is_read_from_the_page_of_its_frame(tmp_path: Path) -> None:
    pages = np.zeros((2, 8, 8), np.uint8)
    pages[1, 3] = 1
    np.save(tmp_path / "a.npy", pages)
    claim = Claim((Place((), "a"),), tmp_path / "a.npy", pages=2)
    pairing = pair([source("a.mp4", 2)], [claim], LABELS)
    drawn_rows = [
        made.layers(8, 8, None)["catheter"].sum(axis=1).tolist()
        for made in pairing.annotations.values()
    ]
    assert drawn_rows == [[0] * 8, [0, 0, 0, 8, 0, 0, 0, 0]]
