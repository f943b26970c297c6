"""What a hospital writes into site.toml, and what it is told about its mistakes."""

from pathlib import Path

import pytest

from clients.data.errors import DataError
from clients.site_file import Bound, Limits, Privacy, SiteFile
from clients.site_file_checks import setting_keys
from clients.sites import load_sites
from strategies.settings import SettingValue
from tests.clients.site_kit import write_site_file

FULL = """
[federation]
name = "trial"
address = "fl.example.org:8000"
[site]
name = "hillside"
data = "frames"
classes = ["catheter"]
labels = { tube = "catheter" }
line-width = "2px"
part = "1/2"
[machine]
device = "cuda"
gpus = 1
cpus = 2
memory-gib = 8
checkpoint = "sam.pth"
state = "/state"
[limits]
strategies = ["fedefm"]
models = ["sam-tiny", "fga-net-small"]
max-rounds-per-day = 200
min-patients = 5
max-prototypes = 0
max-seconds-per-phase = 900
apps = ["%s"]
[limits.settings]
"train.steps" = { max = 100 }
train.batch-size = { min = 1, max = 8 }
"wire" = ["float32", "bfloat16"]
[privacy]
clip-norm = 1.5
noise-multiplier = 0.5
"""


@pytest.fixture
def full(tmp_path: Path) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(FULL % ("AB" * 32))
    return path


def test_every_word_of_a_site_file_arrives(full: Path) -> None:
    site = SiteFile.read(full)
    assert (site.name, site.federation.address) == ("hillside", "fl.example.org:8000")
    assert (site.machine.device, site.machine.state) == ("cuda", Path("/state"))
    assert site.machine.checkpoint == str(full.parent / "sam.pth")
    assert site.limits == Limits(
        strategies=("fedefm",),
        models=("sam-tiny", "fga-net-small"),
        max_rounds_per_day=200,
        min_patients=5,
        max_prototypes=0,
        max_seconds_per_phase=900,
        apps=("ab" * 32,),
        settings={
            "train.steps": Bound(most=100),
            "train.batch-size": Bound(least=1, most=8),
            "wire": Bound(allowed=("float32", "bfloat16")),
        },
    )
    assert site.privacy == Privacy(clip_norm=1.5, noise_multiplier=0.5)


def test_a_site_is_the_hospital_that_a_sites_file_describes(
    full: Path, tmp_path: Path
) -> None:
    sites = tmp_path / "sites.toml"
    sites.write_text(
        '[[site]]\nname = "hillside"\nfolder = "frames"\nclasses = ["catheter"]\n'
        'labels = { tube = "catheter" }\nline-width = "2px"\npart = "1/2"\n'
        "min-patients = 5\n"
    )
    assert SiteFile.read(full).spec == load_sites(str(sites))[0]


def test_what_is_not_written_is_not_limited_but_for_patients_and_apps(
    tmp_path: Path,
) -> None:
    path = tmp_path / "site.toml"
    path.write_text(
        '[federation]\nname = "t"\naddress = "[::1]:8000"\n'
        '[site]\nname = "a"\ndata = "/data"\n'
    )
    site = SiteFile.read(path)
    assert site.limits == Limits(min_patients=3)
    assert site.machine.state == Path("/state")
    assert not site.limits.approves("ab" * 32)


