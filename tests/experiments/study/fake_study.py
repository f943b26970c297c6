"""Results that nobody computed, with arithmetic that fits on paper."""

import json
from pathlib import Path
from typing import Any

from experiments.study.spec import Row, Scenario, StudySpec

SCENARIO = "all unseen"
SITES = ("east", "north", "west")


def row(name: str, group: str = "rivals", **facts: Any) -> Row:  # noqa: ANN401
    return Row(name, group, **facts)


def study(*rows: Row, **facts: Any) -> StudySpec:  # noqa: ANN401
    plain = {
        "seeds": (0, 1, 2),
        "reference": "FedAvg",
        "upper_bound": "Pooled",
        "shots": (1, 10),
        **facts,
    }
    scenarios = (Scenario(SCENARIO, None),)
    return StudySpec("small", "A small study", {}, scenarios, rows, **plain)


def measures(dice: float | None, **others: Any) -> dict[str, Any]:  # noqa: ANN401
    return {
        "dice": dice,
        "cldice": 0.5,
        "hd95_px": 4.0,
        "breaks": 0.25,
        "missed": 0.0,
        **others,
    }


def result(dice: float, **parts: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a result; sites lie 0.1 below, at and 0.1 above the pooled Dice."""
    sites = {
        site: measures(dice + shift)
        for site, shift in zip(SITES, (-0.1, 0, 0.1), strict=True)
    }
    return {
        "format": 1,
        "validation": {"dice": dice, "cldice": 0.5},
        "test": {
            **measures(dice),
            "sites": sites,
            "worst_site_dice": dice - 0.1,
            "sd_sites_dice": 0.0816,
        },
        "cross": {},
        "unseen": {"neuro": measures(dice / 2)},
        "few_shot": {"neuro": {"1": {"dice": [0.2, 0.4]}, "10": {"dice": [0.6, 0.6]}}},
        "curve": [
            {
                "round": number,
                "dice": dice * number / 4,
                "bytes": 1_000_000 * number,
                "seconds": 2.0 * number,
                "steps": 8 * number,
                "sequential": 8 * number,
            }
            for number in range(1, 5)
        ],
        "cost": {
            "rounds": 4,
            "steps_per_silo": 32,
            "overseas_steps_per_silo": 0,
            "server_steps": 0,
            "sequential_steps": 32,
            "bytes": 4_000_000,
            "seconds": 8.0,
        },
        "versions": {"torch": "2.13.0", "endofed": "0.9"},
        "duration_s": 3600.0,
        **parts,
    }


def job(name: str, seed: int, trial: int = 0, purpose: str = "final") -> dict[str, Any]:
    return {
        "scenario": SCENARIO,
        "row": name,
        "seed": seed,
        "trial": trial,
        "purpose": purpose,
    }


def put(folder: Path, told: dict[str, Any], found: dict[str, Any] | str | None) -> Path:
    """Write a job; its result may be a text, or nothing."""
    place = folder / "jobs" / "-".join(str(told[key]) for key in sorted(told))
    place.mkdir(parents=True)
    (place / "job.json").write_text(json.dumps(told))
    if found is not None:
        text = found if isinstance(found, str) else json.dumps({**found, "job": told})
        (place / "result.json").write_text(text)
    return place


def put_rows(folder: Path, rows: dict[str, list[float]]) -> None:
    """Write final results by row, Dice by seed."""
    for name, values in rows.items():
        for seed, dice in enumerate(values):
            put(folder, job(name, seed), result(dice))
