"""The sites file: which hospitals take part and where their frames come from.

A TOML file with one `[[site]]` table per hospital; `default_sites.toml` beside this
module explains every key. Both ends of a run read it (the server to know whom to
expect), so whether a folder exists is asked only when a hospital loads its frames.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from clients.data.errors import DataError
from clients.data.frames import Frames, join_frames
from clients.data.identity import SiteKey
from clients.data.splits import MIN_PATIENTS
from clients.site_checks import find_mistakes
from clients.site_values import UNLABELLED, parse_part, parse_width
from clients.sources import (
    FolderSource,
    SimulatedSource,
    SourceSpec,
    into_memory,
    load_folder_source,
    load_simulated,
    number_of_sequences,
)
from models.classes import CLASS_NAMES
from strategies.data_settings import DataSettings
from strategies.randomness import derive_seed

DEPLOYED_KEYS = (
    "layout",
    "classes",
    "data-type",
    "device-polarity",
    "labels",
    "line-width",
    "min-patients",
    "skip-damaged",
)
"""What a node config may say of its folder."""
DEFAULT_SITES = Path(__file__).with_name("default_sites.toml")


@dataclass(frozen=True)
class SiteSpec:
    """One hospital as the sites file describes it; can be hashed.

    Attributes:
        name: Of the hospital.
        sources: One or more.
        min_patients: The fewest patients, over all sources, that it works with.
    """

    name: str
    sources: tuple[SourceSpec, ...]
    min_patients: int = MIN_PATIENTS

    @property
    def data_types(self) -> tuple[str, ...]:
        """Return the different types of data that it holds, in the order written."""
        return tuple(dict.fromkeys(source.data_type for source in self.sources))

    @property
    def labelled_types(self) -> tuple[str, ...]:
        """Return the types of data of which it annotates anything."""
        labelled = (one.data_type for one in self.sources if one.classes)
        return tuple(dict.fromkeys(labelled))

    @property
    def classes(self) -> tuple[str, ...]:
        """Return what at least one of its sources annotates; () = no labels at all."""
        seen = {name for source in self.sources for name in source.classes}
        return tuple(name for name in CLASS_NAMES if name in seen)


def load_sites(path: str) -> tuple[SiteSpec, ...]:
    """Read and check a sites file.

    Args:
        path: Of the file; "" = the four simulated hospitals that come with the code.

    Returns:
        The hospitals, sorted by name.

    Raises:
        DataError: If the file cannot be read, or with all its mistakes at once.
    """
    source = Path(path).absolute() if path else DEFAULT_SITES
    document = read_document(source, "sites file")
    mistakes = find_mistakes(document, source.parent)
    if mistakes:
        raise DataError(
            f"{len(mistakes)} mistake(s) in the sites file: {'; '.join(mistakes)}."
        )
    specs = [read_site(table, source.parent) for table in document["site"]]
    return tuple(sorted(specs, key=lambda spec: spec.name))


def load_frames(
    spec: SiteSpec,
    *,
    settings: DataSettings,
    seed: int,
    key: SiteKey | None = None,
    cache: Path | None = None,
) -> Frames:
    """Load the frames of a hospital: simulated, from folders, or both.

    Args:
        spec: The hospital.
        settings: How frames are prepared.
        seed: Seed of the run; simulated frames depend on it and on the name.
        key: Of the site, for pseudonyms; None = this machine's, made if there is none.
        cache: Folder for a folder's prepared frames; None = the default one.

    Returns:
        All labelled frames, all of unlabelled sources. A single folder's stay on disk;
        with several sources all are held in memory. Classes that a source does not
        declare are marked as not annotated, and their masks are empty.

    Raises:
        DataError: Naming the hospital, never a file or a patient.
    """
    frames, _ = load_typed_frames(
        spec, settings=settings, seed=seed, key=key, cache=cache
    )
    return frames


def load_typed_frames(
    spec: SiteSpec,
    *,
    settings: DataSettings,
    seed: int,
    key: SiteKey | None = None,
    cache: Path | None = None,
) -> tuple[Frames, Tensor]:
    """Do what `load_frames` does, and tell of which data type each sequence is.

    Returns:
        The frames, and int64 (sequences,): by the number of a frame's sequence, which
        of the hospital's `data_types` it is of.
    """
    try:
        parts = _load_sources(spec, settings, seed, key, cache)
        frames = parts[0]
        if len(parts) > 1:
            frames = join_frames([into_memory(part) for part in parts])
        num_patients = len(frames.patients.unique())
        if num_patients < spec.min_patients:
            raise DataError(
                f"At least {spec.min_patients} patients are needed (min-patients), got "
                f"{num_patients}. Add patients, or lower min-patients."
            )
        numbers = [spec.data_types.index(one.data_type) for one in spec.sources]
        return frames, number_of_sequences(parts, numbers)
    except DataError as error:
        raise DataError(f"Hospital '{spec.name}': {error}") from None


def _load_sources(
    spec: SiteSpec,
    settings: DataSettings,
    seed: int,
    key: SiteKey | None,
    cache: Path | None,
) -> list[Frames]:
    parts: list[Frames] = []
    domains: Counter[str] = Counter()
    for source in spec.sources:
        if isinstance(source, FolderSource):
            key = key or SiteKey.load_or_create()
            is_all = len(spec.sources) == 1 and source.part == (1, 1)
            part = load_folder_source(
                source,
                settings=settings,
                key=key,
                min_patients=spec.min_patients if is_all else 1,
                cache=cache,
            )
        else:
            number = domains[source.domain]
            domains[source.domain] += 1
            own_seed = derive_seed(
                seed,
                round_number=0,
                phase="frames",
                site=spec.name,
                owner=str(number) if number else "",
            )
            part = load_simulated(
                source, settings=settings, seed=own_seed, number=number
            )
        parts.append(part)
    return parts


def read_document(source: Path, what: str) -> dict[str, Any]:
    """Read a TOML file that a person wrote.

    Args:
        source: Path of the file.
        what: How the message calls it, such as "sites file".

    Returns:
        Its content, not yet checked.

    Raises:
        DataError: If it cannot be read or is no TOML; without its path.
    """
    try:
        return tomllib.loads(source.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"line \d+, column \d+|end of document", str(error))
        where = f" near {place[0]}" if place else ""
        raise DataError(f"The {what} is not valid TOML{where}.") from None
    except (OSError, UnicodeDecodeError, ValueError):
        raise DataError(
            f"The {what} cannot be read: give the absolute path of a UTF-8 text "
            "file that this program's user may read."
        ) from None


def read_site(table: Mapping[str, Any], beside: Path) -> SiteSpec:
    """Read a [[site]] table in which `find_mistakes` found none.

    Args:
        table: As written.
        beside: Folder to which its paths are relative.

    Returns:
        The hospital.
    """
    sources = table.get("source", [table])
    return SiteSpec(
        name=table["name"],
        sources=tuple(_read_source(source, beside) for source in sources),
        min_patients=table.get("min-patients", MIN_PATIENTS),
    )


def _read_source(table: Mapping[str, Any], beside: Path) -> SourceSpec:
    classes, labels = tuple(table.get("classes", CLASS_NAMES)), table.get("labels", {})
    if labels == UNLABELLED:
        classes, labels = (), {}
    if "domain" in table:
        return SimulatedSource(
            domain=table["domain"],
            patients=table.get("patients", SimulatedSource.patients),
            frames_per_patient=table.get(
                "frames-per-patient", SimulatedSource.frames_per_patient
            ),
            classes=classes,
        )
    width, unit = parse_width(table.get("line-width", "3px"))
    return FolderSource(
        folder=beside / table["folder"],
        data_type=table.get("data-type", FolderSource.data_type),
        layout=table.get("layout", FolderSource.layout),
        classes=classes,
        labels=tuple(labels.items()),
        ignored_labels=tuple(table.get("ignore-labels", [])),
        line_width=width,
        line_unit=unit,
        skip_damaged=table.get("skip-damaged", FolderSource.skip_damaged),
        device_polarity=table.get("device-polarity", FolderSource.device_polarity),
        part=parse_part(table.get("part", "1/1")),
    )


def deployed_site(node_config: Mapping[str, Any]) -> SiteSpec:
    """Read a real hospital from the node config that its program was started with.

    Args:
        node_config: `site` and `data-dir`; optionally layout, classes (comma
            separated), labels, device-polarity, line-width, min-patients and
            skip-damaged, as in a sites file.

    Returns:
        The hospital.

    Raises:
        DataError: With all mistakes at once.
    """
    table = {
        key: value
        for key, value in node_config.items()
        if key in DEPLOYED_KEYS and value != ""
    }
    table |= {"name": node_config["site"], "folder": str(node_config["data-dir"])}
    if "classes" in table:
        table["classes"] = [part.strip() for part in str(table["classes"]).split(",")]
    here = Path.cwd()
    mistakes = find_mistakes({"site": [table]}, here)
    if mistakes:
        raise DataError(
            f"{len(mistakes)} mistake(s) in the node config: {'; '.join(mistakes)}."
        )
    return read_site(table, here)
