"""A hospital as the app sees it: its name, its frames and its device.

Site facts come through the node config: `partition-id` in a simulation, where the
sites file lists the hospitals, or `site` and `data-dir` at a real site.
"""

import functools
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from clients.data.errors import DataError
from clients.data.splits import Split, split_by_patient
from clients.networks import digest_of_frozen
from clients.sites import SiteSpec, deployed_site, load_frames, load_sites
from models.assembly import Recipe
from strategies.data_settings import DataSettings
from strategies.randomness import derive_seed
from strategies.settings import RunSettings, SettingValue

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hospital:
    """One site of the federation."""

    name: str
    spec: SiteSpec
    split: Split
    device: torch.device
    num_sites: int  # hospitals that the sites file lists; 0 where nobody knows
    recipe: Recipe  # of the run's network, with this machine's checkpoint

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
        spec, num_sites = _find_site(node_config, settings)
        return cls(
            name=spec.name,
            spec=spec,
            split=_read_split(spec, settings.frames, settings.seed),
            device=prepare_device(settings),
            num_sites=num_sites,
            recipe=settings.model.recipe(
                settings.seed, checkpoint=str(node_config.get("checkpoint", ""))
            ),
        )

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
def _read_split(spec: SiteSpec, settings: DataSettings, seed: int) -> Split:
    data_seed = derive_seed(seed, round_number=0, phase="data", site=spec.name)
    frames = load_frames(spec, settings=settings, seed=data_seed)
    try:
        split = split_by_patient(frames, seed=data_seed)
    except DataError as error:
        raise DataError(f"Hospital '{spec.name}': {error}") from None
    log.info(
        "Hospital %s: %d frames to train, %d to validate, %d to test.",
        spec.name,
        len(split.train),
        len(split.validation),
        len(split.test),
    )
    return split
