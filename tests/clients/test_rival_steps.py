"""Local steps of rivals on a tiny simulated hospital."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clients.data.errors import DataError
from clients.hospital import Hospital
from clients.optimisation import TrainPlan
from clients.rival_steps import steps_of, train_as_rival
from clients.site_file import Privacy
from clients.training import train_on_labels
from models.network import SegmentationNetwork
from models.registry import build_model
from strategies.accumulation import State
from strategies.federation_state import equal_states
from strategies.messages import Job
from strategies.rivals.method import Objective, Step, Visit
from strategies.rivals.registry import RIVALS, Rival
from strategies.settings import RunSettings, SettingValue

Config = dict[str, SettingValue]
Made = tuple[RunSettings, Hospital, TrainPlan]
Make = Callable[..., Made]
SITE = 'name = "ward"\ndomain = "phantom"\npatients = 3\nframes-per-patient = 1\n'


class Loud(Objective):
    """Doubles the loss, turns gradients around and reports what it was given."""

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.steps = 0

    def loss(self, step: Step) -> torch.Tensor:
        self.steps += 1
        assert step.answers == {}
        return 2 * step.label_loss

    def correct_gradients(self, model: SegmentationNetwork) -> None:
        for weight in model.parameters():
            if weight.grad is not None:
                weight.grad.neg_()

    def report(self) -> dict[str, State]:
        return {
            "received": dict(self.visit.received),
            "steps": {"n": torch.tensor([float(self.steps)])},
            **self.visit.aids,
        }


class Asking(Objective):
    """Asks a teacher and leaves the loss as it is."""

    def __init__(self, visit: Visit) -> None:
        self.teachers = {"former": visit.received}
        self.gaps: list[float] = []

    def loss(self, step: Step) -> torch.Tensor:
        gap = step.output.logits.detach() - step.answers["former"].logits
        self.gaps.append(float(gap.abs().max()))
        return step.label_loss

    def report(self) -> dict[str, State]:
        return {"gaps": {"n": torch.tensor(self.gaps)}}


@pytest.fixture
def make(run_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    def build(rival: Rival, site: str = SITE) -> Made:
        path = tmp_path / "sites.toml"
        path.write_text(f"[[site]]\n{site}")
        settings = RunSettings.from_run_config(
            {**run_config, "sites": str(path), "model.image-size": 32}
        )
        monkeypatch.setitem(RIVALS, "trial", rival)
        settings = replace(settings, strategy="trial")
        node = {"partition-id": 0, "num-partitions": 1}
        hospital = Hospital.from_node_config(node, settings)
        plan = TrainPlan(
            steps=2,
            learning_rate=1e-3,
            settings=replace(settings.train, batch_size=2, warmup_steps=0),
            data=settings.frames,
            seed=1,
            deadline_s=100,
        )
        return settings, hospital, plan

    return build


def new_model() -> SegmentationNetwork:
    return build_model("sam-tiny", image_size=32, seed=0)


def job(owner: str = "", aids: dict[str, State] | None = None) -> Job:
    return Job(1, owner, "train", None, {}, aids=aids or {})


def weights_after_labels_alone(made: Made) -> State:
    _, hospital, plan = made
    model = new_model()
    train_on_labels(model, hospital.split.train, plan, hospital.device)
    return model.trainable_state()


def test_a_method_of_the_centre_alone_takes_plain_steps_on_labels(make: Make) -> None:
    settings, hospital, plan = made = make(Rival())
    model = new_model()
    report, aids = train_as_rival(model, hospital, settings, plan, job())
    assert aids == {}
    assert len(report.losses) == 2
    assert equal_states(model.trainable_state(), weights_after_labels_alone(made))


def test_an_objective_that_changes_nothing_trains_to_the_same_bits(make: Make) -> None:
    settings, hospital, plan = made = make(Rival(objective=lambda visit: Objective()))
    model = new_model()
    report, aids = train_as_rival(model, hospital, settings, plan, job())
    assert aids == {}
    assert report.losses == report.label_losses
    assert equal_states(model.trainable_state(), weights_after_labels_alone(made))


def test_an_objective_gets_what_arrived_and_reports(make: Make) -> None:
    settings, hospital, plan = make(Rival(objective=Loud))
    model, start = new_model(), new_model().trainable_state()
    told = {"control": {"w": torch.ones(1)}}
    report, aids = train_as_rival(model, hospital, settings, plan, job(aids=told))
    # What arrived is a copy: training has not moved it.
    assert equal_states(aids["received"], start)
    assert not equal_states(model.trainable_state(), start)
    assert aids["control"] is told["control"]
    assert aids["steps"]["n"].item() == 2
    doubled = [2 * loss for loss in report.label_losses]
    assert report.losses == pytest.approx(doubled)


def test_gradients_are_corrected_before_the_step(make: Make) -> None:
    settings, hospital, plan = make(Rival(objective=Loud))
    plan = replace(plan, steps=1)
    start, models = new_model().trainable_state(), []
    for rival in (Rival(), Rival(objective=Loud)):
        RIVALS["trial"] = rival
        model = new_model()
        train_as_rival(model, hospital, settings, plan, job())
        models.append(model.trainable_state())
    name = "mask_decoder.mask_tokens.weight"
    decay = 1 - plan.learning_rate * plan.settings.weight_decay
    down, up = (state[name] - decay * start[name] for state in models)
    assert down.abs().max() > 0
    torch.testing.assert_close(up, -down, rtol=0.02, atol=1e-6)


def test_a_teacher_sees_the_same_frames(make: Make) -> None:
    settings, hospital, plan = make(Rival(objective=Asking))
    model = new_model()
    _, aids = train_as_rival(model, hospital, settings, plan, job())
    gaps = aids["gaps"]["n"]
    # No dropout: before the first step the model says what its former self says.
    assert gaps[0] == pytest.approx(0, abs=1e-5)
    assert gaps[1] > 1e-4


@pytest.mark.parametrize(("owner", "expected"), [("", 8), ("ward", 8), ("another", 3)])
def test_a_visitors_copy_has_steps_of_its_own(
    make: Make, owner: str, expected: int
) -> None:
    settings, hospital, _ = make(Rival())
    settings = replace(
        settings,
        train=replace(settings.train, steps=8),
        rival=replace(settings.rival, visit_steps=3),
    )
    assert steps_of(settings, hospital.name, owner) == expected


def test_a_site_without_labels_is_refused(make: Make) -> None:
    settings, hospital, plan = make(Rival(), SITE + 'labels = "none"\n')
    with pytest.raises(DataError, match=r"'ward' has no labels.*'trial' has no rule"):
        train_as_rival(new_model(), hospital, settings, plan, job())


def test_weights_alone_leave_a_site_that_clips_what_leaves(make: Make) -> None:
    settings, hospital, plan = make(Rival(reports_gradients=True))
    strict = replace(hospital, privacy=Privacy(clip_norm=1.0))
    with pytest.raises(DataError, match=r"'trial' sends mean gradients.*'ward'"):
        train_as_rival(new_model(), strict, settings, plan, job())
    open_report, _ = train_as_rival(new_model(), hospital, settings, plan, job())
    RIVALS["trial"] = Rival(objective=lambda visit: Objective())  # weights alone
    report, _ = train_as_rival(new_model(), strict, settings, plan, job())
    assert report.losses == open_report.losses
