from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from experiments import finetune
from experiments.fewshot import FinetuneResult, FinetuneSettings
from experiments.fewshot_training import FinetuneError, FinetuneTask
from experiments.finetune import check_unseen, choose_device, run_finetune
from models.registry import build_model
from server.checkpoints import FoundationCard, SiteCard, save_foundation

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
    "fewshot.json",
    "figures/fewshot.png",
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
    for workers in (1, 2):
        folder = tmp_path_factory.mktemp("study")
        told: list[FinetuneResult] = []
        results = run_finetune(
            checkpoint,
            SETTINGS,
            folder,
            workers=workers,
            device="cpu",
            on_result=told.append,
        )
        found[workers] = Study(results, told, folder)
    return found


@pytest.mark.parametrize("name", FILES)
def test_the_number_of_processes_changes_nothing(
    studies: dict[int, Study], name: str
) -> None:
    assert studies[1].results == studies[2].results
    one, two = ((studies[workers].folder / name).read_bytes() for workers in (1, 2))
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

    def fail(task: FinetuneTask) -> None:
        seen.append(torch.get_num_threads())
        raise FinetuneError("diverged")

    monkeypatch.setattr(finetune, "finetune_once", fail)
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
