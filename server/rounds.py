"""A federation from the first introduction to the foundation checkpoint."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from flwr.app import ArrayRecord, MetricRecord
from flwr.serverapp import Grid

from models.assembly import assemble_model, foundation_state, frozen_digest
from models.network import SegmentationNetwork
from models.weights import WeightsError
from server.attendance import Site, TooFewSites, introduce
from server.checkpoints import (
    CheckpointError,
    FoundationCard,
    SiteCard,
    save_foundation,
)
from server.cross_site import run_cross_site
from server.exchange import AttendedGrid
from server.figures import draw_all
from server.final_test import FinalTest, run_final_test
from server.journal import AUDIT_FILE, Journal, read_events
from server.method import load_earlier, make_strategy, make_topology, silo_positions
from server.recorder import RoundRecorder
from server.records import ResultRecord
from server.score_variance import FILE as VARIANCE_FILE
from server.score_variance import write_score_variance
from server.state_files import RoundKeeper, save_silo
from server.tracking import Tracker, open_tracker
from strategies import messages
from strategies.accumulation import State
from strategies.audit import AuditLog
from strategies.federation_state import FederationState
from strategies.settings import RunSettings, SettingsError, SettingValue
from strategies.topology import Topology

log = logging.getLogger(__name__)

SAFE_ERRORS = (TooFewSites, WeightsError, CheckpointError, SettingsError)
"""Their texts name no path and no data, so they may be written down."""


@dataclass(frozen=True)
class Federation:
    """What a run works with."""

    settings: RunSettings
    run_config: Mapping[str, SettingValue]
    journal: Journal
    tracker: Tracker
    recorder: RoundRecorder
    grid: AttendedGrid
    sites: tuple[Site, ...]
    initial: State  # theta(0), from the seed or a checkpoint
    topology: Topology
    earlier: FederationState | None  # of the run that this one goes on from


def run_federation(grid: Grid, run_config: Mapping[str, SettingValue]) -> Path:
    """Train a foundation model with the hospitals that connect.

    Args:
        grid: Flower's.
        run_config: The flat settings of the run.

    Returns:
        The run folder.

    Raises:
        SettingsError: If a setting is wrong.
        RunFolderError: If the run folder cannot be used.
        TooFewSites: If too few hospitals took part. `result.json` says why, and the
            model of the last finished round is kept.
    """
    settings = RunSettings.from_run_config(run_config)
    journal = Journal.create(settings.output, run_config, datetime.now())
    log.info("Run folder: %s", journal.folder)
    tracker: Tracker | None = None
    try:
        model = assemble_model(settings.model.recipe(settings.seed))
        initial = model.trainable_state()
        earlier = load_earlier(settings, initial)
        sites = _open_doors(grid, settings, journal, model)
        names = [site.name for site in sites]
        tracker = open_tracker(settings.mlflow, journal, run_config, names)
        federation = Federation(
            settings,
            run_config,
            journal,
            tracker,
            *_watch(grid, settings, journal, tracker, sites, initial),
            tuple(sites),
            initial,
            make_topology(settings, names, initial),
            earlier,
        )
        theta = _train(federation)
        result = _conclude(federation, theta)
    except Exception as error:
        _give_up(journal, tracker, error)
        raise
    journal.result(result)
    tracker.end(result)
    journal.ended("completed")
    log.info(
        "Test frames of all hospitals: %s. Checkpoint: %s",
        ", ".join(
            f"{name} {_rounded(result.overall[f'test/{name}'])}"
            for name in ("dice", "cldice", "accuracy")
            if f"test/{name}" in result.overall
        ),
        journal.folder / result.checkpoint,
    )
    return journal.folder


def _open_doors(
    grid: Grid, settings: RunSettings, journal: Journal, model: SegmentationNetwork
) -> list[Site]:
    sites = introduce(
        grid,
        min_sites=settings.min_sites,
        timeout_s=settings.join_timeout_s,
        frozen=frozen_digest(model),
        audit=AuditLog(journal.folder / AUDIT_FILE),
    )
    names = tuple(site.name for site in sites)
    journal.write_json("sites.json", {site.name: site.facts for site in sites})
    journal.started(settings.strategy, settings.num_rounds, names)
    log.info("%d hospitals take part: %s", len(names), ", ".join(names))
    return sites


def _watch(
    grid: Grid,
    settings: RunSettings,
    journal: Journal,
    tracker: Tracker,
    sites: list[Site],
    expected: State,
) -> tuple[RoundRecorder, AttendedGrid]:
    """Put the recorder between the strategy and Flower's grid."""
    recorder = RoundRecorder(journal, tracker, AuditLog(journal.folder / AUDIT_FILE))
    attended = AttendedGrid(
        grid,
        sites,
        min_sites=settings.min_sites or len(sites),
        timeout_s=settings.phase_timeout_s,
        expected=expected,
        observer=recorder,
        wire=settings.wire,
    )
    return recorder, attended


