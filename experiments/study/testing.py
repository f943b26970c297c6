"""What is measured of the models that a run of a study ends with.

Every site's frames are split and prepared as its client does it, and measured with the
client's own evaluation; sums over frames are added before anything is divided. The
overall Dice is therefore the number that a federation reports as "test/dice": pixels
of all sites' test frames, both classes, pooled. The spread over sites is that of
"test/fair/std", the population's. Where a site of real frames does not annotate a
class, they say nothing of that class and disturb nothing; a site without any label has
no score. Test frames of simulated sites say all that the simulator knows, also what the
site did not annotate; its validation frames, by which trials are chosen, do not.

HD95 and breaks are means over frames and classes that show the device; HD95 leaves out
frames where nothing is predicted, so it stands beside the share of them ("missed").

Which model is judged is the row's: the accumulated one; every silo's own on the frames
of all, averaged ("silos": what a hospital has that draws one of them); every silo's own
at home ("personal"); or the mean of the silos' probabilities ("ensemble").
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Protocol

from clients.evaluation import evaluate
from clients.hospital import Hospital
from clients.sites import load_sites
from experiments.study.ensemble import Ensemble
from experiments.study.spec import Job
from experiments.study.transfer import few_shot, starting_network, unseen_frames
from experiments.study.truth import with_truth
from models.network import SegmentationNetwork
from server.score_names import name_scores, summarise
from strategies.accumulation import State
from strategies.evaluation import Evaluation, join_evaluations
from strategies.settings import RunSettings, SettingsError

Measures = dict[str, Any]
"""Scores by name, and "sites" with those of every site; None where there is none."""


class Models(Protocol):
    """What a training leaves, see `experiments.study.training`."""

    @property
    def theta(self) -> State | None:
        """The accumulated model; None where a row has none."""
        ...

    @property
    def silos(self) -> Mapping[str, State]:
        """The silos' own models by name; empty where a row has none."""
        ...

    @property
    def settings(self) -> RunSettings:
        """Of the run."""
        ...


@dataclass(frozen=True)
class Bench:
    """The sites' frames and a run's models, ready to be measured."""

    models: Models
    job: Job
    settings: RunSettings
    hospitals: tuple[Hospital, ...]

    def judged(self) -> Iterator[Mapping[str, SegmentationNetwork]]:
        """Yield the network for every site; several times where a mean is wanted."""
        kind, sites = self.job.model_of, [one.name for one in self.hospitals]
        if kind == "personal":
            yield {site: self.network(self._own(site)) for site in sites}
            return
        for network in self.networks():
            yield dict.fromkeys(sites, network)

    def networks(self) -> Iterator[SegmentationNetwork]:
        """Yield what a hospital that was not in the federation could be given.

        A row of personal models gives the accumulated one; where there is none, and
        for rows of silos' models, each of these.
        """
        kind = self.job.model_of
        if kind == "ensemble":
            yield Ensemble([self.network(one) for one in self._silos()])
            return
        for state in self.starts():
            yield self.network(state)

    def starts(self) -> list[State]:
        """Return what such a hospital could train on: an ensemble's members apart."""
        kind, theta = self.job.model_of, self.models.theta
        if kind == "global" or (kind == "personal" and theta is not None):
            if theta is None:
                raise SettingsError(self._missing("an accumulated model"))
            return [theta]
        return self._silos()

    def network(self, state: State) -> SegmentationNetwork:
        """Build a network of the run with some weights."""
        return starting_network(state, self.settings)

    def on_site(
        self, network: SegmentationNetwork, hospital: Hospital, split: str, kind: str
    ) -> Evaluation:
        """Measure as the hospital itself would; `kind` is "overlap" or "all"."""
        return hospital.task.measure(
            network,
            getattr(hospital.split, split),
            settings=self.settings.frames,
            batch_size=self.settings.train.batch_size,
            device=hospital.device,
            measures=kind,
        )

    def on_domain(self, network: SegmentationNetwork, domain: str) -> Evaluation:
        """Measure everything on a domain of which no site has labels."""
        return evaluate(
            network,
            unseen_frames(domain, self.settings.frames),
            settings=self.settings.frames,
            batch_size=self.settings.train.batch_size,
            device=self.hospitals[0].device,
            measures="all",
        )

    def _own(self, site: str) -> State:
        if site not in self.models.silos:
            raise SettingsError(self._missing(f"a model of site '{site}'"))
        return self.models.silos[site]

    def _silos(self) -> list[State]:
        if not self.models.silos:
            raise SettingsError(self._missing("models of its silos"))
        return [self.models.silos[name] for name in sorted(self.models.silos)]

    def _missing(self, what: str) -> str:
        return (
            f"Row '{self.job.row}' is judged by model-of = '{self.job.model_of}' and "
            f"its run has not {what}. Choose another model-of for the row."
        )


