import math

import pytest

from strategies.settings import RunSettings, SettingsError, SettingValue


def test_the_defaults_of_the_project_are_valid(
    run_config: dict[str, SettingValue],
) -> None:
    settings = RunSettings.from_run_config(run_config)
    assert settings.strategy == "fedefm"
    assert settings.model.image_size == run_config["model.image-size"]


def test_all_mistakes_are_reported_together(
    run_config: dict[str, SettingValue],
) -> None:
    wrong = {**run_config, "seed": "x", "train.step": 3, "fedefm.beta": 2.0}
    wrong.pop("num-rounds")
    with pytest.raises(SettingsError) as caught:
        RunSettings.from_run_config(wrong)
    text = str(caught.value)
    assert text.startswith("4 setting(s) are wrong")
    assert "seed must be int, got 'x'" in text
    assert "train.step is unknown (did you mean train.steps?)" in text
    assert "fedefm.beta must be between 0 and 1, got 2.0" in text
    assert "num-rounds is missing" in text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num-rounds", 0),
        ("min-sites", -1),
        ("strategy", "fedsgd"),
        ("device", "tpu"),
        ("threads-per-site", 0),
        ("join-timeout-s", 0.0),
        ("phase-timeout-s", -1.0),
        ("keep-every-rounds", 0),
        ("model.name", "resnet"),
        ("model.image-size", 100),
        ("data.frame-size", -1),
        ("data.frame-size", 64),
        ("data.crop", "square"),
        ("data.clip-percentile", 50.0),
        ("data.polarity", "bright"),
        ("data.normalise", "min-max"),
        ("data.augmentation", "heavy"),
        ("train.steps", 0),
        ("train.batch-size", 0),
        ("train.learning-rate", 0.0),
        ("train.learning-rate", math.nan),
        ("train.schedule", "step"),
        ("model.training", "half"),
        ("model.lora-rank", 0),
        ("model.checkpoint", "relative.pth"),
        ("train.loss", "hinge"),
        ("train.cldice-weight", 1.5),
        ("evaluation.measures", "some"),
        ("wire", "int8"),
        ("resume", "runs/one"),
        ("fedefm.preset", "ours"),
        ("fedefm.topology", "line"),
        ("fedefm.teachers", "all"),
        ("fedefm.teach-on", "server"),
        ("fedefm.proxy-steps", -1),
        ("fedefm.distil-classes", "some"),
        ("fedefm.teacher-classes", "unannotated"),
        ("fedefm.weight-temperature", 0.0),
        ("fedefm.weight-per", "pixel"),
        ("fedefm.score", "cosine"),
        ("fedefm.prototypes", -1),
        ("fedefm.solver", "greedy"),
        ("fedefm.accumulate", "best"),
        ("fedefm.feedback-share", 1.5),
        ("fedefm.feedback-period", 0),
        ("fedefm.edge-weight", "two"),
        ("fedefm.grid-size", 0),
        ("fedefm.marginals", "none"),
        ("fedefm.emd-gradient", "all"),
        ("fedefm.temperature", 0.0),
        ("fedefm.reduction", "max"),
        ("fedefm.weight-scope", "none"),
        ("fedefm.feedback", "sum"),
        ("seed", True),
        ("mlflow", 1),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_name(
    run_config: dict[str, SettingValue], key: str, value: SettingValue
) -> None:
    with pytest.raises(SettingsError, match=f"1 setting.s. are wrong: {key} must"):
        RunSettings.from_run_config({**run_config, key: value})


def test_a_whole_number_may_stand_for_a_real_one(
    run_config: dict[str, SettingValue],
) -> None:
    settings = RunSettings.from_run_config({**run_config, "fedefm.temperature": 3})
    assert settings.fedefm.temperature == 3.0


def test_beta_climbs_to_its_value(run_config: dict[str, SettingValue]) -> None:
    config = {**run_config, "fedefm.beta": 0.3, "fedefm.beta-ramp-rounds": 3}
    fedefm = RunSettings.from_run_config(config).fedefm
    assert [fedefm.beta_in(r) for r in (1, 2, 3, 9)] == pytest.approx(
        [0.1, 0.2, 0.3, 0.3]
    )
    config["fedefm.beta-ramp-rounds"] = 0
    assert RunSettings.from_run_config(config).fedefm.beta_in(1) == 0.3


def test_the_learning_rate_falls_to_a_tenth(
    run_config: dict[str, SettingValue],
) -> None:
    config = {**run_config, "train.learning-rate": 1.0, "train.schedule": "cosine"}
    train = RunSettings.from_run_config(config).train
    assert train.learning_rate_in(0, 8) == pytest.approx(1.0)
    assert train.learning_rate_in(4, 8) == pytest.approx(0.55)
    assert train.learning_rate_in(8, 8) == pytest.approx(0.1)
    config["train.schedule"] = "constant"
    assert RunSettings.from_run_config(config).train.learning_rate_in(8, 8) == 1.0


def test_frames_have_the_networks_size_unless_a_larger_one_is_asked_for(
    run_config: dict[str, SettingValue],
) -> None:
    size = run_config["model.image-size"]
    assert RunSettings.from_run_config(run_config).frames.frame_size == size
    larger = RunSettings.from_run_config({**run_config, "data.frame-size": 512})
    assert larger.frames.frame_size == 512


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.name": "unet", "model.training": "lora"}, "for the SAM family"),
        ({"model.name": "unet", "model.checkpoint": "/a/b.pth"}, "needs a SAM"),
        ({"model.deep-supervision": True}, "deep-supervision is for fga-net"),
        ({"fedefm.topology": "edges"}, "goes with fedefm.topology = 'edges'"),
        ({"fedefm.edges": "a>b"}, "goes with fedefm.topology = 'edges'"),
        ({"fedefm.score": "common"}, "allow it with fedefm.prototypes >= 1"),
        (
            {"fedefm.teach-on": "host", "fedefm.teachers": "global"},
            "needs fedefm.teachers = 'overseas'",
        ),
        (
            {"fedefm.teacher-classes": "annotated", "fedefm.teachers": "global"},
            "annotates; it needs fedefm.teach-on = 'proxy', or 'student'",
        ),
        (
            {"fedefm.teacher-classes": "annotated", "fedefm.weight-scope": "loss"},
            "and fedefm.weight-scope = 'teacher', got",
        ),
        ({"train.loss": "sam", "train.cldice-weight": 0.5}, "is for train.loss"),
        ({"strategy": "fedadam"}, "rival.server-learning-rate.*better 0.01 to 0.1"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    changes: dict[str, SettingValue], words: str, run_config: dict[str, SettingValue]
) -> None:
    with pytest.raises(SettingsError, match=words):
        RunSettings.from_run_config({**run_config, **changes})


def test_the_path_of_a_checkpoint_is_not_in_the_message(
    run_config: dict[str, SettingValue],
) -> None:
    with pytest.raises(SettingsError) as caught:
        RunSettings.from_run_config({**run_config, "model.checkpoint": "secret.pth"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("strategy", ["moon", "fedntd", "fedgkd"])
def test_rivals_that_compare_pixels_are_refused_for_whole_frames(
    run_config: dict[str, SettingValue], strategy: str
) -> None:
    pretext = {
        "model.task": "source-classification",
        "model.data-types": "human, animal",
    }
    RunSettings.from_run_config({**run_config, **pretext})
    with pytest.raises(SettingsError, match=f"'{strategy}' compares pixels"):
        RunSettings.from_run_config({**run_config, **pretext, "strategy": strategy})
