"""The sites file: what it may say, and every mistake at once."""

from pathlib import Path

import numpy as np
import pytest
import torch

from clients.data.errors import DataError
from clients.sites import DEFAULT_SITES, SiteSpec, load_frames, load_sites


def parse(folder: Path, text: str) -> tuple[SiteSpec, ...]:
    path = folder / "sites.toml"
    path.write_text(text, encoding="utf-8")
    return load_sites(str(path))


def mistakes(folder: Path, text: str) -> str:
    with pytest.raises(DataError) as caught:
        parse(folder, text)
    assert str(folder) not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


def test_four_default_hospitals_with_four_data_types() -> None:
    sites = load_sites("")
    assert {site.name: site.domain for site in sites} == {
        "bench-lab": "phantom",
        "northgate": "human",
        "riverside": "animal",
        "virtual": "simulation",
    }
    assert [site.name for site in sites] == sorted(site.name for site in sites)
    assert all(site.patients == 24 and site.frames_per_patient == 3 for site in sites)


def test_the_default_file_explains_every_key() -> None:
    header = DEFAULT_SITES.read_text(encoding="utf-8").split("\n[[site]]")[0]
    for key in ("name", "domain", "patients", "frames-per-patient"):
        assert f"#   {key} " in header
    for key in ("folder", "layout", "classes"):
        assert f"#   {key} " in header


def test_the_example_in_the_header_is_itself_a_valid_file(tmp_path: Path) -> None:
    header = DEFAULT_SITES.read_text(encoding="utf-8").split("\n[[site]]")[0]
    example = header[header.index("#   [[site]]") :].replace("#   ", "")
    (site,) = parse(tmp_path, example)
    assert site.name == "hillside" and site.classes == ("catheter",)


def test_a_folder_site_has_its_path_relative_to_the_file(tmp_path: Path) -> None:
    first, second = parse(
        tmp_path,
        """
        [[site]]
        name = "b"
        folder = "/somewhere/else"
        layout = "dicom"
        classes = ["guidewire", "catheter"]
        [[site]]
        name = "a"
        folder = "frames"
        """,
    )
    assert first == SiteSpec(
        name="a", folder=tmp_path / "frames", patients=0, frames_per_patient=0
    )
    assert second.folder == Path("/somewhere/else")
    assert second.layout == "dicom" and second.classes == ("guidewire", "catheter")


def test_a_folder_need_not_exist_when_the_file_is_read(tmp_path: Path) -> None:
    (site,) = parse(tmp_path, '[[site]]\nname = "a"\nfolder = "DOE_JANE"')
    with pytest.raises(DataError) as caught:
        load_frames(site, image_size=32, seed=0)
    message = str(caught.value)
    assert message.startswith("Hospital 'a': the data folder of its sites entry does")
    assert "DOE" not in message and str(tmp_path) not in message


def test_all_mistakes_are_reported_together(tmp_path: Path) -> None:
    message = mistakes(
        tmp_path,
        """
        title = "x"
        [[site]]
        domain = "human"
        [[site]]
        name = "twice"
        domain = "humann"
        frames-per-pation = 3
        patients = 0
        [[site]]
        name = "twice"
        [[site]]
        name = "both"
        domain = "animal"
        folder = "x"
        [[site]]
        name = "mixed"
        folder = "x"
        patients = 3
        layout = "pair"
        classes = ["stent"]
        [[site]]
        name = "other"
        domain = "phantom"
        layout = "auto"
        """,
    )
    for part in (
        "12 mistake(s)",
        "the sites file: unknown key 'title'",
        "site 1: name is missing",
        "site 2 'twice': unknown key 'frames-per-pation', did you mean "
        "'frames-per-patient'?",
        "site 2 'twice': domain must be one of human, animal, phantom, simulation, "
        "neuro, got 'humann', did you mean 'human'?",
        "site 2 'twice': patients must be a whole number, at least 1",
        "site 3 'twice': give either domain or folder, got neither",
        "site 4 'both': give either domain or folder, got both",
        "site 5 'mixed': patients goes with domain",
        "site 5 'mixed': layout must be one of auto, pairs, dicom, got 'pair', did "
        "you mean 'pairs'?",
        "site 5 'mixed': classes must be a list of different ones of catheter, "
        "guidewire",
        "site 6 'other': layout goes with folder",
        "the name 'twice' is used 2 times",
    ):
        assert part in message


