"""Training on pooled simulated frames: honest splits, complete tables, learning."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from clients.data.simulator import simulate_frames
from clients.data.splits import Split
from experiments.benchmarks.learning import (
    LEARNING_RATES,
    OTHER_LEARNING_RATE,
    Learned,
    Look,
    Study,
    learn,
    learning_rate_of,
    mean_and_deviation,
    pooled_split,
    settings_of,
)
from experiments.commands.benchmarks.learning import learning_command
from experiments.commands.errors import USAGE_ERROR
from models.cost import count_parameters
from models.registry import build_model
from strategies.settings import SettingsError

CPU = torch.device("cpu")
TINY = Study(
    domains=("human", "phantom"),
    patients=8,
    frames_per_patient=2,
    image_size=64,
    steps=4,
)
app = typer.Typer()
app.command()(learning_command)


@pytest.fixture(scope="module")
def split() -> Split:
    return pooled_split(TINY)


@pytest.fixture(scope="module")
def learned(split: Split) -> tuple[Learned, list[Look]]:
    told: list[Look] = []
    settings = settings_of("sam-tiny", replace(TINY, steps=25))
    return learn(settings, split, seed=0, device=CPU, progress=told.append), told


def test_no_patient_is_in_two_parts_and_none_is_lost(split: Split) -> None:
    parts = (split.train, split.validation, split.test)
    patients = [set(part.patients.tolist()) for part in parts]
    assert not patients[0] & patients[1]
    assert not patients[0] & patients[2]
    assert not patients[1] & patients[2]
    # Number 3 of one domain is another patient than number 3 of the other.
    assert len(set.union(*patients)) == 2 * 8
    assert sum(len(part) for part in parts) == 2 * 8 * 2


def test_no_frame_is_in_two_parts(split: Split) -> None:
    parts = (split.train, split.validation, split.test)
    frames = [{one.numpy().tobytes() for one in part.images} for part in parts]
    assert len(set.union(*frames)) == sum(len(one) for one in frames) == 2 * 8 * 2


def test_another_domain_moves_no_patient(split: Split) -> None:
    alone = pooled_split(replace(TINY, domains=("human",)))
    human = simulate_frames(
        "human", patients=8, frames_per_patient=2, image_size=64, seed=0
    )
    everyone = {one.numpy().tobytes() for one in human.images}
    for ours, theirs in ((alone.train, split.train), (alone.test, split.test)):
        mine = {one.numpy().tobytes() for one in ours.images}
        both = {one.numpy().tobytes() for one in theirs.images}
        assert mine == both & everyone


def test_more_training_lowers_the_validation_loss(
    learned: tuple[Learned, list[Look]],
) -> None:
    looks = learned[0].looks
    untrained, halfway, last = looks[0], looks[len(looks) // 2], looks[-1]
    assert untrained.validation_loss > halfway.validation_loss > last.validation_loss


def test_every_look_is_told_and_the_steps_add_up(
    learned: tuple[Learned, list[Look]],
) -> None:
    found, told = learned
    assert list(found.looks) == told
    steps = [one.step for one in told]
    assert steps[0] == 0
    assert steps[-1] == found.steps == 25
    assert steps == sorted(set(steps))
    assert found.validation["dice"] == told[-1].dice
    assert found.frames_per_second == pytest.approx(25 * 4 / found.seconds)
    network = build_model("sam-tiny", image_size=64, seed=0)
    assert found.parameters == count_parameters(network)


def test_the_same_seed_learns_the_same_and_another_does_not(split: Split) -> None:
    settings = settings_of("sam-tiny", replace(TINY, steps=2))
    first, again, other = (
        learn(settings, split, seed=seed, device=CPU) for seed in (0, 0, 1)
    )
    assert first.looks == again.looks
    assert first.test == again.test
    assert first.looks[-1] != other.looks[-1]


def test_small_builds_learn_at_the_rate_of_their_family() -> None:
    assert learning_rate_of("fga-net-small") == LEARNING_RATES["fga-net"]
    assert learning_rate_of("swin-unet") == OTHER_LEARNING_RATE
    own = settings_of("unet", TINY, learning_rate=0.5)
    assert own.train.learning_rate == 0.5


def test_several_seeds_give_a_mean_and_a_deviation() -> None:
    assert mean_and_deviation([0.25]) == (0.25, None)
    # Of 1, 2 and 6: mean 3, squares 4 + 1 + 9 = 14, over two.
    assert mean_and_deviation([1, 2, 6]) == (3, pytest.approx(7**0.5))


def test_a_size_that_a_network_cannot_take_is_a_mistake_of_the_user() -> None:
    with pytest.raises(SettingsError, match=r"'fga-net-small' cannot be built.*32"):
        settings_of("fga-net-small", replace(TINY, image_size=80))


def test_the_command_shows_and_writes_every_network_and_seed(tmp_path: Path) -> None:
    output = tmp_path / "new" / "learning.json"
    names = ("sam-tiny", "fga-net-small", "unet")
    options = ["--networks", ",".join(names), "--seeds", "0,1", "--steps", "1"]
    options += ["--domains", "human", "--patients", "4", "--frames-per-patient", "1"]
    options += ["--size", "64", "--threads", "1", "--output", str(output)]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    # The table: every network, every part, with deviations over the seeds.
    rows = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert [row[0] for row in rows if row[0] in names] == list(names)
    for part, count in (("validation", 1), ("test", 3), ("guidewire", 1)):
        found = sum(part in row and "±" in row for row in rows)
        assert found == count * len(names)  # "test" pooled and of each class
    assert "seed 1, step 1: loss" in result.stderr
    # The file.
    written = json.loads(output.read_text())
    runs = [(one["network"], one["seed"]) for one in written["results"]]
    assert runs == [(name, seed) for name in names for seed in (0, 1)]
    assert sum(one["patients"] for one in written["parts"].values()) == 4
    assert written["study"]["steps"] == 1
    assert written["threads"] == 1
    for one in written["results"]:
        assert [look["step"] for look in one["looks"]] == [0, 1]
        assert one["seconds"] > 0
        for part in ("validation", "test"):
            wanted = ("dice", "cldice", "dice.catheter", "cldice.guidewire")
            assert all(0 <= one[part][name] <= 1 for name in wanted)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--networks", "u-net"], "sam-tiny"),
        (["--networks", "unet", "--seeds", "0,x"], "--seeds"),
        (["--networks", "unet", "--domains", "mars"], "domain"),
        (["--networks", "unet", "--domains", ","], "--domains"),
        (["--networks", "unet", "--learning-rate", "0"], "learning-rate"),
        (["--networks", "unet", "--loss", "hope"], "train.loss"),
        (["--networks", ","], "all or some of"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(
    options: list[str], words: str, tmp_path: Path
) -> None:
    output = tmp_path / "learning.json"
    result = CliRunner().invoke(app, [*options, "--output", str(output)])
    assert result.exit_code == USAGE_ERROR
    assert words in result.output
    assert not output.exists()
