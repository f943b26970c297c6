from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from experiments.finetuning import workers
from experiments.finetuning.checks import check_unseen, choose_device
from experiments.finetuning.fewshot import (
    ALL,
    FinetuneError,
    FinetuneResult,
    FinetuneSettings,
    FinetuneTask,
)
from experiments.finetuning.files import best_model
from experiments.finetuning.run import FinetuneRequest, run_finetune
from experiments.finetuning.tracking import track_study
from experiments.finetuning.training import Study as SharedStudy
from experiments.model_source import open_model
from models.registry import build_model
from server.checkpoints import FoundationCard, SiteCard, save_foundation
from server.tracking import open_database as open_database
from strategies.settings import SettingsError

SIZE = 32
SETTINGS = FinetuneSettings(
    shots=(1, 2),
    seeds=(0,),
    steps=2,
    batch_size=2,
    validate_every=1,
    train_patients=2,
    validation_patients=1,
    test_patients=2,
    frames_per_patient=2,
)
FILES = [
    "fewshot.csv",
    "fewshot.md",
    "learning_curves.csv",
    "results.json",
    "figures/fewshot.png",
    "figures/learning_curves.png",
    "figures/fewshot_overlay.png",
]


@dataclass(frozen=True)
class Study:
    """A finished study and where it wrote."""

    results: list[FinetuneResult]
    told: list[FinetuneResult]
    folder: Path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = build_model("sam-tiny", image_size=SIZE, seed=5)
    sites = tuple(SiteCard(name, "", {}, name) for name in ("human", "phantom"))
    card = FoundationCard("sam-tiny", SIZE, seed=5, rounds=1, sites=sites, settings={})
    folder = tmp_path_factory.mktemp("run")
    return save_foundation(folder, model.trainable_state(), card)


@pytest.fixture(scope="module")
def studies(
    checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, Study]:
    """The same study with one and with two processes."""
    found = {}
    for number in (1, 2):
        folder = tmp_path_factory.mktemp("study")
        told: list[FinetuneResult] = []
        results = run_finetune(
            checkpoint,
            SETTINGS,
            folder,
            workers=number,
            device="cpu",
            on_result=told.append,
        )
        found[number] = Study(results, told, folder)
    return found


@pytest.mark.parametrize("name", FILES)
def test_the_number_of_processes_changes_nothing(
    studies: dict[int, Study], name: str
) -> None:
    assert studies[1].results == studies[2].results
    one, two = ((studies[number].folder / name).read_bytes() for number in (1, 2))
    assert one == two


def test_results_are_ordered_by_shots_start_and_seed(studies: dict[int, Study]) -> None:
    assert [(one.shots, one.start, one.seed) for one in studies[2].results] == [
        (1, "random", 0),
        (1, "foundation", 0),
        (2, "random", 0),
        (2, "foundation", 0),
    ]


def test_every_result_is_told_once(studies: dict[int, Study]) -> None:
    for study in studies.values():
        assert sorted(study.told, key=str) == sorted(study.results, key=str)