def _train(federation: Federation) -> ArrayRecord:
    settings, folder = federation.settings, federation.journal.folder

    def keep(silo: str, round_number: int, state: State) -> None:
        if round_number == settings.num_rounds:
            save_silo(folder, silo, round_number, state)

    strategy = make_strategy(
        settings,
        federation.grid.roster,
        state=federation.earlier,
        topology=federation.topology,
        keep=keep,
        annotated={site.name: site.classes for site in federation.sites},
    )

    def end_of_round(round_number: int, theta: ArrayRecord) -> MetricRecord | None:
        if federation.recorder.finish(round_number) is None:
            return None
        state = getattr(strategy, "state", None)
        if state is None or state.round_number != round_number:  # Flower's strategies
            state = FederationState(
                round_number,
                messages.to_state(theta),
                {},
                seed=settings.seed,
                strategy=settings.strategy,
            )
        keeper.finished(state)
        return None

    with RoundKeeper(folder, settings.keep_every_rounds) as keeper:
        result = strategy.start(
            grid=federation.grid,
            initial_arrays=messages.from_state(federation.initial),
            num_rounds=settings.num_rounds,
            timeout=settings.phase_timeout_s,
            evaluate_fn=end_of_round,
        )
    return result.arrays


def _conclude(federation: Federation, theta: ArrayRecord) -> ResultRecord:
    """Test the final model, write checkpoint and figures."""
    settings, journal = federation.settings, federation.journal
    test = run_final_test(federation.grid, theta, round_number=settings.num_rounds)
    tables = test.write_tables(journal)
    path = _save(federation, theta, test)
    federation.tracker.log_files([path, path.with_suffix(".json")], "checkpoints")
    variance = write_score_variance(journal)
    tables += [journal.folder / VARIANCE_FILE] if variance else []
    federation.tracker.log_files(tables, "tables")
    federation.tracker.log_files(_draw(federation), "figures")
    if settings.evaluation.cross_site:
        where = (federation.grid, journal, federation.tracker)
        run_cross_site(*where, test.evaluations, round_number=settings.num_rounds)
    return ResultRecord(
        status="completed",
        rounds=settings.num_rounds,
        sites=tuple(test.evaluations),
        missing=tuple(sorted(federation.grid.roster.keys() - test.evaluations.keys())),
        test=test.scores,
        overall=test.overall,
        all_test=test.all_scores,
        all_overall=test.all_overall,
        emd=variance,
        checkpoint=str(path.relative_to(journal.folder)),
    )


def _save(federation: Federation, theta: ArrayRecord, test: FinalTest) -> Path:
    """Write the checkpoint and its card."""
    settings = federation.settings
    card = FoundationCard(
        model_name=settings.model.name,
        image_size=settings.model.image_size,
        seed=settings.seed,
        rounds=settings.num_rounds,
        sites=tuple(_card_of(site) for site in federation.sites),
        settings=federation.run_config,
        test=test.scores,
        overall=test.overall,
    )
    state = foundation_state(
        settings.model.recipe(settings.seed), messages.to_state(theta)
    )
    return save_foundation(federation.journal.folder, state, card)


def _draw(federation: Federation) -> list[Path]:
    """Draw the run; a picture that fails costs no result."""
    journal = federation.journal
    try:
        return draw_all(
            read_events(journal.events_path),
            journal.folder / "figures",
            neighbours=federation.topology.union(),
            positions=silo_positions(federation.settings, federation.topology),
        )
    except Exception as error:  # noqa: BLE001 - the numbers are safe, pictures can wait
        log.warning("The figures could not be drawn (%s).", type(error).__name__)
        return []


def _card_of(site: Site) -> SiteCard:
    facts = site.facts
    return SiteCard(
        name=site.name,
        data_digest=str(facts.get("digest-train", "")),
        num_frames={
            short: int(str(facts.get(f"frames-{split}", 0)))
            for short, split in (
                ("train", "train"),
                ("val", "validation"),
                ("test", "test"),
            )
        },
        domain=str(facts.get("domain", "")),
    )


def _give_up(journal: Journal, tracker: Tracker | None, error: Exception) -> None:
    """Write down why a run ended early; what was computed stays."""
    is_safe = isinstance(error, SAFE_ERRORS)
    reason = (
        str(error) if is_safe else f"The server failed with {type(error).__name__}."
    )
    rounds = [e for e in read_events(journal.events_path) if e["event"] == "round"]
    result = ResultRecord(
        status="failed",
        rounds=len(rounds),
        sites=(),
        reason=reason,
        too_few_sites=isinstance(error, TooFewSites),
    )
    journal.result(result)
    if tracker is not None:
        tracker.end(result)
    journal.ended("failed", reason)
    log.error("The federation stopped: %s", reason)


def _rounded(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
