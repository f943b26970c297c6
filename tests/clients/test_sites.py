"""The sites file: what it may say, and every mistake at once."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from clients import sources
from clients.data.errors import DataError
from clients.data.frames import Frames, FrameSet
from clients.data.identity import SiteKey
from clients.data.kshot import draw_shots
from clients.data.simulator import simulate_frames
from clients.data.splits import split_by_patient
from clients.fluoroscopy.domains import DOMAINS
from clients.fluoroscopy.random_domain import random_domain
from clients.site_values import SITE_CHECKS, SOURCE_CHECKS
from clients.sites import (
    DEFAULT_SITES,
    SiteSpec,
    deployed_site,
    load_frames,
    load_sites,
)
from clients.sources import FolderSource, SimulatedSource
from strategies.data_settings import DataSettings
from strategies.randomness import derive_seed, generator_from

WriteImage = Callable[[Path, NDArray], None]

SETTINGS = DataSettings(
    frame_size=32,
    crop="none",
    clip_percentile=0.5,
    polarity="keep",
    normalise="unit",
    augmentation="none",
)
KEY = SiteKey(bytes(range(32)))


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


def simulated(name: str = "a", **source: object) -> SiteSpec:
    """A site with a few small simulated patients."""
    settings = {"domain": "human", "patients": 3, "frames_per_patient": 1, **source}
    return SiteSpec(name, (SimulatedSource(**settings),))


def load(site: SiteSpec, seed: int = 0, **settings: object) -> Frames:
    return load_frames(site, settings=replace(SETTINGS, **settings), seed=seed, key=KEY)


@pytest.fixture
def quick_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise of (domain, seed, patient) in place of slow fluoroscopy."""

    def simulate(
        domain: str,
        *,
        patients: int,
        frames_per_patient: int,
        image_size: int,
        seed: int,
    ) -> FrameSet:
        images = []
        for patient in range(patients):
            own = derive_seed(seed, round_number=patient, phase="test", site=domain)
            shape = (frames_per_patient, 1, image_size, image_size)
            images.append(torch.rand(shape, generator=generator_from(own)))
        count = patients * frames_per_patient
        return FrameSet(
            images=torch.cat(images),
            masks=torch.zeros(count, 2, image_size, image_size, dtype=torch.uint8),
            annotated=torch.ones(count, 2, dtype=torch.bool),
            sequences=torch.arange(patients).repeat_interleave(frames_per_patient),
        )

    monkeypatch.setattr(sources, "simulate_frames", simulate)


def test_four_default_hospitals_with_four_data_types() -> None:
    sites = load_sites("")
    assert {site.name: site.data_types for site in sites} == {
        "bench-lab": ("phantom",),
        "northgate": ("human",),
        "riverside": ("animal",),
        "virtual": ("simulation",),
    }
    assert [site.name for site in sites] == sorted(site.name for site in sites)
    for site in sites:
        (source,) = site.sources
        assert (source.patients, source.frames_per_patient) == (24, 3)


def test_the_default_file_explains_every_key() -> None:
    header = DEFAULT_SITES.read_text(encoding="utf-8").split("\n[[site]]")[0]
    for key in (*SITE_CHECKS, *SOURCE_CHECKS):
        assert f"#   {key} " in header, key
    assert "[[site.source]]" in header
    assert max(map(len, header.splitlines())) <= 88


def test_the_examples_in_the_header_are_themselves_a_valid_file(
    tmp_path: Path,
) -> None:
    header = DEFAULT_SITES.read_text(encoding="utf-8").split("\n[[site]]")[0]
    example = header[header.index("#   [[site]]") :].replace("#   ", "")
    hillside, lakeside, seaside = parse(tmp_path, example.replace("#\n", "\n"))
    assert hillside.name == "hillside" and hillside.classes == ("catheter",)
    assert lakeside.data_types == ("human", "animal", "random-7")
    assert lakeside.min_patients == 5
    assert seaside.classes == ()
    used = set(example.replace("=", " ").split())
    assert {"name", *SOURCE_CHECKS} <= used | {"layout"}


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
    assert first == SiteSpec("a", (FolderSource(tmp_path / "frames"),))
    assert first.data_types == ("real",)
    (source,) = second.sources
    assert source.folder == Path("/somewhere/else")
    assert source.layout == "dicom" and source.classes == ("guidewire", "catheter")