def test_the_number_of_threads_is_given_back_after_a_failure(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def fail(task: FinetuneTask, study: SharedStudy) -> None:
        seen.append(torch.get_num_threads())
        raise FinetuneError("diverged")

    monkeypatch.setattr(workers, "finetune_once", fail)
    torch.set_num_threads(2)
    try:
        with pytest.raises(FinetuneError, match="diverged"):
            run_finetune(
                checkpoint,
                SETTINGS,
                tmp_path,
                workers=1,
                device="cpu",
                on_result=lambda _: None,
            )
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(1)
    assert not (tmp_path / "fewshot.csv").exists()


def test_a_domain_that_a_site_had_is_refused_before_any_training(
    checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(FinetuneError, match=r"'phantom' is not unseen.*human, phantom"):
        run_finetune(
            checkpoint,
            replace(SETTINGS, domain="phantom"),
            tmp_path,
            workers=1,
            device="cpu",
            on_result=lambda _: pytest.fail("a run was made"),
        )


def test_a_card_is_searched_for_the_domain_in_its_list_and_in_its_sites() -> None:
    check_unseen({"domains": ["human"], "sites": [{"domain": "human"}]}, "neuro")
    with pytest.raises(FinetuneError, match="not unseen"):
        check_unseen({"domains": [], "sites": [{"domain": "neuro"}]}, "neuro")
    with pytest.raises(FinetuneError, match="not unseen"):
        check_unseen({"domains": ["neuro"], "sites": []}, "neuro")


def test_a_card_that_does_not_tell_its_domains_is_refused() -> None:
    with pytest.raises(FinetuneError, match="must list its domains"):
        check_unseen({"sites": []}, "neuro")


def test_a_device_is_what_was_asked_for_or_an_error() -> None:
    assert choose_device("cpu") == "cpu"
    assert choose_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(FinetuneError, match="auto, cpu or cuda, got 'tpu'"):
        choose_device("tpu")


def test_without_workers_nothing_can_be_done(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(FinetuneError, match="workers must be >= 1, got 0"):
        run_finetune(
            checkpoint,
            SETTINGS,
            tmp_path,
            workers=0,
            device="cpu",
            on_result=lambda _: None,
        )


def run(
    request: FinetuneRequest | Path, settings: FinetuneSettings, folder: Path
) -> tuple[list[FinetuneResult], list[FinetuneResult]]:
    """All results of a study, and those that were new."""
    told: list[FinetuneResult] = []
    results = run_finetune(
        request, settings, folder, workers=1, device="cpu", on_result=told.append
    )
    return results, told


def test_a_second_call_goes_on_where_the_first_one_was_stopped(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = run(checkpoint, SETTINGS, tmp_path / "whole")
    real, done = workers.finetune_once, []

    def break_down(task: FinetuneTask, study: SharedStudy) -> object:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(task)
        return real(task, study)

    folder = tmp_path / "broken"
    with monkeypatch.context() as patch:
        patch.setattr(workers, "finetune_once", break_down)
        with pytest.raises(KeyboardInterrupt):
            run(checkpoint, SETTINGS, folder)
    results, told = run(checkpoint, SETTINGS, folder)
    assert results == whole
    assert [one.task for one in told] == [one.task for one in whole[2:]]
    for name in FILES:
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list(folder.rglob(".*.part"))


def test_more_shots_may_be_added_but_nothing_else_changed(
    checkpoint: Path, tmp_path: Path
) -> None:
    first, _ = run(checkpoint, replace(SETTINGS, shots=(1,)), tmp_path)
    _, told = run(checkpoint, replace(SETTINGS, shots=(1, ALL)), tmp_path)
    assert [one.shots for one in told] == [ALL, ALL]
    before = (tmp_path / "results.json").read_bytes()
    with pytest.raises(FinetuneError, match="differs in steps"):
        run(checkpoint, replace(SETTINGS, steps=3), tmp_path)
    assert (tmp_path / "results.json").read_bytes() == before
    assert len(first) == 2


@pytest.mark.parametrize(("save", "count"), [("best", 1), ("all", 4), ("none", 0)])
def test_networks_are_kept_as_asked(
    checkpoint: Path, tmp_path: Path, save: str, count: int
) -> None:
    results, _ = run(FinetuneRequest(str(checkpoint), save=save), SETTINGS, tmp_path)
    kept = list(tmp_path.rglob("finetuned.safetensors"))
    assert len(kept) == count
    best = best_model(tmp_path)
    assert (best is not None) == bool(count)
    if best is not None:
        card = open_model(str(best)).card
        assert card["metrics"]["val/dice"] == max(one.validation for one in results)


def test_more_shots_than_frames_are_refused_before_any_training(
    checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"99 shots need .* 4 frames in all"):
        run(checkpoint, replace(SETTINGS, shots=(1, 99)), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_runs_stand_in_mlflow_below_the_federation_that_made_the_model(
    tmp_path: Path,
) -> None:
    client, experiment = open_database(tmp_path)
    parent = client.create_run(experiment, tags={"fl.role": "server"}).info.run_id
    (tmp_path / "checkpoints").mkdir()
    model = str(tmp_path / "checkpoints" / "foundation.safetensors")
    results = [
        FinetuneResult(1, start, 0, 2, 0.1, 0.3, {"dice": 0.5}, 4)
        for start in ("random", "foundation")
    ]
    table = tmp_path / "table.md"
    table.write_text("| a |")
    assert track_study(model, tmp_path / "out", SETTINGS, results, [table])
    runs = {one.info.run_name: one for one in client.search_runs([experiment])}
    study = runs["finetune"]
    assert study.data.tags["mlflow.parentRunId"] == parent
    one = runs["full-foundation-1-seed0"]
    assert one.data.tags["mlflow.parentRunId"] == study.info.run_id
    assert one.data.metrics["test/dice"] == 0.5
    assert one.data.params["shots"] == "1"
    assert not (tmp_path / "out").exists()


def test_when_mlflow_fails_the_study_does_not(tmp_path: Path) -> None:
    results = [FinetuneResult(1, "random", 0, 2, 0.1, 0.3, {"dice": 0.5}, 4)]
    assert not track_study("random", tmp_path / "not" / "there", SETTINGS, results, [])
