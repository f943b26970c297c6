"""Groups of commands that are read when they are called."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from experiments.cli import COMMANDS, app
from experiments.commands.errors import USAGE_ERROR
from experiments.commands.lazy import Entry, lazy_app

BENCHMARKS = COMMANDS["benchmark"].read("benchmark")
ENTRIES = {**COMMANDS, **BENCHMARKS.entries}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ENTRIES)
def test_the_help_says_of_a_command_what_it_says_of_itself(name: str) -> None:
    command = ENTRIES[name].read(name)
    assert command.name == name
    assert (command.help or "").split("\n\n")[0].replace("\n", " ") == ENTRIES[
        name
    ].help
    # A shell would complete the group by its name alone, which is no program.
    assert "install_completion" not in {one.name for one in command.params}


def test_help_and_mistyped_names_need_no_torch() -> None:
    program = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from experiments.cli import app\n"
        "print(CliRunner().invoke(app, ['--help']).output)\n"
        "print(CliRunner().invoke(app, ['benchmark', '--help']).output)\n"
        "print(CliRunner().invoke(app, ['finetun']).output)\n"
        "assert 'torch' not in sys.modules\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    for text in (*ENTRIES, "Use a model", "No such command 'finetun'"):
        assert text in ended.stdout


def test_a_command_gets_its_options_and_its_groups_names() -> None:
    result = CliRunner().invoke(app, ["data", "partition", "--help"])
    assert result.exit_code == 0
    assert "data partition [OPTIONS]" in result.output
    assert "--unseen" in result.output
    assert CliRunner().invoke(app, ["data", "partitio"]).exit_code == USAGE_ERROR


def test_nothing_is_imported_for_a_command_that_there_is_not() -> None:
    missing = lazy_app("Some.", {"one": Entry("no.such.module", "f", "Do one.")})
    assert CliRunner().invoke(missing, ["two"]).exit_code == USAGE_ERROR
    assert CliRunner().invoke(missing, ["--help"]).exit_code == 0
    with pytest.raises(ModuleNotFoundError):
        CliRunner().invoke(missing, ["one"], catch_exceptions=False)