def test_what_a_site_declares_of_a_folder_reaches_its_reader(tmp_path: Path) -> None:
    (site,) = parse(
        tmp_path,
        """
        [[site]]
        name = "a"
        min-patients = 4
        folder = "x"
        data-type = "human"
        labels = { Tube = "catheter", "J wire " = "guidewire" }
        ignore-labels = ["Stent"]
        line-width = "1.5mm"
        skip-damaged = true
        device-polarity = "bright"
        part = "2/5"
        """,
    )
    assert site.data_types == ("human",) and site.min_patients == 4
    (source,) = site.sources
    assert source.part == (2, 5)
    spec = source.folder_spec(min_patients=7)
    assert spec.folder == tmp_path / "x" and spec.min_patients == 7
    assert spec.skip_damaged and spec.device_polarity == "bright"
    labels = spec.labels
    assert labels.aliases == {"tube": "catheter", "j wire": "guidewire"}
    assert labels.ignored == {"stent"}
    assert (labels.line_width, labels.line_unit) == (1.5, "mm")
    assert hash(site) == hash(replace(site))
    assert str(tmp_path) not in repr(site) and "Tube" not in repr(site)


def test_one_site_may_mix_data_types(tmp_path: Path) -> None:
    (site,) = parse(
        tmp_path,
        """
        [[site]]
        name = "a"
        [[site.source]]
        domain = "animal"
        patients = 2
        classes = ["guidewire"]
        [[site.source]]
        folder = "x"
        classes = ["catheter"]
        [[site.source]]
        domain = "animal"
        [[site.source]]
        domain = "phantom"
        labels = "none"
        """,
    )
    assert site.data_types == ("animal", "real", "phantom")
    assert site.labelled_types == ("animal", "real")
    assert site.classes == ("catheter", "guidewire")
    assert site.sources == (
        SimulatedSource("animal", patients=2, classes=("guidewire",)),
        FolderSource(tmp_path / "x", classes=("catheter",)),
        SimulatedSource("animal"),
        SimulatedSource("phantom", classes=()),
    )


def test_a_folder_need_not_exist_when_the_file_is_read(tmp_path: Path) -> None:
    (site,) = parse(tmp_path, '[[site]]\nname = "a"\nfolder = "DOE_JANE"')
    with pytest.raises(DataError, match=r"Hospital 'a': .*does not exist") as caught:
        load(site)
    message = str(caught.value)
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
        folder = "y"
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
        "neuro, or random-N such as random-7, got 'humann', did you mean 'human'?",
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


def test_mistakes_of_sources_say_which_source(tmp_path: Path) -> None:
    message = mistakes(
        tmp_path,
        """
        [[site]]
        name = "a"
        folder = "x"
        min-patients = 0
        source-s = 1
        [[site.source]]
        domain = "human"
        part = "1/2"
        [[site.source]]
        folder = "y"
        name = "b"
        line-width = "0mm"
        [[site]]
        name = "c"
        [site.source]
        domain = "human"
        """,
    )
    for part in (
        "7 mistake(s)",
        "site 1 'a': min-patients must be a whole number, at least 1",
        "site 1 'a': unknown key 'source-s', did you mean 'source'?",
        "site 1 'a': folder stands beside [[site.source]] tables, move it into one",
        "site 1 'a', source 1: part goes with folder, which is not given here",
        "site 1 'a', source 2: unknown key 'name'",
        'site 1 \'a\', source 2: line-width must be "3px" or "1.2mm", more than 0',
        "site 2 'c': write each source as a [[site.source]] table",
    ):
        assert part in message


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


