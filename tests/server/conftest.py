"""A federation of next to nothing, for tests that play whole runs."""

from pathlib import Path

import pytest

from strategies.settings import SettingValue


@pytest.fixture
def tiny_run(
    run_config: dict[str, SettingValue], tmp_path: Path
) -> dict[str, SettingValue]:
    """Return a run of two hospitals with four frames of 32 px and single steps."""
    sites = tmp_path / "sites.toml"
    sites.write_text(
        "\n".join(
            f'[[site]]\nname = "{domain}-site"\ndomain = "{domain}"\n'
            "patients = 4\nframes-per-patient = 1\n"
            for domain in ("human", "phantom")
        )
    )
    return {
        **run_config,
        "output": str(tmp_path / "run"),
        "sites": str(sites),
        "num-rounds": 1,
        "model.image-size": 32,
        "train.steps": 1,
        "train.batch-size": 2,
        "train.schedule": "constant",
        "fedefm.warmup-steps": 1,
        "fedefm.overseas-steps": 1,
        "fedefm.grid-size": 2,
        "join-timeout-s": 30.0,
        "phase-timeout-s": 60.0,
        "mlflow": False,
    }