@pytest.mark.parametrize(
    "name", ["", "a b", "x" * 41, "/data/DOE", "DOE^JANE", "Ärzte", "a\\nb"]
)
def test_a_name_that_is_not_plain_is_refused_and_not_repeated(
    tmp_path: Path, name: str
) -> None:
    message = mistakes(tmp_path, f'[[site]]\nname = "{name}"\ndomain = "human"')
    assert "site 1: name must be 1 to 40 letters" in message
    assert not name or name not in message


@pytest.mark.parametrize(
    "line",
    [
        "patients = 2.5",
        "patients = true",
        'patients = "3"',
        "frames-per-patient = -1",
        "classes = []",
        'classes = "catheter"',
        'classes = ["catheter", "catheter"]',
        "classes = [1]",
    ],
)
def test_wrong_types_are_refused(tmp_path: Path, line: str) -> None:
    text = f'[[site]]\nname = "a"\ndomain = "human"\n{line}'
    assert f"site 1 'a': {line.split(' ')[0]} must be" in mistakes(tmp_path, text)


@pytest.mark.parametrize("folder", ['""', "3", '["/data"]'])
def test_a_folder_must_be_a_text(tmp_path: Path, folder: str) -> None:
    message = mistakes(tmp_path, f'[[site]]\nname = "a"\nfolder = {folder}')
    assert "folder must be a path in quotes" in message


def test_a_path_in_the_wrong_place_is_not_repeated(tmp_path: Path) -> None:
    text = '[[site]]\nname = "a"\ndomain = "/data/DOE_JANE"\n"/mnt/DOE" = 1'
    assert "DOE" not in mistakes(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one [[site]] table"),
        ('[[sites]]\nname = "a"', "unknown key 'sites', did you mean 'site'?"),
        ('[site]\nname = "a"', "write each hospital as a [[site]] table"),
        ('[[site]]\nname = "DOE\n', "not valid TOML near line 2, column 12"),
    ],
)
def test_a_file_of_another_form_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    found = mistakes(tmp_path, text)
    assert message in found and "DOE" not in found


def test_a_missing_or_binary_file_is_an_error_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for name in ("absent.toml", "binary.toml", ""):
        with pytest.raises(DataError, match="cannot be read") as caught:
            load_sites(str(tmp_path / name))
        assert str(tmp_path) not in str(caught.value)


def test_two_hospitals_of_one_type_have_different_patients() -> None:
    first, second = (
        load_frames(
            SiteSpec(name=name, domain="human", patients=2, frames_per_patient=1),
            image_size=32,
            seed=0,
        )
        for name in ("a", "b")
    )
    assert first.digest() != second.digest()


def test_simulated_frames_depend_on_the_seed_and_nothing_else() -> None:
    site = SiteSpec(name="a", domain="animal", patients=2, frames_per_patient=1)
    digests = [load_frames(site, image_size=32, seed=s).digest() for s in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_a_hospital_that_marks_only_catheters_knows_nothing_of_wires() -> None:
    site = SiteSpec(name="a", domain="human", patients=4, classes=("catheter",))
    frames = load_frames(site, image_size=64, seed=0)
    assert frames.annotated.unique(dim=0).tolist() == [[True, False]]
    assert int(frames.masks[:, 0].sum()) > 0 and int(frames.masks[:, 1].sum()) == 0
    both = load_frames(
        SiteSpec(name="a", domain="human", patients=4), image_size=64, seed=0
    )
    assert torch.equal(frames.masks[:, 0], both.masks[:, 0])
    assert torch.equal(frames.images, both.images)


def test_frames_from_a_folder_are_errors_of_that_hospital(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "DOE.png").write_bytes(np.zeros(10, np.uint8).tobytes())
    site = SiteSpec(name="hillside", folder=tmp_path)
    with pytest.raises(DataError) as caught:
        load_frames(site, image_size=32, seed=0)
    assert str(caught.value).startswith("Hospital 'hillside': frame 1 of 1")
    assert "DOE" not in str(caught.value)


def test_the_real_phantom_can_be_a_hospital(phantom_xa: Path, tmp_path: Path) -> None:
    (site,) = parse(
        tmp_path,
        f'[[site]]\nname = "real"\nfolder = "{phantom_xa}"\nlayout = "pairs"\n'
        'classes = ["catheter"]',
    )
    frames = load_frames(site, image_size=64, seed=0)
    assert len(frames) == 58
    assert frames.annotated.unique(dim=0).tolist() == [[True, False]]