@pytest.mark.parametrize(
    "line",
    [
        "labels = []",
        'labels = { DOE = "stent" }',
        "labels = { DOE = 1 }",
        'ignore-labels = "DOE"',
        "ignore-labels = [1]",
        "line-width = 3",
        'line-width = "3"',
        'line-width = "3 cm"',
        'line-width = "-1px"',
        'line-width = "nanpx"',
        'skip-damaged = "yes"',
        'device-polarity = "black"',
        'data-type = "DOE JANE"',
        'part = "0/2"',
        'part = "3/2"',
        'part = "1/0"',
        "part = 0.5",
        "min-patients = 0",
    ],
)
def test_wrong_words_about_a_folder_are_refused(tmp_path: Path, line: str) -> None:
    found = mistakes(tmp_path, f'[[site]]\nname = "a"\nfolder = "x"\n{line}')
    assert f"1 mistake(s) in the sites file: site 1 'a': {line.split(' ')[0]}" in found
    assert "DOE" not in found


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('labels = { DOE = "catheter", doe = "guidewire" }', "a label stands twice"),
        (
            'labels = { DOE = "catheter" }\nignore-labels = ["Doe "]',
            "a label stands twice",
        ),
        (
            'labels = { DOE = "guidewire" }\nclasses = ["catheter"]',
            "labels lead to guidewire, which is not in its classes",
        ),
    ],
)
def test_labels_that_contradict_each_other_are_refused(
    tmp_path: Path, lines: str, message: str
) -> None:
    found = mistakes(tmp_path, f'[[site]]\nname = "a"\nfolder = "x"\n{lines}')
    assert message in found and "doe" not in found.casefold()


@pytest.mark.parametrize(
    ("parts", "share"),
    [
        (("1/2", "2/2"), False),
        (("1/2", "1/2"), True),
        (("2/4", "1/2"), True),
        (("2/4", "2/2"), False),
        (("1/1", "7/9"), True),
    ],
)
def test_two_sites_may_share_a_folder_but_no_patient(
    tmp_path: Path, parts: tuple[str, str], share: bool
) -> None:
    text = "".join(
        f'[[site]]\nname = "{name}"\nfolder = "{folder}"\npart = "{part}"\n'
        for name, folder, part in zip("ab", ("x", "./y/../x"), parts, strict=True)
    )
    if not share:
        assert len(parse(tmp_path, text)) == 2
        return
    found = mistakes(tmp_path, text)
    assert "site 1 'a' and site 2 'b' take the same patients of one folder" in found


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


@pytest.mark.usefixtures("quick_frames")
def test_two_hospitals_of_one_type_have_different_patients() -> None:
    first, second = (load(simulated(name)) for name in ("a", "b"))
    assert first.digest() != second.digest()


