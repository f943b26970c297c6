"""Few-shot transfer: equal terms, nested draws, test frames that nothing touches."""

from pathlib import Path
from typing import Any

import pytest
import torch

from clients.data.errors import DataError
from clients.data.frames import Frames
from clients.optimisation import TrainPlan, TrainReport
from experiments.study import transfer
from experiments.study.transfer import (
    draw_frames,
    equal_terms,
    few_shot,
    shot_pool,
    unseen_frames,
)
from models.weights import WeightsError
from strategies.settings import RunSettings, SettingValue
from tests.experiments.study.small_federation import (
    Config,
    job_of,
    random_state,
    small_config,
)

CPU = torch.device("cpu")
DOMAIN = "neuro"


@pytest.fixture
def config(run_config: dict[str, SettingValue], tmp_path: Path) -> Config:
    return small_config(run_config, tmp_path)


@pytest.fixture(autouse=True)
def small_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate fewer frames than a study has."""
    for name, number in {"TEST_PATIENTS": 3, "POOL_PATIENTS": 4}.items():
        monkeypatch.setattr(transfer, name, number)
    unseen_frames.cache_clear()
    shot_pool.cache_clear()


def settings_of(config: Config, **changes: SettingValue) -> RunSettings:
    named = {name.replace("_", "-"): value for name, value in changes.items()}
    return RunSettings.from_run_config({**config, **named})


def transfer_job(config: Config, **facts: Any) -> Any:  # noqa: ANN401
    plain = {"shots": (1, 3), "shot_domains": (DOMAIN,), "shot_repeats": 2}
    return job_of(config, **{**plain, "shot_steps": 2, **facts})


def test_fewer_shots_are_the_first_of_more(config: Config) -> None:
    settings = settings_of(config)
    one, three = (
        draw_frames(DOMAIN, settings, shots=shots, draw=0) for shots in (1, 3)
    )
    assert torch.equal(one.images[0], three.images[0])
    assert len(three) == len(three.patients.unique()) == 3


def test_every_repetition_and_every_seed_draws_anew(config: Config) -> None:
    drawn = {
        draw_frames(DOMAIN, settings_of(config, seed=seed), shots=3, draw=draw).digest()
        for seed in (0, 1)
        for draw in (0, 1)
    }
    assert len(drawn) > 1
    again = draw_frames(DOMAIN, settings_of(config), shots=3, draw=1).digest()
    assert again in drawn


def test_no_patient_of_the_pool_is_tested(config: Config) -> None:
    frames = settings_of(config).frames
    pool, test = shot_pool(DOMAIN, frames), unseen_frames(DOMAIN, frames)
    assert not set(pool.patients.tolist()) & set(test.patients.tolist())
    seen = {image.numpy().tobytes() for image in pool.images}
    assert not seen & {image.numpy().tobytes() for image in test.images}


def test_test_frames_do_not_depend_on_the_seed_of_the_run(config: Config) -> None:
    digests = {
        unseen_frames(DOMAIN, settings_of(config, seed=seed).frames).digest()
        for seed in (0, 1)
    }
    assert len(digests) == 1


def test_only_drawn_frames_of_the_pool_are_trained_on(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[str, int, float, int]] = []

    def note(
        model: torch.nn.Module, frames: Frames, plan: TrainPlan, device: torch.device
    ) -> TrainReport:
        terms = plan.steps, plan.learning_rate, plan.settings.batch_size
        trained.append((frames.digest(), *terms))
        return TrainReport()

    monkeypatch.setattr(transfer, "train_on_labels", note)
    tuned = {"train.learning-rate": 0.5, "train.batch-size": 1}
    settings = RunSettings.from_run_config({**config, **tuned})
    few_shot([random_state(settings, 6)], transfer_job(config), settings, CPU)
    wanted = [
        draw_frames(DOMAIN, settings, shots=shots, draw=draw).digest()
        for shots in (1, 3)
        for draw in (0, 1)
    ]
    # Whatever a row was tuned to, a new hospital trains on the defaults.
    assert trained == [(digest, 2, 4e-3, 8) for digest in wanted]


def test_transfer_is_the_same_twice_and_starts_matter(config: Config) -> None:
    settings = settings_of(config)
    job = transfer_job(config, shots=(2,), shot_steps=1)
    one, other = (random_state(settings, seed) for seed in (6, 7))
    first = few_shot([one], job, settings, CPU)
    assert few_shot([one], job, settings, CPU) == first
    values = first[DOMAIN]["2"]["dice"]
    assert len(values) == 2
    assert all(0 <= value <= 1 for value in values)
    assert first[DOMAIN].keys() == {"2"}
    assert few_shot([other], job, settings, CPU) != first


def test_several_starts_are_averaged(config: Config) -> None:
    settings = settings_of(config)
    job = transfer_job(config, shots=(1,), shot_repeats=1, shot_steps=1)
    starts = [random_state(settings, seed) for seed in (6, 7)]
    alone = [few_shot([one], job, settings, CPU) for one in starts]
    one, other = (found[DOMAIN]["1"]["dice"][0] for found in alone)
    both = few_shot(starts, job, settings, CPU)[DOMAIN]["1"]["dice"]
    assert one != other
    assert both == [pytest.approx((one + other) / 2)]


def test_training_changes_the_start_and_leaves_the_given_state_alone(
    config: Config,
) -> None:
    settings = settings_of(config)
    state = random_state(settings, 7)
    before = {name: tensor.clone() for name, tensor in state.items()}
    job = transfer_job(config, shots=(1,), shot_repeats=1)
    few_shot([state], job, settings, CPU)
    assert all(torch.equal(before[name], state[name]) for name in state)


def test_terms_keep_the_runs_loss(config: Config) -> None:
    tuned = {"train.learning-rate": 0.5, "train.batch-size": 3, "train.warmup-steps": 0}
    changed = {**config, **tuned, "train.loss": "bce"}
    found = equal_terms(RunSettings.from_run_config(changed).train)
    assert (found.learning_rate, found.batch_size, found.warmup_steps) == (4e-3, 8, 2)
    assert found.loss == "bce"


def test_what_cannot_be_done_is_refused(config: Config) -> None:
    settings = settings_of(config)
    with pytest.raises(ValueError, match="needs a model"):
        few_shot([], transfer_job(config), settings, CPU)
    with pytest.raises(DataError, match="99 shots need"):
        start = random_state(settings, 6)
        few_shot([start], transfer_job(config, shots=(99,)), settings, CPU)
    with pytest.raises(WeightsError):
        few_shot([{"w": torch.ones(1)}], transfer_job(config), settings, CPU)
