"""Reports of what the platform itself has written: a federation, and a study."""

from pathlib import Path

from clients.app import app as client_app
from experiments.finetuning.fewshot import ALL, STARTS, FinetuneResult
from experiments.finetuning.files import write_results
from experiments.report.page import make_page
from experiments.report.reading import read_run
from server.rounds import run_federation
from strategies.settings import SettingValue
from tests.experiments.report_run import page_of, text_of, write_run
from tests.federation import InProcessGrid


def test_a_real_run_fills_the_page(
    run_config: dict[str, SettingValue], tmp_path: Path
) -> None:
    sites = tmp_path / "sites.toml"
    sites.write_text(
        "".join(
            f'[[site]]\nname = "{domain}-site"\ndomain = "{domain}"\n'
            "patients = 4\nframes-per-patient = 1\n"
            for domain in ("human", "phantom", "simulation")
        )
    )
    config = {
        **run_config,
        "output": str(tmp_path / "run"),
        "sites": str(sites),
        "num-rounds": 2,
        "model.image-size": 32,
        "train.steps": 1,
        "train.batch-size": 2,
        "fedefm.warmup-steps": 1,
        "fedefm.overseas-steps": 1,
        "fedefm.grid-size": 2,
        "fedefm.diagonal": True,
        "mlflow": False,
    }
    folder = run_federation(InProcessGrid(client_app, config, 3), config)
    run = read_run(folder)
    page = make_page(run)
    assert run.status == "completed"
    assert run.notes == []
    for heading in ("federation", "curves", "teachers", "communication", "test"):
        assert f'<h2 id="{heading}"' in page
    assert f"{run.test_overall['test/dice']:.3f}" in page
    assert "The diagonal is a control" in page
    assert "[path]" not in page
    assert str(tmp_path) not in page


def test_the_record_of_a_real_study_is_understood(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rounds=1)
    results = [
        FinetuneResult(
            shots=shots,
            start=start,
            seed=seed,
            chosen_step=20,
            validation_at_start=0.1,
            validation=0.5,
            scores={
                "dice": 0.4 + 0.1 * seed,
                "cldice": 0.6,
                "missed": 0.0,
                "false-alarms": 0.0,
            },
            test_frames=8,
        )
        for shots in (1, ALL)
        for start in STARTS
        for seed in (0, 1)
    ]
    data = {"simulated": True, "domain": "neuro"}
    write_results(run, results, identity={}, data=data)
    text = text_of(page_of(run))
    assert "frames of a simulated domain “neuro”" in text
    # Two seeds, 0.4 and 0.5: t(0.975, 1) sd / sqrt(2) = 12.706 * 0.05 = 0.635.
    assert "1 · full, from foundation 0.450 ± 0.635 0.600 ± 0.000 2" in text
    assert "all · full, from random 0.450 ± 0.635" in text
