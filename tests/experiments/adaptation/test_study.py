import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from clients.annotations.annotation import LabelMap
from clients.data.catalogue import FolderSpec
from clients.data.errors import DataError
from experiments.adaptation.plan import DEFAULT_ROWS, StudyPlan
from experiments.adaptation.rows import Rows
from experiments.adaptation.run import run_adaptation
from experiments.adaptation.stage_files import StageFiles
from experiments.adaptation.stages import Pipeline
from experiments.adaptation.study import (
    STAGES_FOLDER,
    Listener,
    StudyRequest,
    open_study,
    prepare_job,
)
from experiments.finetuning.split import DataChoice
from experiments.model_source import open_model
from tests.experiments.adaptation.small_study import small_plan, write_folder

VARIANTS = [
    {
        "name": "zero",
        "rows": ["direct", "ours"],
        "adapt": {"embedding-loss": "zero", "epochs": 1},
    },
    {"name": "two frames", "rows": ["direct"], "frames": 2},
]


def request_of(
    plan: StudyPlan, output: Path, folder: Path | None = None
) -> StudyRequest:
    choice = None
    if folder is not None:
        spec = FolderSpec(folder, layout="pairs", labels=LabelMap(("catheter",)))
        choice = DataChoice(spec=spec, split_by="sequence")
    return StudyRequest(plan, output, torch.device("cpu"), target=choice)


def run(request: StudyRequest) -> str:
    text = io.StringIO()
    run_adaptation(request, Console(file=text, width=120))
    return text.getvalue()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyRequest, str]:
    output = tmp_path_factory.mktemp("study") / "new"
    request = request_of(small_plan(VARIANTS, seeds=[0, 1]), output)
    return request, run(request)


def results_of(request: StudyRequest) -> dict:
    return json.loads((request.output / "results.json").read_text())


def test_the_table_has_the_rows_variants_and_seeds_asked_for(
    study: tuple[StudyRequest, str],
) -> None:
    request, said = study
    lines = results_of(request)["tables"]["test"]
    assert [(one["variant"], one["row"], one["seeds"]) for one in lines] == [
        ("zero", "direct", [0, 1]),
        ("zero", "ours", [0, 1]),
        ("two frames", "direct", [0, 1]),
    ]
    assert "two frames" in said
    assert "zero" in (request.output / "table.md").read_text()
    assert (request.output / "table_adaptation.csv").is_file()


def test_variants_share_the_stages_in_which_they_agree(
    study: tuple[StudyRequest, str],
) -> None:
    stages = study[0].output / STAGES_FOLDER
    # Two seeds; fewer target frames change the style, and so the coarse network.
    assert len(list(stages.glob("coarse-*.safetensors"))) == 4
    assert len(list(stages.glob("fine-*.safetensors"))) == 2


def test_the_adapted_model_opens_anywhere_and_is_the_student(
    study: tuple[StudyRequest, str],
) -> None:
    request, _ = study
    opened = open_study(request)
    line = prepare_job(request, opened, opened.plan.variants[0], 0, Listener())
    kept = open_model(str(request.output / "model" / "finetuned.safetensors"))
    images = opened.target.adaptation.images
    with torch.no_grad():
        wanted = line.pair[1](images)
        found = kept.network.eval()(images)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert kept.kind == "finetuned"
    assert kept.data.frame_size == kept.network.image_size
    assert kept.card["task"]["adapt"]["embedding_loss"] == "zero"
    assert "test/iou" in kept.card["metrics"]


def test_pictures_masks_and_curve_are_there(study: tuple[StudyRequest, str]) -> None:
    folder = study[0].output
    for name in ("learning_curve", "overlays", "cleaning", "style"):
        assert (folder / "figures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert len(list((folder / "masks").glob("test_*.png"))) == 2
    assert not list(folder.rglob(".*.part"))


def test_a_row_that_fails_leaves_the_others_their_numbers(tmp_path: Path) -> None:
    # So sure is no network that has learned nothing: no pseudo-label is left.
    strict = [{"name": "", "adapt": {"threshold": 0.999}, "rows": ["ours", "direct"]}]
    request = request_of(small_plan(strict), tmp_path / "new")
    with pytest.raises(DataError, match=r"1 row.*ours, seed 0.*keeps one"):
        run(request)
    content = results_of(request)
    assert [one["row"] for one in content["tables"]["test"]] == ["direct"]
    assert "keeps one" in content["problems"]["ours, seed 0"]
    assert list((request.output / STAGES_FOLDER).glob("coarse-*.safetensors"))


def test_a_folder_without_labels_gets_masks_and_a_model_but_no_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENDOFED_KEY", str(tmp_path / "key"))
    monkeypatch.setenv("ENDOFED_CACHE", str(tmp_path / "cache"))
    site = write_folder(tmp_path / "site", with_masks=False, sequences=1)
    rows = [{"name": "", "rows": list(DEFAULT_ROWS)}]
    request = request_of(small_plan(rows), tmp_path / "new", site)
    assert open_study(request).plan.variants[0].rows == DEFAULT_ROWS[:-1]
    only_ours = replace(
        request,
        plan=replace(
            request.plan,
            variants=(replace(request.plan.variants[0], rows=("ours",)),),
        ),
    )
    said = run(only_ours)
    content = results_of(only_ours)
    assert "Frames without pseudo-label, left out of the fine stage: 0 of 2" in said
    assert content["tables"]["adaptation"][0]["iou"] == {"mean": None, "sd": None}
    assert "test" not in content["tables"]
    assert "IoU" not in said
    assert (request.output / "model" / "finetuned.safetensors").is_file()
    assert len(list((request.output / "masks").rglob("*_catheter.png"))) == 2
    assert not list((request.output / "masks").rglob("*_guidewire.png"))


@pytest.mark.parametrize(
    ("study_settings", "message"),
    [
        ({"name": "unet"}, "Adaptation prompts and adapts a SAM"),
        ({"target": "moon"}, "neither"),
    ],
)
def test_what_cannot_be_adapted_is_refused_before_anything_is_written(
    tmp_path: Path, study_settings: dict, message: str
) -> None:
    request = request_of(small_plan(**study_settings), tmp_path / "new")
    with pytest.raises(DataError, match=message):
        run(request)
    assert not request.output.exists()


def test_asking_for_real_labels_of_a_folder_without_any_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENDOFED_CACHE", str(tmp_path / "cache"))
    site = write_folder(tmp_path / "site", with_masks=False, sequences=1)
    request = request_of(small_plan(rows=["real"]), tmp_path / "new", site)
    with pytest.raises(DataError, match="which has none"):
        open_study(request)


def test_online_rows_go_through_the_adaptation_frames_first(
    study: tuple[StudyRequest, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    request, _ = study
    opened = open_study(request)
    line: Pipeline = prepare_job(
        request, opened, opened.plan.variants[1], 0, Listener()
    )
    seen = []

    def watch(network, frames, settings, *, seed, device):  # noqa: ANN001, ANN202
        from clients.adaptation.rivals.tent import Adapted

        seen.append((network, len(frames), bool(frames.annotated.any())))
        return Adapted(object(), torch.zeros(frames.masks.shape))

    monkeypatch.setattr("experiments.adaptation.rows.adapt_tent", watch)
    Rows(line, StageFiles(request.output / "other")).get("tent")
    assert [one[1:] for one in seen] == [(2, False), (2, False)]
    assert seen[0][0] is line.coarse
    assert seen[1][0] is not line.coarse