def measure(trained: Models, job: Job) -> dict[str, Any]:
    """Measure the models of a run.

    Args:
        trained: What its training left.
        job: Which model is judged, and on what.

    Returns:
        "validation", "test", "cross", "unseen" and "few_shot" of `result.json`. Of a
        job that tunes, only "validation": no test frame has a part in a choice.

    Raises:
        SettingsError: If the run has not the models that the row is judged by, a
            site holds a domain that should be unseen, or the network does not segment.
        DataError: If a site's frames cannot be used.
    """
    bench = open_bench(trained, job)
    parts = ("test", "cross", "unseen", "few_shot")
    found: dict[str, Any] = {"validation": _validation(bench), **{p: {} for p in parts}}
    if job.purpose == "tune":
        return found
    found["test"] = _test(bench)
    found["cross"] = _cross_sites(bench)
    for domain in job.unseen:
        scores = [scores_of(bench.on_domain(one, domain)) for one in bench.networks()]
        found["unseen"][domain] = mean_of(scores)
    if job.shots and job.shot_domains:
        device = bench.hospitals[0].device
        found["few_shot"] = few_shot(bench.starts(), job, bench.settings, device)
    return found


def measures_of(found: Mapping[str, Evaluation]) -> Measures:
    """Turn evaluations of a model on all sites into the scores of a table.

    Args:
        found: By site, not empty, with all metrics.

    Returns:
        Scores of all frames, of every site, of the worst site, and the population
        standard deviation over sites.
    """
    summary = summarise("test", found)
    return {
        **scores_of(join_evaluations(list(found.values()))),
        "sites": {site: scores_of(one) for site, one in found.items()},
        "worst_site_dice": summary["test/fair/worst_site_dice"],
        "sd_sites_dice": summary["test/fair/std"],
    }


def scores_of(found: Evaluation) -> Measures:
    """Return the scores of frames.

    Args:
        found: With all metrics.

    Returns:
        Pooled Dice and clDice, 0 to 1; HD95 in px and breaks, means over frames and
        classes that show a device; the share of those where nothing is predicted.
        None where no frame has the score.
    """
    named = name_scores("test", found)
    sums = [one.sums for one in found.classes.values()]
    shown = sum(one.device_frames for one in sums)

    def mean(metric: str) -> float | None:
        tallies = [one.tally(metric, device_only=True) for one in sums]
        count = sum(one.count for one in tallies)
        return sum(one.total for one in tallies) / count if count else None

    return {
        "dice": named["test/dice"],
        "cldice": named["test/cldice"],
        "hd95_px": mean("hd95-px"),
        "breaks": mean("breaks"),
        "missed": sum(one.missed for one in sums) / shown if shown else None,
    }


def mean_of(several: Sequence[Measures]) -> Measures:
    """Average scores number by number; None only where none has the number."""
    averaged: Measures = {}
    for key, first in several[0].items():
        values = [one[key] for one in several]
        if isinstance(first, dict):
            averaged[key] = mean_of(values)
            continue
        known = [value for value in values if value is not None]
        averaged[key] = fmean(known) if known else None
    return averaged


def open_bench(trained: Models, job: Job) -> Bench:
    """Read the sites' frames as their clients do; see `measure` for the errors."""
    settings = replace(trained.settings, sites=job.sites)
    if settings.model.classifies:
        raise SettingsError(
            "A study measures masks, got model.task = 'source-classification'. "
            "Set it to 'segmentation'."
        )
    sites = load_sites(job.sites)
    held = {kind for site in sites for kind in site.labelled_types}
    if wrong := sorted(held & {*job.unseen, *job.shot_domains}):
        raise SettingsError(
            "Unseen domains are those of which no site has labels, but sites have some "
            f"of {', '.join(wrong)}. Name others as unseen and shot-domains."
        )
    hospitals = [
        Hospital.from_node_config(
            {"partition-id": number, "num-partitions": len(sites)}, settings
        )
        for number in range(len(sites))
    ]
    if job.purpose != "tune":  # a trial is chosen by what the sites annotated
        hospitals = [with_truth(one, settings) for one in hospitals]
    return Bench(trained, job, settings, tuple(hospitals))


def _validation(bench: Bench) -> Measures:
    """Score all sites' validation frames; trials are chosen by this."""
    scores = []
    for networks in bench.judged():
        parts = [
            bench.on_site(networks[one.name], one, "validation", "overlap")
            for one in bench.hospitals
        ]
        named = name_scores("val", join_evaluations(parts))
        scores.append({name: named[f"val/{name}"] for name in ("dice", "cldice")})
    return mean_of(scores)


def _test(bench: Bench) -> Measures:
    """Score all sites' test frames, every number of a table."""
    return mean_of(
        [
            measures_of(
                {
                    one.name: bench.on_site(networks[one.name], one, "test", "all")
                    for one in bench.hospitals
                }
            )
            for networks in bench.judged()
        ]
    )


def _cross_sites(bench: Bench) -> dict[str, dict[str, dict[str, float | None]]]:
    """Measure Dice of every silo's own model on every site's test frames."""
    cross: dict[str, dict[str, dict[str, float | None]]] = {}
    for owner, state in sorted(bench.models.silos.items()):
        network = bench.network(state)
        cross[owner] = {}
        for one in bench.hospitals:
            found = bench.on_site(network, one, "test", "overlap")
            cross[owner][one.name] = {"dice": name_scores("test", found)["test/dice"]}
    return cross
