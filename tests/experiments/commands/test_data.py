"""`endofed data …` as a person at a site meets it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from experiments.commands import data as data_cli
from experiments.commands.data import data_app
from tests.clients.planted_files import (
    LABEL,
    MARKER,
    image_bytes,
    labelme_text,
    make_frame,
    make_mask,
)
from tests.clients.planting import traces_in

CATHETER = ("--classes", "catheter")


@pytest.fixture(autouse=True)
def site_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the key of the tests away from that of this machine."""
    path = tmp_path / "keys" / "site.key"
    monkeypatch.setenv("ENDOFED_KEY", str(path))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three patients with a PNG and a mask each; 255 marks the catheter."""
    place = tmp_path / "data"
    for patient in range(3):
        name = f"ward{patient}_01.png"
        for part, pixels in (
            ("images", make_frame(patient, 0)),
            ("masks", 255 * make_mask()),
        ):
            (place / part).mkdir(parents=True, exist_ok=True)
            (place / part / name).write_bytes(image_bytes(".png", pixels))
    return place


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(data_app, list(map(str, arguments)))


def sequences_of(folder: Path) -> list[str]:
    content = json.loads(call("check", folder, *CATHETER, "--json").stdout)
    return [sequence["id"] for sequence in content["sequences"]]


def test_a_good_folder_is_ready_and_the_exit_code_is_0(folder: Path) -> None:
    result = call("check", folder, *CATHETER)
    assert result.exit_code == 0, result.output
    assert "3 patients, 3 sequences, 3 frames: 3 labelled" in result.stdout
    assert "64×64 px" in result.stdout
    assert "devices dark" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("Ready: 0 errors")


def test_nothing_printed_names_the_folder_or_a_file(folder: Path) -> None:
    (folder / "images" / "ward0_01.png").write_bytes(b"no image")
    for options in ([], ["--json"], ["--all"]):
        output = call("check", folder, *CATHETER, *options).output
        assert "ward" not in output
        assert str(folder.parent) not in output


def test_a_damaged_file_gives_exit_code_1_and_0_where_it_may_be_left_out(
    folder: Path,
) -> None:
    for frame in (2, 3):
        png = image_bytes(".png", make_frame(0, frame))
        (folder / "images" / f"ward0_0{frame}.png").write_bytes(png)
        mask = image_bytes(".png", make_mask())
        (folder / "masks" / f"ward0_0{frame}.png").write_bytes(mask)
    image = folder / "images" / "ward0_03.png"
    image.write_bytes(image.read_bytes()[:300])
    result = call("check", folder, *CATHETER)
    assert result.exit_code == 1
    assert "Not ready: 1 error" in result.stdout
    assert sequences_of(folder)[0] in result.stdout
    skipping = call("check", folder, *CATHETER, "--skip-damaged")
    assert skipping.exit_code == 0, skipping.output


def test_too_few_patients_give_exit_code_1(folder: Path) -> None:
    result = call("check", folder, *CATHETER, "--min-patients", 4)
    assert result.exit_code == 1
    assert "at least 4" in " ".join(result.stdout.split())


def test_an_empty_folder_gives_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = call("check", tmp_path / "empty")
    assert result.exit_code == 1
    assert "Not ready" in result.stdout


def test_a_declared_polarity_that_is_wrong_is_a_warning(folder: Path) -> None:
    result = call("check", folder, *CATHETER, "--polarity", "bright")
    assert result.exit_code == 0
    assert "declared bright" in result.stdout
    assert "Devices are dark" in result.stdout


def test_labels_are_translated_and_ignored(folder: Path) -> None:
    for path in (folder / "masks").iterdir():
        path.unlink()
    for number, label in enumerate((LABEL, "Catheter", LABEL)):
        name = f"ward{number}_01"
        stranger = json.loads(labelme_text(name, "ruler"))["shapes"]
        text = json.loads(labelme_text(name, label))
        text["shapes"] += stranger
        (folder / "images" / f"{name}.json").write_text(json.dumps(text))
    options = ["--labels", f"{LABEL}=catheter", "--ignore-label", "Ruler"]
    good = call("check", folder, *CATHETER, *options)
    assert good.exit_code == 0, good.output
    assert "4.69%" in good.stdout  # 3 of 64 rows
    bad = call("check", folder, *CATHETER, *options[:2])
    assert bad.exit_code == 1
    assert "ruler" not in bad.output


def test_the_card_is_written_and_follows_the_content_not_the_names(
    folder: Path, tmp_path: Path
) -> None:
    cards = []
    for number in range(2):
        card = tmp_path / f"card{number}.json"
        assert call("check", folder, *CATHETER, "--card", card).exit_code == 0
        cards.append(json.loads(card.read_text()))
        for part in ("images", "masks"):
            for path in list((folder / part).iterdir()):
                path.rename(path.with_name(f"theatre{path.name}"))
    assert cards[0] == cards[1]
    assert cards[0]["frames"] == 3


def test_a_card_is_also_written_of_a_folder_with_errors(
    folder: Path, tmp_path: Path
) -> None:
    card = tmp_path / "card.json"
    options = ("--min-patients", 4, "--card", card)
    assert call("check", folder, *CATHETER, *options).exit_code == 1
    assert json.loads(card.read_text())["problems"]["errors"] == 1


def test_a_card_that_cannot_be_written_costs_no_table(
    folder: Path, tmp_path: Path
) -> None:
    missing = tmp_path / "nowhere" / "card.json"
    result = call("check", folder, *CATHETER, "--card", missing)
    assert result.exit_code == 2
    assert "3 patients" in result.stdout
    assert "cannot be written" in result.stderr
    assert "nowhere" not in result.output


def test_json_is_all_that_comes_on_stdout(folder: Path) -> None:
    result = call("check", folder, *CATHETER, "--json")
    content = json.loads(result.stdout)
    assert content["card"]["patients"] == 3
    assert len(content["sequences"]) == 3


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--layout", "zip"], "--layout must be one of auto, pairs, dicom"),
        (["--classes", "stent"], "--classes wants"),
        (["--classes", "catheter,catheter"], "--classes wants"),
        (["--classes", ""], "--classes wants"),
        (["--labels", "tube"], "--labels wants LABEL=CLASS"),
        (["--labels", "tube=stent"], "--labels wants LABEL=CLASS"),
        (["--classes", "catheter", "--labels", "tube=guidewire"], "--labels wants"),
        (["--line-width", "3"], "--line-width wants"),
        (["--line-width", "0px"], "--line-width wants"),
        (["--line-width", "-1mm"], "--line-width wants"),
        (["--polarity", "grey"], "--polarity must be one of"),
        (["--min-patients", "0"], "Invalid value"),
    ],
)
def test_wrong_usage_gives_exit_code_2_and_says_what_is_wanted(
    folder: Path, options: list[str], part: str
) -> None:
    result = call("check", folder, *options)
    assert result.exit_code == 2
    assert part in result.stderr
    assert result.stdout == ""


def test_a_folder_that_does_not_exist_gives_exit_code_2_and_no_path(
    tmp_path: Path,
) -> None:
    for command in (["check"], ["find"]):
        identity = ["S-AAAAAAAAAA"] if command == ["find"] else []
        result = call(*command, tmp_path / "nowhere", *identity)
        assert result.exit_code == 2
        assert "does not exist" in result.stderr
        assert "nowhere" not in result.output


def test_a_key_of_ones_own_gives_other_pseudonyms(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    result = call("check", folder, *CATHETER, "--json", "--key", other)
    ids = [one["id"] for one in json.loads(result.stdout)["sequences"]]
    assert not set(ids) & set(sequences_of(folder))
    assert other.stat().st_mode & 0o777 == 0o600


def test_a_pseudonym_leads_back_to_its_files_for_the_site(folder: Path) -> None:
    found = [call("find", folder, pseudonym) for pseudonym in sequences_of(folder)]
    assert {result.exit_code for result in found} == {0}
    assert sorted(result.stdout for result in found) == [
        f"images/ward{patient}_01.png\n" for patient in range(3)
    ]
    assert all("stay at the site" in result.stderr for result in found)


def test_find_is_the_command_that_does_show_names(folder: Path) -> None:
    for part in ("images", "masks"):
        path = folder / part / "ward0_01.png"
        path.rename(path.with_name(f"{MARKER}_01.png"))
    printed = [call("find", folder, one).output for one in sequences_of(folder)]
    assert traces_in("".join(printed)) == ["zqxmarker"]


def test_names_that_a_terminal_would_obey_are_escaped(folder: Path) -> None:
    for part in ("images", "masks"):
        path = folder / part / "ward0_01.png"
        path.rename(path.with_name("a\x1b[2Jb\udcff_01.png"))
    printed = "".join(call("find", folder, one).stdout for one in sequences_of(folder))
    assert "images/a\\x1b[2Jb\\udcff_01.png\n" in printed
    assert "\x1b" not in printed


def test_an_unknown_pseudonym_gives_exit_code_2(folder: Path) -> None:
    result = call("find", folder, "S-AAAAAAAAAA")
    assert result.exit_code == 2
    assert "pseudonym" in result.stderr


def test_an_unexpected_error_says_where_it_came_up_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object) -> None:
        raise KeyError("DOE^JANE")

    monkeypatch.setattr(data_cli, "scan_folder", break_down)
    result = call("check", folder)
    assert result.exit_code == 2
    assert "unexpected KeyError in test_data.py, line " in result.stderr
    assert "DOE" not in result.output
    assert str(folder) not in result.output