@pytest.mark.parametrize(
    ("table", "content", "phrase"),
    [
        ("limits", {"max-round-per-day": 3}, "did you mean 'max-rounds-per-day'"),
        ("limits", {"strategies": ["fedawg"]}, "strategies must be a list with any"),
        ("limits", {"models": "sam-tiny"}, "models must be a list"),
        ("limits", {"max-rounds-per-day": 1.5}, "max-rounds-per-day must be a whole"),
        ("limits", {"min-patients": 0}, "min-patients must be a whole number, at lea"),
        ("limits", {"apps": ["abc"]}, "apps must be a list of SHA-256"),
        ("limits", {"apps": ["any", "ab" * 32]}, "apps must be a list of SHA-256"),
        ("limits", {"settings": {"train.stps": [1]}}, "did you mean 'train.steps'"),
        ("limits", {"settings": {"train.steps": 4}}, "train.steps must be a list"),
        ("limits", {"settings": {"train.steps": {"max": "9"}}}, "train.steps must be"),
        ("limits", {"settings": {"train.steps": {"min": 9, "max": 1}}}, "train.steps"),
        ("machine", {"device": "gpu"}, "device must be one of auto, cpu, cuda"),
        ("machine", {"cpus": 0}, "cpus must be a number above 0"),
        ("privacy", {"clip-norm": -1.0}, "clip-norm must be a number, at least 0"),
        ("privacy", {"noise-multiplier": 1.0}, "noise-multiplier needs clip-norm > 0"),
        ("federation", {"address": "https://fl.example.org"}, "address must be host"),
        ("federation", {"address": "fl.example.org:99999"}, "address must be host"),
        ("site", {"min-patients": 3}, r"write it into \[limits\]"),
        ("site", {"folder": "/data"}, "the folder of frames is called data here"),
        ("site", {"data": "/data"}, r"\[site\]: give either data \(a folder\) or dom"),
        ("site", {"clases": []}, "did you mean 'classes'"),
    ],
)
def test_a_mistake_is_named(
    tmp_path: Path, table: str, content: dict[str, object], phrase: str
) -> None:
    with pytest.raises(DataError, match=phrase):
        SiteFile.read(write_site_file(tmp_path, **{table: content}))


def test_all_mistakes_are_told_at_once_and_without_paths(tmp_path: Path) -> None:
    path = write_site_file(
        tmp_path / "MARKER",
        site={"name": "bad name", "classes": ["stent"]},
        machine={"device": "tpu"},
        limits={"max-prototypes": -1},
    )
    with pytest.raises(DataError) as caught:
        SiteFile.read(path)
    text = str(caught.value)
    assert text.startswith("4 mistake(s) in the site file")
    for word in ("name must be", "classes must be", "device must be", "max-prototypes"):
        assert word in text
    assert "MARKER" not in text


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        ("[site", "The site file is not valid TOML near end of document"),
        ("site = 3", r"a \[site\] table is needed"),
        ('limits = "all"\n[site]\nname = "a"', r"write \[limits\] as a table"),
        (None, "The site file cannot be read"),
    ],
)
def test_a_file_that_is_none_is_said_so(
    tmp_path: Path, content: str | None, phrase: str
) -> None:
    path = tmp_path / "MARKER.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=phrase) as caught:
        SiteFile.read(path)
    assert "MARKER" not in str(caught.value)


@pytest.mark.parametrize(
    ("bound", "good", "bad"),
    [
        (Bound(most=100), [100, 0, -1.5], [101, "9", True]),
        (Bound(least=1, most=2), [1, 2], [0, 3]),
        (Bound(allowed=("float32",)), ["float32"], ["float16", 1]),
        (Bound(allowed=(1,)), [1, 1.0], [True, 2]),
        (Bound(allowed=(False,)), [False], [0, True]),
        (Bound(allowed=()), [], [1, "", False]),
    ],
)
def test_a_bound_holds_what_it_says(
    bound: Bound, good: list[SettingValue], bad: list[SettingValue]
) -> None:
    assert all(bound.holds(value) for value in good)
    assert not any(bound.holds(value) for value in bad)


def test_every_setting_of_a_run_can_be_bounded(
    run_config: dict[str, SettingValue],
) -> None:
    assert set(setting_keys()) == set(run_config)


def test_an_app_is_approved_by_its_whole_digest_or_not_at_all() -> None:
    limits = Limits(apps=("ab" * 32,))
    assert limits.approves("AB" * 32)
    assert not limits.approves("ab" * 31)
    assert not limits.approves("")
    assert Limits(apps=("any",)).approves("cd" * 32)
