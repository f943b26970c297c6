"""The sites files of a study's scenarios, in its own folder."""

from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout

from clients.data.errors import DataError
from clients.sites import load_sites
from experiments.partition_sites import write_sites
from experiments.study.jobs import sites_file
from experiments.study.spec import StudySpec
from experiments.study.spec_rules import make_partition
from strategies.settings import SettingsError

LOCK_FILE = ".lock"
"""In a study's folder, while it is played."""


def make_sites(spec: StudySpec, study: Path) -> None:
    """Write the sites file of every scenario into the study's folder.

    A file that says the same already is not touched, and none is ever half there.

    Args:
        spec: The study.
        study: Its folder.

    Raises:
        DataError: If one cannot be made, or has folders with relative paths.
        SettingsError: If one would change under a study that is being played.
    """
    for scenario in spec.scenarios:
        path = sites_file(study, scenario.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / path.name
            if scenario.partition is not None:
                write_sites(
                    make_partition(scenario.partition),
                    made,
                    scenario.partition.frames_per_patient,
                    f"endofed study {spec.name}",
                )
            elif scenario.sites is not None:
                _copy(scenario.name, scenario.sites, made)
            if not path.exists() or path.read_bytes() != made.read_bytes():
                _put(made, path, study)


def _put(made: Path, path: Path, study: Path) -> None:
    """Move a file to its place unless somebody works with what is there."""
    try:
        with FileLock(study / LOCK_FILE, timeout=0):
            made.replace(path)
    except Timeout:
        raise SettingsError(
            "Another process plays this study with other sites. Wait for it, or name "
            "another --folder."
        ) from None


def _copy(name: str, source: Path, target: Path) -> None:
    """Copy a sites file, whose paths must mean the same beside the copy."""
    target.write_bytes(source.read_bytes())
    if load_sites(str(target)) != load_sites(str(source)):
        raise DataError(
            f"Scenario '{name}': the sites file has a relative folder, which a study "
            "cannot copy. Write absolute paths."
        )
