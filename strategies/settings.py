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
from pathlib import PurePath
from typing import Any

from strategies.adaptation_settings import AdaptationSettings
from strategies.data_settings import DataSettings
from strategies.evaluation_settings import EvaluationSettings
from strategies.fedefm_settings import FedEFMSettings
from strategies.model_settings import ModelSettings
from strategies.rival_settings import RivalSettings
from strategies.rivals.registry import FLOWERS, RIVALS
from strategies.setting_rules import at_least, check, one_of
from strategies.train_settings import TrainSettings

SettingValue = bool | int | float | str
STRATEGIES = tuple(dict.fromkeys(("fedefm", *FLOWERS, *RIVALS)))
ADAM_MOST = 0.3
"""Of FedAdam's server learning rate; with 1 its first step ruins a model."""


class SettingsError(ValueError):
    """One or more settings are wrong; the message lists all of them."""


@dataclass(frozen=True)
class RunSettings:
    """Everything that a run can be told."""

    output: str  # absolute path of the run folder, or "" for a new one
    sites: str  # absolute path of a sites file, or "" for the default hospitals
    resume: str  # absolute path of an earlier run's folder, or "" for a new start
    min_sites: int  # 0 = all
    seed: int
    num_rounds: int
    strategy: str
    device: str
    threads_per_site: int
    join_timeout_s: float
    phase_timeout_s: float
    keep_every_rounds: int  # how often the federation is kept to resume from
    mlflow: bool
    wire: str  # what weights travel as
    model: ModelSettings
    data: DataSettings
    train: TrainSettings
    evaluation: EvaluationSettings
    fedefm: FedEFMSettings
    adapt: AdaptationSettings  # of sites without labels
    rival: RivalSettings  # of what FedEFM is compared with

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
            "evaluation": _read(EvaluationSettings, run_config, problems, known),
            "fedefm": _read(FedEFMSettings, run_config, problems, known),
            "adapt": _read(AdaptationSettings, run_config, problems, known),
            "rival": _read(RivalSettings, run_config, problems, known),
        }
        values = _read_fields(cls, "", run_config, problems, known)
        problems += _unknown_keys(run_config, known)
        for part in parts.values():
            problems += part.problems() if part is not None else []
        settings = None
        if len(values) == len(fields(cls)) - len(parts) and all(parts.values()):
            settings = cls(**values, **parts)
            problems += settings.problems()
        if settings is None or problems:
            raise SettingsError(
                f"{len(problems)} setting(s) are wrong: " + "; ".join(problems) + "."
            )
        return replace(settings, fedefm=settings.fedefm.effective())

    def problems(self) -> list[str]:
        """List what is wrong outside the groups, one sentence each."""
        return [
            *at_least("min-sites", self.min_sites, 0),
            *check(
                not self.resume or PurePath(self.resume).is_absolute(),
                "resume must be the absolute path of a run folder, got a relative one",
            ),
            *at_least("seed", self.seed, 0),
            *at_least("num-rounds", self.num_rounds, 1),
            *one_of("strategy", self.strategy, STRATEGIES),
            *one_of("device", self.device, ("auto", "cpu", "cuda")),
            *one_of("wire", self.wire, ("float32", "bfloat16", "float16")),
            *check(
                self.wire == "float32" or self.fedefm.moments == "fresh",
                "fedefm.moments = 'carried' needs wire = 'float32', as second moments "
                f"are too small for less, got '{self.wire}'",
            ),
            *at_least("threads-per-site", self.threads_per_site, 1),
            *check(
                self.join_timeout_s > 0,
                f"join-timeout-s must be > 0, got {self.join_timeout_s}",
            ),
            *check(
                self.phase_timeout_s > 0,
                f"phase-timeout-s must be > 0, got {self.phase_timeout_s}",
            ),
            *at_least("keep-every-rounds", self.keep_every_rounds, 1),
            *check(
                self.data.frame_size <= 0
                or self.data.frame_size >= self.model.image_size,
                "data.frame-size must be 0 (the network's) or at least "
                f"model.image-size = {self.model.image_size}, "
                f"got {self.data.frame_size}",
            ),
            *check(
                self.train.prompts == "none" or self.model.name.startswith("sam-"),
                f"train.prompts = '{self.train.prompts}' is for the SAM family, got "
                f"model.name '{self.model.name}'",
            ),
            *check(
                self.strategy != "fedadam"
                or self.rival.server_learning_rate <= ADAM_MOST,
                "strategy = 'fedadam' moves every weight by about "
                "rival.server-learning-rate in a round, so it must be at most "
                f"{ADAM_MOST}, better 0.01 to 0.1, got "
                f"{self.rival.server_learning_rate}",
            ),
            *check(
                not self.model.classifies
                or self.strategy not in RIVALS
                or not RIVALS[self.strategy].compares_pixels,
                f"strategy = '{self.strategy}' compares pixels or feature maps, which "
                "model.task = 'source-classification' does not have",
            ),
            *check(
                not self.model.classifies or self._looks_at_whole_frames,
                "model.task = 'source-classification' looks at whole frames and at no "
                "classes: it needs data.frame-size = 0, and fedefm.distil-classes and "
                "fedefm.teacher-classes = 'all'",
            ),
        ]

    @property
    def _looks_at_whole_frames(self) -> bool:
        return (
            self.data.frame_size in (0, self.model.image_size)
            and self.fedefm.distil_classes == "all"
            and self.fedefm.teacher_classes == "all"
        )

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