@pytest.mark.usefixtures("quick_frames")
def test_simulated_frames_depend_on_the_seed_and_nothing_else() -> None:
    site = simulated(domain="animal")
    digests = [load(site, seed).digest() for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_a_hospital_that_marks_only_catheters_knows_nothing_of_wires() -> None:
    site = simulated(classes=("catheter",))
    frames = load(site, 3)
    own_seed = derive_seed(3, round_number=0, phase="frames", site="a")
    both = simulate_frames(
        "human", patients=3, frames_per_patient=1, image_size=32, seed=own_seed
    )
    assert frames.annotated.unique(dim=0).tolist() == [[True, False]]
    assert int(both.masks[:, 1].sum()) > 0 and int(frames.masks[:, 1].sum()) == 0
    assert int(frames.masks[:, 0].sum()) > 0
    assert torch.equal(frames.masks[:, 0], both.masks[:, 0])
    assert torch.equal(frames.images, both.images)


@pytest.mark.usefixtures("quick_frames")
def test_patients_that_are_added_leave_the_split_of_the_others() -> None:
    few = load(simulated(patients=30))
    many = load(simulated(patients=40))
    assert torch.equal(many.patients[:30], few.patients)
    tested = set(split_by_patient(few, seed=0).test.patients.tolist())
    later = set(split_by_patient(many, seed=0).test.patients.tolist())
    assert tested and later & set(few.patients.tolist()) == tested


def test_bright_devices_become_dark_where_a_run_asks_for_it() -> None:
    site = simulated(domain="simulation")
    kept, dark = (load(site, frame_size=64, polarity=p) for p in ("keep", "dark"))
    assert torch.allclose(dark.images[kept.valid], 1 - kept.images[kept.valid])
    assert torch.equal(dark.images[~kept.valid], kept.images[~kept.valid])
    device = kept.masks.amax(dim=1, keepdim=True) > 0
    assert kept.images[device].mean() > kept.images[~device].mean()
    assert dark.images[device].mean() < dark.images[~device].mean()


@pytest.mark.usefixtures("quick_frames")
def test_only_domains_with_bright_devices_are_inverted() -> None:
    bright = {
        f"random-{n}" for n in range(12) if random_domain(n).display.bright_devices
    }
    assert 0 < len(bright) < 12
    for domain in (*DOMAINS, *(f"random-{number}" for number in range(12))):
        site = simulated(domain=domain)
        kept, dark = (load(site, polarity=p).images for p in ("keep", "dark"))
        inverts = domain in bright | {"simulation"}
        assert torch.equal(dark, 1 - kept if inverts else kept), domain


def test_a_domain_has_devices_of_one_polarity() -> None:
    # Else a whole source could not be inverted or kept.
    domains = [*DOMAINS.values(), *map(random_domain, range(100))]
    assert {domain.display.bright_devices for domain in domains} == {0.0, 1.0}


@pytest.mark.usefixtures("quick_frames")
def test_sources_of_one_site_keep_their_patients_apart() -> None:
    sources = tuple(
        SimulatedSource(domain, patients=3, frames_per_patient=2)
        for domain in ("human", "animal", "human")
    )
    frames = load(SiteSpec("a", sources))
    assert len(frames) == 18
    assert len(frames.patients.unique()) == len(frames.sequences.unique()) == 9
    first, again = frames.images[:6], frames.images[12:]
    assert not torch.equal(first, again)  # other patients, though of one domain
    alone = load(SiteSpec("a", sources[:1]))
    assert torch.equal(frames.images[:6], alone.images)
    assert torch.equal(frames.patients[:6], alone.patients)


@pytest.mark.usefixtures("quick_frames")
def test_too_few_patients_are_refused_over_all_sources() -> None:
    two = SimulatedSource("human", patients=2, frames_per_patient=1)
    with pytest.raises(DataError, match=r"Hospital 'a': At least 3 patients.*got 2"):
        load(SiteSpec("a", (two,)))
    assert len(load(SiteSpec("a", (two, replace(two, domain="animal"))))) == 4
    with pytest.raises(DataError, match=r"At least 5 patients.*got 4"):
        load(SiteSpec("a", (two, two), min_patients=5))


# ---------------------------------------------------------------- folders


@pytest.fixture
def ward(tmp_path: Path, write_image: WriteImage) -> Path:
    """Twelve sequences of two frames, each with a bar in another place."""
    for number in range(24):
        pixels = np.tile(np.arange(40, 104, dtype=np.uint8), (64, 1))
        mask = np.zeros((64, 64), np.uint8)
        mask[:, number + 8 : number + 14] = 255
        pixels[mask > 0] = 10
        name = f"DOE{number // 2:02d}_{number % 2}.png"
        write_image(tmp_path / "ward" / "images" / name, pixels)
        write_image(tmp_path / "ward" / "masks" / name, mask)
    return tmp_path / "ward"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENDOFED_CACHE", str(tmp_path / "cache"))


def test_the_frames_of_a_folder_stay_on_disk(ward: Path) -> None:
    site = SiteSpec("hillside", (FolderSource(ward, classes=("catheter",)),))
    frames = load(site)
    assert not isinstance(frames, FrameSet)
    assert len(frames) == 24 and len(frames.patients.unique()) == 12
    assert frames.annotated.unique(dim=0).tolist() == [[True, False]]
    split = split_by_patient(frames, seed=0)
    assert len(split.train) + len(split.validation) + len(split.test) == 24
    first = split.test.subset(torch.tensor([0, 1]))
    assert first.images.shape == (2, 1, 32, 32) and int(first.masks.sum()) > 0
    shots = split.train.view(draw_shots(split.train, 3, seed=0))
    assert len(shots.patients.unique()) == 3


def test_parts_of_a_folder_have_all_patients_once(ward: Path) -> None:
    sites = [
        SiteSpec(f"s{k}", (FolderSource(ward, classes=("catheter",), part=(k, 3)),), 1)
        for k in (1, 2, 3)
    ]
    parts = [set(load(site).patients.tolist()) for site in sites]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 12
    few = replace(sites[0], min_patients=len(parts[0]) + 1)
    with pytest.raises(DataError, match=rf"Hospital 's1'.*got {len(parts[0])}"):
        load(few)


@pytest.mark.usefixtures("quick_frames")
def test_a_folder_and_simulated_frames_are_held_in_memory_together(ward: Path) -> None:
    real = FolderSource(ward, classes=("catheter",), data_type="bench")
    site = SiteSpec("mix", (real, SimulatedSource("animal", 3, 2)))
    frames = load(site)
    assert isinstance(frames, FrameSet) and site.data_types == ("bench", "animal")
    assert len(frames) == 30 and len(frames.patients.unique()) == 15
    assert frames.annotated.sum(dim=0).tolist() == [30, 6]


def test_frames_from_a_folder_are_errors_of_that_hospital(ward: Path) -> None:
    (ward / "images" / "DOE03_1.png").write_bytes(b"no image")
    site = SiteSpec("hillside", (FolderSource(ward, classes=("catheter",)),))
    with pytest.raises(DataError) as caught:
        load(site)
    assert str(caught.value).startswith("Hospital 'hillside': ")
    assert "DOE" not in str(caught.value) and str(ward) not in str(caught.value)
    assert caught.value.__suppress_context__
    (source,) = site.sources
    brave = SiteSpec("hillside", (replace(source, skip_damaged=True),))
    assert len(load(brave)) == 23


def test_a_folder_with_too_few_patients_is_refused(ward: Path) -> None:
    source = FolderSource(ward, classes=("catheter",))
    with pytest.raises(DataError, match=r"Hospital 'a': .*13"):
        load(SiteSpec("a", (source,), min_patients=13))


def test_real_frames_can_be_a_hospital(phantom_xa: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in (phantom_xa / "images").iterdir())[::8]
    for kind in ("images", "masks"):
        (tmp_path / "xa" / kind).mkdir(parents=True)
        for name in names:
            shutil.copy(phantom_xa / kind / name, tmp_path / "xa" / kind / name)
    (site,) = parse(
        tmp_path,
        '[[site]]\nname = "real"\nfolder = "xa"\nlayout = "pairs"\n'
        'classes = ["catheter"]',
    )
    frames = load(site, frame_size=64)
    views = {name.rpartition("_")[0] for name in names}
    assert len(frames) == len(names) == 8
    assert len(frames.patients.unique()) == len(views) == 5
    assert frames.annotated.unique(dim=0).tolist() == [[True, False]]


def test_a_deployed_site_is_read_like_one_of_a_sites_file(tmp_path: Path) -> None:
    node = {
        "site": "ward",
        "data-dir": str(tmp_path),
        "classes": "catheter, guidewire",
        "line-width": "2mm",
        "partition-id": 3,
    }
    site = deployed_site(node)
    source = FolderSource(tmp_path, line_width=2.0, line_unit="mm")
    assert site == SiteSpec("ward", (source,))
    with pytest.raises(DataError, match=r"2 mistake\(s\) in the node config") as caught:
        deployed_site({**node, "classes": "wire", "layout": "DOE JANE"})
    assert "DOE" not in str(caught.value)
