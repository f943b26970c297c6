"""The digest by which a site approves an app: SHA-256 of the whole FAB.

`flwr build` and `flwr run` bundle the same files in the same order with one fixed date,
so equal files give equal bytes (read in flwr 1.41, `cli/build.py`); the compression is
zlib's, so a digest is computed with the environment that will run `flwr run`.
"""

import hashlib
import subprocess
import tempfile
from pathlib import Path

from experiments import processes
from experiments.deployment.centre import centre_environment
from experiments.flower_home import programs_folder
from experiments.run_config import PROJECT_FOLDER
from experiments.superlink import without_colours
from strategies.settings import SettingsError

BUILD_TIMEOUT_S = 120.0


def app_digest(app_folder: Path = PROJECT_FOLDER) -> str:
    """Build the app that `endofed federation run` would submit, and fingerprint it.

    Args:
        app_folder: Folder of the app's `pyproject.toml`.

    Returns:
        64 hexadecimal digits.

    Raises:
        SettingsError: If Flower cannot build it, with its reason.
    """
    content = build_app(app_folder)
    return hashlib.sha256(content).hexdigest()


def build_app(app_folder: Path) -> bytes:
    """Build an app with `flwr build`, in a folder that is deleted afterwards.

    Args:
        app_folder: Folder of the app's `pyproject.toml`.

    Returns:
        The FAB.

    Raises:
        SettingsError: If Flower cannot build it, with its reason.
    """
    with tempfile.TemporaryDirectory(prefix="endofed-") as name:
        folder = Path(name)
        try:
            flwr = str(programs_folder() / "flwr")
            done = processes.run(
                [flwr, "build", "--app", str(app_folder.resolve())],
                centre_environment(folder),
                BUILD_TIMEOUT_S,
                folder=folder,  # where Flower puts the FAB
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SettingsError(
                f"`flwr build` could not be run ({type(error).__name__})."
            ) from None
        built = sorted(folder.glob("*.fab"))
        if len(built) != 1:
            said = without_colours(done.stdout + done.stderr).strip()
            raise SettingsError(f"`flwr build` failed: {said or 'no reason given'}")
        return built[0].read_bytes()
