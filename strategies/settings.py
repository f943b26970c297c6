"""The settings of a run: frozen, validated once, named as the user wrote them.

A setting travels one way: its default stands in `pyproject.toml` under
`[tool.flwr.app.config]`, a TOML file or `key=value` overrides it, Flower hands the
flat result to both apps, and `RunSettings.from_run_config` turns it into the classes
below. Nothing else reads a dictionary of settings.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from models.registry import BUILDERS
from strategies.data_settings import DataSettings
from strategies.setting_rules import at_least, check, one_of, share

SettingValue = bool | int | float | str


class SettingsError(ValueError):
    """One or more settings are wrong; the message lists all of them."""


@dataclass(frozen=True)
class ModelSettings:
    """Which network to train."""

    name: str
    image_size: int  # px, divisible by 16

    prefix: ClassVar[str] = "model."

    def problems(self) -> list[str]:
        """List what is wrong, one sentence each."""
        return [
            *one_of("model.name", self.name, tuple(BUILDERS)),
            *check(
                self.image_size >= 32 and self.image_size % 16 == 0,
                f"model.image-size must be a multiple of 16, at least 32, "
                f"got {self.image_size}",
            ),
        ]


@dataclass(frozen=True)
class TrainSettings:
    """How a site trains; the same for local, overseas and distillation steps."""

    steps: int
    batch_size: int  # frames
    learning_rate: float  # peak of AdamW
    weight_decay: float
    warmup_steps: int  # linear warm-up at the start of every phase
    schedule: str  # over the rounds
    cldice_weight: float  # 0 to 1

    prefix: ClassVar[str] = "train."

    def problems(self) -> list[str]:
        """List what is wrong, one sentence each."""
        return [
            *at_least("train.steps", self.steps, 1),
            *at_least("train.batch-size", self.batch_size, 1),
            *check(
                self.learning_rate > 0,
                f"train.learning-rate must be > 0, got {self.learning_rate}",
            ),
            *at_least("train.weight-decay", self.weight_decay, 0),
            *at_least("train.warmup-steps", self.warmup_steps, 0),
            *one_of("train.schedule", self.schedule, ("cosine", "constant")),
            *share("train.cldice-weight", self.cldice_weight),
        ]

    def learning_rate_in(self, round_number: int, num_rounds: int) -> float:
        """Return the peak learning rate of a round.

        Args:
            round_number: 0 (local warm-up) to `num_rounds`.
            num_rounds: Number of federated rounds.

        Returns:
            The learning rate; with the cosine schedule it falls from the full value
            in round 0 to a tenth of it in the last round.
        """
        if self.schedule == "constant" or num_rounds == 0:
            return self.learning_rate
        progress = min(round_number / num_rounds, 1.0)
        return self.learning_rate * (0.55 + 0.45 * math.cos(math.pi * progress))


@dataclass(frozen=True)
class FedEFMSettings:
    """Multishot EMD distillation (FedEFM, arXiv 2501.16992).

    The paper leaves temperature, beta and step numbers open. The defaults here are
    ours; feedback of the accumulated model and a ramped beta of at most 0.3 keep the
    accumulated model usable, `experiments/configs/fedefm_literal.toml` is the paper.
    """

    topology: str
    warmup_steps: int  # local steps of round 0
    overseas_steps: int
    edge_weight: str
    grid_size: int
    marginals: str
    centred: bool
    emd_gradient: str
    beta: float  # 0 to 1, eq. (11)
    beta_ramp_rounds: int
    temperature: float  # eq. (12)
    reduction: str
    weight_scope: str
    feedback: str

    prefix: ClassVar[str] = "fedefm."

    def problems(self) -> list[str]:
        """List what is wrong, one sentence each."""
        return [
            *one_of("fedefm.topology", self.topology, ("ring", "complete")),
            *at_least("fedefm.warmup-steps", self.warmup_steps, 0),
            *at_least("fedefm.overseas-steps", self.overseas_steps, 0),
            *one_of("fedefm.edge-weight", self.edge_weight, ("emd", "one", "random")),
            *at_least("fedefm.grid-size", self.grid_size, 1),
            *one_of("fedefm.marginals", self.marginals, ("uniform", "cross-reference")),
            *one_of("fedefm.emd-gradient", self.emd_gradient, ("none", "flow", "full")),
            *share("fedefm.beta", self.beta),
            *at_least("fedefm.beta-ramp-rounds", self.beta_ramp_rounds, 0),
            *check(
                self.temperature > 0,
                f"fedefm.temperature must be > 0, got {self.temperature}",
            ),
            *one_of("fedefm.reduction", self.reduction, ("mean", "sum")),
            *one_of("fedefm.weight-scope", self.weight_scope, ("teacher", "loss")),
            *one_of("fedefm.feedback", self.feedback, ("mean", "none")),
        ]

    def beta_in(self, round_number: int) -> float:
        """Return the share of distillation in a round.

        Args:
            round_number: 1 for the first federated round.

        Returns:
            beta, reached linearly after `beta_ramp_rounds` rounds.
        """
        if self.beta_ramp_rounds == 0:
            return self.beta
        return self.beta * min(round_number / self.beta_ramp_rounds, 1.0)


@dataclass(frozen=True)
class RunSettings:
    """Everything that a run can be told."""

    output: str  # absolute path of the run folder, or "" for a new one
    sites: str  # absolute path of a sites file, or "" for the default hospitals
    min_sites: int  # 0 = all
    seed: int
    num_rounds: int
    strategy: str
    device: str
    threads_per_site: int
    join_timeout_s: float
    phase_timeout_s: float
    mlflow: bool
    model: ModelSettings
    data: DataSettings
    train: TrainSettings
    fedefm: FedEFMSettings

    @classmethod
    def from_run_config(cls, run_config: Mapping[str, SettingValue]) -> "RunSettings":
        """Read and check the flat settings that Flower hands to an app.

        Args:
            run_config: Dotted kebab-case keys and their values, complete.

        Returns:
            The settings.

        Raises:
            SettingsError: Naming every unknown, missing, ill-typed or
                out-of-range setting at once.
        """
        problems: list[str] = []
        known: set[str] = set()
        parts = {
            "model": _read(ModelSettings, run_config, problems, known),
            "data": _read(DataSettings, run_config, problems, known),
            "train": _read(TrainSettings, run_config, problems, known),
            "fedefm": _read(FedEFMSettings, run_config, problems, known),
        }
        values = _read_fields(cls, "", run_config, problems, known)
        problems += _unknown_keys(run_config, known)
        for part in parts.values():
            problems += part.problems() if part is not None else []
        settings = None
        if len(values) == len(fields(cls)) - len(parts):
            settings = cls(**values, **parts)
            problems += settings.problems()
        if settings is None or problems:
            raise SettingsError(
                f"{len(problems)} setting(s) are wrong: " + "; ".join(problems) + "."
            )
        return settings

    def problems(self) -> list[str]:
        """List what is wrong outside the groups, one sentence each."""
        return [
            *at_least("min-sites", self.min_sites, 0),
            *at_least("seed", self.seed, 0),
            *at_least("num-rounds", self.num_rounds, 1),
            *one_of("strategy", self.strategy, ("fedefm", "fedavg")),
            *one_of("device", self.device, ("auto", "cpu", "cuda")),
            *at_least("threads-per-site", self.threads_per_site, 1),
            *check(
                self.join_timeout_s > 0,
                f"join-timeout-s must be > 0, got {self.join_timeout_s}",
            ),
            *check(
                self.phase_timeout_s > 0,
                f"phase-timeout-s must be > 0, got {self.phase_timeout_s}",
            ),
            *check(
                self.data.frame_size <= 0
                or self.data.frame_size >= self.model.image_size,
                "data.frame-size must be 0 (the network's) or at least "
                f"model.image-size = {self.model.image_size}, "
                f"got {self.data.frame_size}",
            ),
        ]

    @property
    def frames(self) -> DataSettings:
        """Return how frames are prepared, with their size in place of 0."""
        return replace(
            self.data, frame_size=self.data.frame_size or self.model.image_size
        )


def _read(
    cls: Any,  # noqa: ANN401 - one of the settings classes above
    run_config: Mapping[str, SettingValue],
    problems: list[str],
    known: set[str],
) -> Any:  # noqa: ANN401
    values = _read_fields(cls, cls.prefix, run_config, problems, known)
    return cls(**values) if len(values) == len(fields(cls)) else None


def _read_fields(
    cls: Any,  # noqa: ANN401
    prefix: str,
    run_config: Mapping[str, SettingValue],
    problems: list[str],
    known: set[str],
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in fields(cls):
        wanted = field.type
        if wanted not in (bool, int, float, str):
            continue  # a group of settings, read by its own class
        key = prefix + field.name.replace("_", "-")
        known.add(key)
        value = run_config.get(key)
        if value is None:
            problems.append(f"{key} is missing")
        elif wanted is float and type(value) is int:
            values[field.name] = float(value)
        elif type(value) is not wanted or (
            isinstance(value, float) and not math.isfinite(value)
        ):
            problems.append(f"{key} must be {wanted.__name__}, got {value!r}")
        else:
            values[field.name] = value
    return values


def _unknown_keys(run_config: Mapping[str, SettingValue], known: set[str]) -> list[str]:
    problems = []
    for key in sorted(set(run_config) - known):
        close = difflib.get_close_matches(key, known, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        problems.append(f"{key} is unknown{hint}")
    return problems
