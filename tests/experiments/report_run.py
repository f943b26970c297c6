"""Run folders for the tests of reports, written by the server's own journal."""

import html
import math
import re
from collections.abc import Sequence
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.report.page import make_page
from experiments.report.reading import read_run
from experiments.run_config import default_run_config
from models.classes import CLASS_NAMES
from models.image_metrics import METRICS
from server.journal import Journal, write_json
from server.records import EdgeRecord, PhaseRecord, ResultRecord, RoundRecord
from strategies.audit import AuditEntry, AuditLog

SITES = ("bench-lab", "northgate", "riverside", "virtual")


def write_run(
    folder: Path,
    *,
    sites: Sequence[str] = SITES,
    rounds: int = 5,
    ends: bool = True,
    settings: dict[str, Any] | None = None,
    failed: dict[str, str] | None = None,
    strategy: str = "fedefm",
) -> Path:
    """Write a run with every part that a report can show; numbers are made up."""
    told = {**default_run_config(), "num-rounds": rounds, "strategy": strategy}
    journal = Journal.create(
        str(folder), {**told, **(settings or {})}, datetime(2026, 11, 21)
    )
    ticks = count(1_795_270_184)
    journal = Journal(journal.folder, clock=lambda: float(next(ticks)))
    journal.write_json("sites.json", {site: _facts(n) for n, site in enumerate(sites)})
    journal.started(strategy, rounds, tuple(sites))
    audit = AuditLog(folder / "audit.jsonl", clock=lambda: 0.0)
    for number in range(rounds + 1):
        _write_round(journal, audit, number, sites, strategy, failed or {})
    if ends:
        _write_end(journal, sites, rounds)
    return folder


