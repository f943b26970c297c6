"""A hospital as the app sees it: its name, its frames and its device.

Site facts come through the node config: `partition-id` in a simulation, where the
sites file lists the hospitals, `site-file` (the path of its site.toml) at a deployed
site, or `site` and `data-dir` in a trial without one.
"""

import functools
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from clients.adaptation.label_plan import LabelPlan
from clients.data.errors import DataError
from clients.data.folders import cache_folder
from clients.data.frames import Frames, FrameSet
from clients.data.identity import SiteKey
from clients.data.splits import Split, split_by_patient
from clients.networks import digest_of_frozen
from clients.site_file import Limits, Machine, Privacy, SiteFile
from clients.site_rules import seconds_allowed
from clients.sites import SiteSpec, deployed_site, load_sites, load_typed_frames
from clients.sources import devices_are_dark
from clients.tasks import Segmentation, Task, choose_task
from clients.versions import software_versions
from models.assembly import Recipe
from strategies.data_settings import DataSettings
from strategies.randomness import derive_seed
from strategies.settings import RunSettings, SettingValue

log = logging.getLogger(__name__)

KEY_FILE, CACHE_FOLDER = "site.key", "cache"
"""In the folder that a deployed site may write."""


@dataclass(frozen=True)
class Hospital:
    """One site of the federation."""

    name: str
    spec: SiteSpec
    split: Split
    device: torch.device
    num_sites: int  # hospitals that the sites file lists; 0 where nobody knows
    recipe: Recipe  # of the run's network, with this machine's checkpoint
    task: Task  # what the network is trained for
    limits: Limits = field(default_factory=Limits)  # of a deployed site
    privacy: Privacy = field(default_factory=Privacy)  # of weights that leave it
    state: Path | None = field(default=None, repr=False)  # may be written

    @classmethod
    def from_node_config(
        cls, node_config: Mapping[str, SettingValue], settings: RunSettings
    ) -> "Hospital":
        """Find out who this node is and read its frames.

        Args:
            node_config: What Flower says of this node.
            settings: The run's settings.

        Returns:
            The hospital, ready to train.

        Raises:
            DataError: If the node is nobody known or its data cannot be used.
        """
        site = _read_site_file(node_config)
        if site is None:
            spec, num_sites = _find_site(node_config, settings)
            machine = Machine(checkpoint=str(node_config.get("checkpoint", "")))
            limits, privacy, state = Limits(), Privacy(), None
        else:
            spec, num_sites, machine = site.spec, 0, site.machine
            limits, privacy, state = site.limits, site.privacy, machine.state
        split, type_of = read_split(spec, settings.frames, settings.seed, state)
        hospital = cls(
            name=spec.name,
            spec=spec,
            split=split,
            device=prepare_device(_on(machine, settings)),
            num_sites=num_sites,
            recipe=settings.model.recipe(settings.seed, checkpoint=machine.checkpoint),
            task=_choose_task(spec, settings, type_of),
            limits=limits,
            privacy=privacy,
            state=state,
        )
        if hospital.is_unlabelled:
            with _named(spec):
                hospital._label_plan(settings).check()
        return hospital

    @property
    def is_unlabelled(self) -> bool:
        """Tell whether the task needs masks and no frame to train on has one."""
        needs_masks = isinstance(self.task, Segmentation)
        return needs_masks and not bool(self.split.train.annotated.any())

    def frames_to_train(self, settings: RunSettings) -> Frames:
        """Return the training frames; of an unlabelled site with pseudo-labels.

        Args:
            settings: Of the run. The first call of a run trains the coarse network.

        Returns:
            All training frames, or those of them that got a pseudo-label.

        Raises:
            DataError: If none got one.
            TrainingError: If the coarse network takes longer than a phase may.
        """
        if not self.is_unlabelled:
            return self.split.train
        plan = self._label_plan(settings)
        deadline_s = self.seconds_for(settings)
        return _read_labels(self.spec, plan, self.state, self.device, deadline_s)

    def _label_plan(self, settings: RunSettings) -> LabelPlan:
        frames = settings.frames
        polarities = {devices_are_dark(one, frames) for one in self.spec.sources}
        return LabelPlan(
            self.name,
            self.recipe,
            settings.adapt,
            frames,
            settings.seed,
            polarities.pop() if len(polarities) == 1 else None,
        )

    def seconds_for(self, settings: RunSettings) -> float:
        """Return after how many seconds a training is given up here."""
        return seconds_allowed(self.limits, settings)

    def facts(self) -> dict[str, str | int | float | bool | list[str]]:
        """Return what the hospital says of itself: counts, classes and digests."""
        parts = {
            "train": self.split.train,
            "validation": self.split.validation,
            "test": self.split.test,
        }
        return {
            "domain": "+".join(self.spec.data_types),
            "classes": list(self.spec.classes),
            "num-sites": self.num_sites,
            "num-sequences": sum(
                int(frames.sequences.unique().numel()) for frames in parts.values()
            ),
            "num-patients": sum(
                int(frames.patients.unique().numel()) for frames in parts.values()
            ),
            **{f"frames-{name}": len(frames) for name, frames in parts.items()},
            **{f"digest-{name}": frames.digest() for name, frames in parts.items()},
            "digest-frozen": digest_of_frozen(self.recipe),
            **software_versions(),
        }


