"""Whole rounds of the rivals between Flower's apps: tiny frames, real local steps."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
import torch
from flwr.app import Message

from clients.app import app as client_app
from models.assembly import assemble_model
from models.registry import BUILDERS
from models.unet import UNet
from strategies import messages
from strategies.accumulation import State
from strategies.federation_state import equal_states
from strategies.rivals import registry
from strategies.rivals.ditto import Ditto, personal_steps
from strategies.rivals.feddyn import DynamicRegulariser, FedDyn
from strategies.rivals.fedgkd import FedGKD, FormerTeacher
from strategies.rivals.fedntd import FedNTD, NotTrueTeacher
from strategies.rivals.fedprox import ProximalTerm
from strategies.rivals.method import Memory, Terms
from strategies.rivals.moon import ModelContrast, Moon
from strategies.rivals.player import RivalStrategy, recall
from strategies.rivals.registry import Rival
from strategies.rivals.scaffold import ControlledSteps, Scaffold
from strategies.settings import RunSettings, SettingValue
from tests.federation import InProcessGrid

Config = Mapping[str, SettingValue]

RIVALS = {
    "scaffold": Rival(Scaffold, ControlledSteps.of, reports_gradients=True),
    "feddyn": Rival(FedDyn, DynamicRegulariser.of),
    "ditto": Rival(Ditto, personal_steps),
    "moon": Rival(Moon, ModelContrast.of),
    "fedntd": Rival(FedNTD, NotTrueTeacher.of),
    "fedgkd": Rival(FedGKD, FormerTeacher.of),
    "fedprox": Rival(FedNTD, ProximalTerm.of),  # with FedAvg's centre in its place
    "plain": Rival(FedNTD),  # labels and the mean by frames: FedAvg
}
NODES = {"human-site": 1000, "phantom-site": 999}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know the rivals, and a U-Net of some thousand numbers."""
    monkeypatch.setitem(BUILDERS, "unet", partial(UNet, widths=(4, 8)))
    for name, rival in RIVALS.items():
        monkeypatch.setitem(registry.RIVALS, name, rival)
    monkeypatch.setattr("strategies.settings.STRATEGIES", tuple(RIVALS))


@pytest.fixture
def tiny(run_config: dict[str, SettingValue], tmp_path: Path) -> Config:
    """Two sites with as many frames, 32 px, two local steps."""
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
        "sites": str(sites),
        "num-rounds": 2,
        "model.name": "unet",
        "model.image-size": 32,
        "train.steps": 2,
        "train.batch-size": 2,
        "train.warmup-steps": 0,
        "phase-timeout-s": 60.0,
    }


class Played:
    """What a federation has become after its rounds."""

    def __init__(self, config: Config, name: str, **values: SettingValue) -> None:
        changed = {f"rival.{key.replace('_', '-')}": one for key, one in values.items()}
        config = {**config, **changed, "strategy": name}
        settings = RunSettings.from_run_config(config)
        kind = RIVALS[name].method
        assert kind is not None
        method = kind(
            Terms(settings.rival, tuple(NODES), settings.train.steps, settings.seed)
        )
        model = assemble_model(settings.model.recipe(settings.seed))
        self.start = {n: one.clone() for n, one in model.trainable_state().items()}
        self.personal: dict[str, State] = {}
        self.memories: list[Memory] = []
        self.grid = InProcessGrid(client_app, config, len(NODES))
        strategy = RivalStrategy(name, method, NODES, keep=self._keep)

        def note(number: int, _: object) -> None:
            assert strategy.state is not None
            self.memories.append(recall(strategy.state))

        strategy.start(
            self.grid,
            messages.from_state(self.start),
            num_rounds=settings.num_rounds,
            evaluate_fn=note,
        )
        self.theta = self.memories[-1].theta

    def _keep(self, silo: str, number: int, model: State) -> None:
        self.personal[silo] = model

    def requests(self) -> list[Message]:
        return [m for m in self.grid.sent if m.metadata.message_type == messages.TRAIN]