def write_extras(folder: Path, sites: Sequence[str] = SITES) -> None:
    """Add what only some runs leave: a study, overlays, a matrix, the variance."""
    write_json(folder / "results.json", _study())
    shares = {"round": 0.5, "host": 0.2, "student": 0.1, "pair": 0.15, "rest": 0.05}
    write_json(
        folder / "score_variance.json",
        {"num_scores": 60, "mean": 0.91, "spread": 0.02, "shares": shares, "notes": []},
    )
    values = {
        owner: {site: 0.5 + 0.05 * abs(i - j) for j, site in enumerate(sites)}
        for i, owner in enumerate(sites)
    }
    means = {"home": 0.5, "abroad": 0.583, "foundation": 0.64}
    foundation = {site: 0.66 - 0.02 * place for place, site in enumerate(sites)}
    write_json(
        folder / "cross_site.json",
        {
            "metric": "dice",
            "values": values,
            "foundation": foundation,
            "summary": means,
        },
    )
    pixels = np.random.default_rng(0).integers(0, 255, (240, 720, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "figures" / "fewshot_overlay.png")


def _facts(number: int) -> dict[str, Any]:
    return {
        "domain": ("phantom", "human", "animal", "simulation")[number % 4],
        "classes": list(CLASS_NAMES),
        "frames-train": 32,
        "frames-validation": 8,
        "frames-test": 8,
    }


def _write_round(
    journal: Journal,
    audit: AuditLog,
    number: int,
    sites: Sequence[str],
    strategy: str,
    failed: dict[str, str],
) -> None:
    phases = ["overseas", "distil", "evaluate"] if number else ["local", "evaluate"]
    for phase in phases:
        journal.phase(
            PhaseRecord(
                round=number,
                phase=phase,
                seconds=2.5,
                replied=tuple(site for site in sites if site not in failed),
                failed=failed if phase == "distil" else {},
                bytes_up=0 if phase == "evaluate" else 51_897_344,
                bytes_down=51_897_344,
            )
        )
        for site in sites if number < 2 else ():  # every line is forced to the disk
            audit.record(AuditEntry(number, phase, site, "in", 12_974_336, 206))
    learned = 1 - math.exp(-0.4 * number)
    by_site = {
        site: {
            "train/loss": 1.7 - learned - 0.03 * place,
            "val/loss": 1.75 - 0.9 * learned,
            "val/dice": (0.75 - 0.03 * (place % 5)) * learned,
            "val/cldice": None if number == 2 else (0.8 - 0.02 * (place % 5)) * learned,
        }
        for place, site in enumerate(sites)
    }
    journal.round(
        RoundRecord(
            round=number,
            seconds=9.0,
            sites=by_site,
            overall={
                "train/loss": 1.65 - learned,
                "val/dice": 0.7 * learned,
                "val/cldice": 0.75 * learned,
                "fair/worst_site_dice": 0.6 * learned,
                "fair/std": 0.05 * learned,
                "drift/consensus_distance": 0.01 + 0.002 * number,
            },
            edges=_edges(number, sites) if number and strategy == "fedefm" else (),
            failed=failed,
        )
    )


def _edges(number: int, sites: Sequence[str]) -> tuple[EdgeRecord, ...]:
    teachers = [
        EdgeRecord(
            student=site,
            teacher=sites[place - 1],
            score=0.85 + 0.02 * place % 0.1 + 0.005 * number,
            weight=0.3 + 0.1 * ((place + number) % 4),
        )
        for place, site in enumerate(sites)
    ]
    return tuple(teachers + [EdgeRecord(one, one, 0.95, None) for one in sites])


def _write_end(journal: Journal, sites: Sequence[str], rounds: int) -> None:
    test = {
        site: {"test/dice": 0.7 - 0.04 * (n % 7), "test/cldice": 0.78 - 0.03 * (n % 7)}
        for n, site in enumerate(sites)
    }
    overall = {
        "test/dice": 0.64,
        "test/cldice": 0.735,
        "test/fair/worst_site_dice": 0.58,
        "test/fair/std": 0.045,
    }
    rows = [_row(n, site, m) for n, site in enumerate(sites) for m in METRICS]
    rows += [_row(0, "all frames", metric) for metric in METRICS]
    journal.write_json("test_metrics.json", {"rows": rows})
    card = {
        "model-name": "sam-tiny",
        "image-size": 128,
        "weights-digest": "a5" * 32,
        "intended-use": "Research.",
        "limits": "Not a medical device.",
        "versions": {"endofed": "0.1.0", "torch": "2.13.0"},
    }
    write_json(journal.folder / "checkpoints" / "foundation.json", card)
    journal.result(
        ResultRecord("completed", rounds, tuple(sites), test=test, overall=overall)
    )
    journal.ended("completed")


def _row(number: int, site: str, metric: str) -> dict[str, Any]:
    row: dict[str, Any] = {"hospital": site, "metric": metric}
    for label in CLASS_NAMES:
        for mean in ("image", "device-image"):
            row[f"{label}.{mean}"] = 0.61 + 0.01 * number
            row[f"{label}.{mean}.used"] = 6
            row[f"{label}.{mean}.excluded"] = 2
        row[f"{label}.pooled"] = 0.62 if metric in ("dice", "iou") else None
    return row


def _study() -> dict[str, Any]:
    return {
        "data": {"simulated": True, "domain": "neuro"},
        "summary": [
            {
                "method": "full",
                "shots": shots,
                "start": start,
                "seeds": 3,
                "test-dice": _interval(base + 0.01 * place),
                "test-cldice": _interval(base + 0.08 + 0.01 * place),
            }
            for place, shots in enumerate((1, 5, 10, "all"))
            for start, base in (("random", 0.35), ("foundation", 0.6))
        ],
        "verdict": ["1 shot: foundation better than random"],
        "protocol": "Shots are drawn by seed.",
    }


def _interval(mean: float) -> dict[str, float]:
    return {"mean": mean, "sd": 0.02, "low": mean - 0.05, "high": mean + 0.05}


def page_of(folder: Path) -> str:
    """Make the page of a run folder."""
    return make_page(read_run(folder))


def text_of(page: str) -> str:
    """Return what can be read: no style, no pictures, no elements."""
    body = page[page.index("<body>") :]
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", body).split()))
