"""What decides the labels that a site without labels gets from simulation."""

from dataclasses import dataclass

from clients.data.errors import DataError
from clients.data.simulator import is_domain
from clients.fluoroscopy.domains import DOMAINS
from models.assembly import Recipe
from strategies.adaptation_settings import AdaptationSettings
from strategies.data_settings import DataSettings
from strategies.randomness import derive_seed


@dataclass(frozen=True)
class LabelPlan:
    """All that decides the pseudo-labels of a site, beside its frames."""

    site: str
    recipe: Recipe  # of the run; its weights before the first step
    settings: AdaptationSettings
    data: DataSettings  # with the size of the frames in place of 0
    seed: int  # of the run
    devices_are_dark: bool | None = None  # None = to be found out

    def check(self) -> None:
        """Refuse settings with which a site without labels cannot learn.

        Raises:
            DataError: If a domain does not exist, or frames are not what the network
                takes.
        """
        names = self.settings.source_names
        if unknown := [name for name in names if not is_domain(name)]:
            raise DataError(
                f"{len(unknown)} of {len(names)} names in adapt.source-domains are no "
                f"simulated domains; those are {', '.join(DOMAINS)}, and random-N such "
                "as random-7."
            )
        if self.data.frame_size != self.recipe.image_size:
            raise DataError(
                "A site without labels learns from whole frames: it needs "
                "data.frame-size = 0, or model.image-size = "
                f"{self.recipe.image_size}, got {self.data.frame_size}."
            )
        if self.data.normalise != "unit":
            raise DataError(
                "A site without labels needs data.normalise = 'unit', since style is "
                f"transferred in grey values, got '{self.data.normalise}'."
            )

    def seed_of(self, phase: str, *, is_shared: bool = False) -> int:
        """Return the seed of a stage: of this site, or the same at every site."""
        site = "" if is_shared else self.site
        return derive_seed(self.seed, round_number=0, phase=phase, site=site)