def aids_sent(played: Played) -> list[list[str]]:
    """The names of the aids of every request, in order, but one a phase."""
    return [
        sorted(messages.unpack_job(one).aids)
        for one in played.requests()[:: len(NODES)]
    ]


@pytest.mark.parametrize(
    ("name", "aids"),
    [
        ("scaffold", [[], ["control", "own control"]]),
        ("feddyn", [[], ["gradient"]]),
        ("ditto", [[], ["anchor"], [], ["anchor"]]),
        ("moon", [[], ["previous"]]),
        ("fedntd", [[], []]),
        ("fedgkd", [[], ["former"]]),
    ],
)
def test_two_rounds_of_real_local_steps(
    tiny: Config, name: str, aids: list[list[str]]
) -> None:
    played = Played(tiny, name)
    assert aids_sent(played) == aids
    assert len(played.memories) == 2
    first, second = played.memories[0].theta, played.theta
    assert not equal_states(first, second)
    assert not equal_states(first, played.start)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in second.values())
    variances = [one for n, one in second.items() if n.endswith("running_var")]
    assert variances
    assert all(bool((one > 0).all()) for one in variances)


def test_methods_that_add_nothing_are_fedavg_to_the_bit(tiny: Config) -> None:
    fedavg = Played(tiny, "plain").theta
    for name, strength in (
        ("fedprox", "proximal_mu"),
        ("moon", "contrast_weight"),
        ("fedntd", "not_true_weight"),
        ("fedgkd", "former_weight"),
    ):
        assert equal_states(Played(tiny, name, **{strength: 0.0}).theta, fedavg), name


def test_a_strength_above_zero_reaches_the_local_steps(tiny: Config) -> None:
    fedavg = Played(tiny, "plain").theta
    for name, strength in (
        ("fedprox", "proximal_mu"),
        ("moon", "contrast_weight"),
        ("fedntd", "not_true_weight"),
        ("fedgkd", "former_weight"),
    ):
        found = Played(tiny, name, **{strength: 5.0}).theta
        assert not equal_states(found, fedavg), name


def test_scaffold_begins_as_fedavg_and_then_corrects(tiny: Config) -> None:
    # Of two sites with as many frames the two means are the same.
    fedavg, found = Played(tiny, "plain"), Played(tiny, "scaffold", control_rate=1.0)
    assert equal_states(found.memories[0].theta, fedavg.memories[0].theta)
    assert not equal_states(found.theta, fedavg.theta)
    after = found.memories[0]
    for name, control in after.shared["control"].items():
        mean = sum(own[name].double() for own in after.own["control"].values()) / 2
        torch.testing.assert_close(control.double(), mean, atol=1e-9, rtol=1e-5)
        assert not name.endswith(("running_mean", "running_var"))


def test_dittos_global_model_is_fedavg_and_its_personal_ones_are_their_own(
    tiny: Config,
) -> None:
    fedavg, found = Played(tiny, "plain").theta, Played(tiny, "ditto", proximal_mu=1.0)
    assert equal_states(found.theta, fedavg)
    human, phantom = found.personal["human-site"], found.personal["phantom-site"]
    assert not equal_states(human, phantom)
    assert not equal_states(human, found.theta)


def test_feddyn_subtracts_its_correction_from_the_mean(tiny: Config) -> None:
    found = Played({**tiny, "num-rounds": 1}, "feddyn", dyn_alpha=0.1)
    fedavg = Played({**tiny, "num-rounds": 1}, "plain", dyn_alpha=0.1)
    # Nothing pulls yet in the first round's first step, but the anchor does after it;
    # so the mean is near FedAvg's, and theta as far again from the start.
    memory = found.memories[0]
    for name, h in memory.shared["h"].items():
        mean = memory.theta[name] + h / 0.1
        torch.testing.assert_close(mean, fedavg.theta[name], atol=1e-3, rtol=1e-2)
        expected = 2 * mean - found.start[name]
        torch.testing.assert_close(memory.theta[name], expected, atol=1e-5, rtol=1e-4)
