"""A federation from the first introduction to the foundation checkpoint."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Strategy

from models.registry import build_model
from server.attendance import Site, TooFewSites, introduce
from server.audit import AuditLog
from server.checkpoints import FoundationCard, SiteCard, save_foundation
from server.exchange import AttendedGrid
from server.figures import draw_all
from server.journal import AUDIT_FILE, Journal, read_events
from server.recorder import RoundRecorder, name_scores, read_counts, summarise
from server.records import Metrics, ResultRecord
from server.tracking import Tracker, open_tracker
from strategies import messages
from strategies.accumulation import State
from strategies.fedefm import FedEFM
from strategies.settings import RunSettings, SettingValue

log = logging.getLogger(__name__)


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
    initial: State  # theta(0), from the seed alone


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
        sites = _open_doors(grid, settings, journal)
        names = [site.name for site in sites]
        tracker = open_tracker(settings.mlflow, journal, run_config, names)
        federation = _assemble(grid, settings, run_config, journal, tracker, sites)
        theta = _train(federation)
        result = _conclude(federation, theta)
    except Exception as error:
        _give_up(journal, tracker, error)
        raise
    journal.result(result)
    tracker.end(result)
    journal.ended("completed")
    log.info(
        "Test frames of all hospitals: Dice %s, clDice %s. Checkpoint: %s",
        *(_rounded(result.overall.get(f"test/{name}")) for name in ("dice", "cldice")),
        journal.folder / result.checkpoint,
    )
    return journal.folder


def make_strategy(settings: RunSettings, roster: Mapping[str, int]) -> Strategy:
    """Build the strategy that the settings name.

    Args:
        settings: The run's settings.
        roster: Node id of every hospital, by name.

    Returns:
        FedEFM, or Flower's own FedAvg over all hospitals.
    """
    if settings.strategy == "fedefm":
        return FedEFM(settings.fedefm, roster)
    return FedAvg(
        min_train_nodes=len(roster),
        min_evaluate_nodes=len(roster),
        min_available_nodes=len(roster),
        weighted_by_key=messages.NUM_EXAMPLES,
        arrayrecord_key=messages.ARRAYS,
        configrecord_key=messages.CONFIG,
    )


def _open_doors(grid: Grid, settings: RunSettings, journal: Journal) -> list[Site]:
    sites = introduce(
        grid, min_sites=settings.min_sites, timeout_s=settings.join_timeout_s
    )
    names = tuple(site.name for site in sites)
    journal.write_json("sites.json", {site.name: site.facts for site in sites})
    journal.started(settings.strategy, settings.num_rounds, names)
    log.info("%d hospitals take part: %s", len(names), ", ".join(names))
    return sites


def _assemble(
    grid: Grid,
    settings: RunSettings,
    run_config: Mapping[str, SettingValue],
    journal: Journal,
    tracker: Tracker,
    sites: list[Site],
) -> Federation:
    initial = _initial_model(settings)
    recorder = RoundRecorder(journal, tracker, AuditLog(journal.folder / AUDIT_FILE))
    attended = AttendedGrid(
        grid,
        sites,
        min_sites=settings.min_sites or len(sites),
        timeout_s=settings.phase_timeout_s,
        expected=initial,
        observe=recorder.observe,
    )
    return Federation(
        settings,
        run_config,
        journal,
        tracker,
        recorder,
        attended,
        tuple(sites),
        initial,
    )


def _train(federation: Federation) -> ArrayRecord:
    settings = federation.settings
    strategy = make_strategy(settings, federation.grid.roster)

    def end_of_round(round_number: int, theta: ArrayRecord) -> MetricRecord | None:
        federation.recorder.finish(round_number, theta)
        return None

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
    counts = {
        federation.grid.name_of(reply): read_counts(messages.reply_metrics(reply))
        for reply in federation.grid.send_and_receive(
            [
                Message(
                    messages.pack_job(
                        round_number=settings.num_rounds, arrays=theta, split="test"
                    ),
                    node_id,
                    messages.EVALUATE,
                )
                for node_id in federation.grid.get_node_ids()
            ]
        )
    }
    test: dict[str, Metrics] = {
        site: name_scores("test", one) for site, one in counts.items()
    }
    overall = summarise("test", counts)
    card = FoundationCard(
        model_name=settings.model.name,
        image_size=settings.model.image_size,
        seed=settings.seed,
        rounds=settings.num_rounds,
        sites=tuple(_card_of(site) for site in federation.sites),
        settings=federation.run_config,
        test=test,
        overall=overall,
    )
    path = save_foundation(journal.folder, messages.to_state(theta), card)
    federation.tracker.log_files([path, path.with_suffix(".json")], "checkpoints")
    federation.tracker.log_files(_draw(journal), "figures")
    return ResultRecord(
        status="completed",
        rounds=settings.num_rounds,
        sites=tuple(counts),
        missing=tuple(sorted(federation.grid.roster.keys() - counts.keys())),
        test=test,
        overall=overall,
        checkpoint=str(path.relative_to(journal.folder)),
    )


def _draw(journal: Journal) -> list[Path]:
    """Draw the run; a picture that fails costs no result."""
    try:
        return draw_all(read_events(journal.events_path), journal.folder / "figures")
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
    known = isinstance(error, TooFewSites)
    reason = str(error) if known else f"The server failed with {type(error).__name__}."
    rounds = [e for e in read_events(journal.events_path) if e["event"] == "round"]
    result = ResultRecord(
        status="failed",
        rounds=len(rounds),
        sites=(),
        reason=reason,
        too_few_sites=known,
    )
    journal.result(result)
    if tracker is not None:
        tracker.end(result)
    journal.ended("failed", reason)
    log.error("The federation stopped: %s", reason)


def _rounded(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _initial_model(settings: RunSettings) -> State:
    return build_model(
        settings.model.name, image_size=settings.model.image_size, seed=settings.seed
    ).trainable_state()