def prepare_device(settings: RunSettings) -> torch.device:
    """Choose the device and make its arithmetic repeatable.

    Args:
        settings: Device and threads of a site.

    Returns:
        The CPU, or the first GPU that this process may see.

    Raises:
        DataError: If CUDA is asked for and absent.
    """
    # The order of additions depends on the number of threads, so the threads of a
    # site are a setting and not whatever the scheduler left free.
    torch.set_num_threads(settings.threads_per_site)
    has_gpu = torch.cuda.is_available()
    if settings.device == "cuda" and not has_gpu:
        raise DataError(
            "device = 'cuda' was asked for, but this process sees no GPU. "
            "Use device = 'auto' or give the client a share of one."
        )
    if not has_gpu or settings.device == "cpu":
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    return torch.device("cuda")


def _read_site_file(node_config: Mapping[str, SettingValue]) -> SiteFile | None:
    path = node_config.get("site-file")
    return SiteFile.read(Path(str(path))) if path else None


def _on(machine: Machine, settings: RunSettings) -> RunSettings:
    """Return the run's settings with the device that the site decided on."""
    is_decided = machine.device != "auto"
    return replace(settings, device=machine.device) if is_decided else settings


def _find_site(
    node_config: Mapping[str, SettingValue], settings: RunSettings
) -> tuple[SiteSpec, int]:
    if "site" in node_config and "data-dir" in node_config:
        return deployed_site(node_config), 0
    if "partition-id" not in node_config:
        raise DataError(
            "This node does not say who it is. Start it with "
            '--node-config \'site="NAME" data-dir="/absolute/folder"\'.'
        )
    sites = load_sites(settings.sites)
    nodes = int(node_config.get("num-partitions", 0))
    if nodes != len(sites):
        raise DataError(
            f"The sites file lists {len(sites)} hospitals, the federation has {nodes} "
            "nodes. Start it with "
            f"--federation-config 'num-supernodes={len(sites)}'."
        )
    return sites[int(node_config["partition-id"])], len(sites)


# A process of the simulation serves many messages of many hospitals. Frames depend on
# nothing but these arguments, so each hospital's are read once per process.
@functools.lru_cache(maxsize=16)
def read_split(
    spec: SiteSpec, settings: DataSettings, seed: int, state: Path | None = None
) -> tuple[Split, Tensor]:
    """Read a hospital's frames and part them, the same in every process of a run.

    Args:
        spec: The hospital.
        settings: How frames are prepared.
        seed: Of the run.
        state: Folder of a deployed site with its key and cache; None = this machine's.

    Returns:
        The parts, and of which data type each sequence is, see `load_typed_frames`.

    Raises:
        DataError: Naming the hospital, never a file or a patient.
    """
    data_seed = derive_seed(seed, round_number=0, phase="data", site=spec.name)
    frames, type_of = load_typed_frames(
        spec,
        settings=settings,
        seed=data_seed,
        key=None if state is None else SiteKey.load_or_create(state / KEY_FILE),
        cache=None if state is None else state / CACHE_FOLDER,
    )
    with _named(spec):
        split = split_by_patient(frames, seed=data_seed)
    log.info(
        "Hospital %s: %d frames to train, %d to validate, %d to test.",
        spec.name,
        len(split.train),
        len(split.validation),
        len(split.test),
    )
    return split, type_of


def _choose_task(spec: SiteSpec, settings: RunSettings, type_of: Tensor) -> Task:
    with _named(spec):
        return choose_task(settings.model, spec.data_types, type_of)


# As for the frames; the file behind it serves the other processes.
@functools.lru_cache(maxsize=16)
def _read_labels(
    spec: SiteSpec,
    plan: LabelPlan,
    state: Path | None,
    device: torch.device,
    deadline_s: float,
) -> FrameSet:
    # Here, so that sites with labels do not wait for what only others need.
    from clients.adaptation.site_labels import label_site

    split, _ = read_split(spec, plan.data, plan.seed, state)
    cache = cache_folder() if state is None else state / CACHE_FOLDER
    with _named(spec):
        return label_site(
            split.train, plan, device=device, cache=cache, deadline_s=deadline_s
        )


@contextmanager
def _named(spec: SiteSpec) -> Iterator[None]:
    """Say in errors which hospital it is."""
    try:
        yield
    except DataError as error:
        raise DataError(f"Hospital '{spec.name}': {error}") from None
