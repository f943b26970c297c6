"""A model card for people and programs, from what the weights' own card knows.

Sections as in Mitchell et al., "Model Cards for Model Reporting", FAT* 2019. It names
sites, counts and scores; no patient, file or path is known here.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments.exporting.onnx_export import LICENCE, digest_of
from experiments.model_source import ModelSource
from models.classes import CLASS_NAMES
from server.checkpoints import INTENDED_USE, LIMITS, installed_versions
from server.journal import write_json

CARD_MARKDOWN, CARD_JSON = "model_card.md", "model_card.json"
PUBLISHED = (  # scores a table of sites can hold
    "test/dice",
    "test/cldice",
    "test/dice.catheter",
    "test/dice.guidewire",
    "test/dice-per-image",
)
SHOWN_SETTINGS = ("model.", "data.", "train.", "fedefm.")
OUT_OF_SCOPE = (
    "Guiding, diagnosing or treating patients; other devices than "
    f"{' and '.join(CLASS_NAMES)}; images other than X-ray fluoroscopy."
)
ETHICS = (
    "Frames of patients never left their hospitals; weights did, and weights can tell "
    "something about training data. No formal privacy guarantee (such as differential "
    "privacy) is given. Age, sex and build of the patients are not known to this card, "
    "so nothing is said about differences between groups of people."
)


def model_card(
    source: ModelSource, *, created: datetime | None = None
) -> dict[str, Any]:
    """Put a card together.

    Args:
        source: The model.
        created: When, with time zone; None = now.

    Returns:
        Plain JSON, a key for every section.
    """
    card = source.card
    return {
        "model-details": _details(source, created or datetime.now(UTC)),
        "intended-use": {
            "primary": card.get("intended-use", INTENDED_USE),
            "out-of-scope": OUT_OF_SCOPE,
        },
        "factors": {
            "domains": card.get("domains", []),
            "sites": [site.get("name") for site in card.get("sites", [])],
            "preparation": {
                name: value
                for name, value in vars(source.data).items()
                if name != "prefix"
            },
        },
        "metrics": {
            "measures": "Dice and centre-line Dice (clDice) at probability 0.5, pooled "
            "over pixels, and the mean Dice of an image",
        },
        "evaluation-data": _data(card, ("test",)),
        "training-data": _data(card, ("train", "val")),
        "training": {
            "strategy": card.get("settings", {}).get("strategy"),
            "rounds": card.get("rounds"),
            "seed": card.get("seed", source.recipe.seed),
            "task": card.get("task"),
            "settings": {
                key: value
                for key, value in card.get("settings", {}).items()
                if key.startswith(SHOWN_SETTINGS)
            },
        },
        "quantitative-analyses": card.get("metrics", {}),
        "ethical-considerations": ETHICS,
        "caveats": card.get("limits", LIMITS),
    }


def write_card(
    folder: Path, card: Mapping[str, Any], loading: Mapping[str, str]
) -> None:
    """Write the card as Markdown and JSON.

    Args:
        folder: Exists.
        card: Of `model_card`.
        loading: File name -> how it is loaded; may be empty.
    """
    write_json(folder / CARD_JSON, {**card, "loading": dict(loading)})
    text = "\n".join(_lines(card, loading)) + "\n"
    (folder / CARD_MARKDOWN).write_text(text, encoding="utf-8")


def _details(source: ModelSource, made: datetime) -> dict[str, Any]:
    card, network = source.card, source.network
    now = made.astimezone(UTC)
    return {
        "network": source.recipe.name,
        "kind": source.kind,
        "parameters": sum(one.numel() for one in network.parameters()),
        "image-size": network.image_size,
        "classes": list(CLASS_NAMES),
        "weights-digest": digest_of(source),
        "parent": card.get("parent"),
        "trained": card.get("created"),
        "card-made": now.isoformat(timespec="seconds"),
        "licence": LICENCE,
        "versions": card.get("versions", {}),
        "versions-of-export": installed_versions(),
    }


def _data(card: Mapping[str, Any], splits: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {
            "site": site.get("name"),
            "domain": site.get("domain"),
            "frames": {
                split: site.get("num-frames", {}).get(split) for split in splits
            },
            "data-digest": site.get("data-digest"),
        }
        for site in card.get("sites", [])
    ]


def _lines(card: Mapping[str, Any], loading: Mapping[str, str]) -> Iterator[str]:
    details = card["model-details"]
    yield f"# {details['network']} ({details['kind']}), for research only"
    yield ""
    yield f"> {card['caveats']}"
    yield from _section("Model details", _bullets(details))
    yield from _section("Intended use", _bullets(card["intended-use"]))
    yield from _section("Factors", _bullets(card["factors"]))
    yield from _section("Metrics", [card["metrics"]["measures"] + "."])
    yield from _section("Evaluation data", _data_table(card["evaluation-data"]))
    yield from _section("Training data", _data_table(card["training-data"]))
    yield from _section("How it was trained", _bullets(card["training"]))
    scores = card["quantitative-analyses"]
    yield from _section("Quantitative analyses", _score_table(scores))
    yield from _section("Ethical considerations", [card["ethical-considerations"]])
    yield from _section("Caveats and recommendations", [card["caveats"]])
    files = [f"- `{name}`: {how}" for name, how in loading.items()]
    yield from _section("How to load it", files or ["No weights lie beside this card."])


def _section(title: str, lines: list[str]) -> Iterator[str]:
    yield from ("", f"## {title}", "", *lines)


def _bullets(entries: Mapping[str, Any]) -> list[str]:
    return [
        f"- {key.replace('-', ' ')}: {_text(value)}"
        for key, value in entries.items()
        if value not in (None, {}, [], "")
    ]


def _text(value: Any) -> str:  # noqa: ANN401 - any JSON
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {_text(one)}" for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _data_table(sites: list[dict[str, Any]]) -> list[str]:
    if not sites:
        return ["Not known."]
    splits = list(sites[0]["frames"])
    lines = [
        f"| site | domain | {' | '.join(f'{one} frames' for one in splits)} | digest |",
        f"|---|---|{'---|' * len(splits)}---|",
    ]
    for site in sites:
        counts = " | ".join(_cell(site["frames"][one]) for one in splits)
        digest = (site["data-digest"] or "")[:12]
        lines.append(f"| {site['site']} | {site['domain']} | {counts} | {digest} |")
    return lines


def _score_table(scores: Mapping[str, Any]) -> list[str]:
    rows = {"all": scores.get("global"), **scores.get("sites", {})}
    rows = {name: row for name, row in rows.items() if isinstance(row, Mapping)}
    known = [key for key in PUBLISHED if any(key in row for row in rows.values())]
    if not known:
        # A finetuned model's scores have other names.
        return _bullets(scores) or ["Not measured."]
    lines = [f"| frames of | {' | '.join(known)} |", f"|---|{'---|' * len(known)}"]
    for name, row in rows.items():
        cells = " | ".join(_cell(row.get(key)) for key in known)
        lines.append(f"| {name} | {cells} |")
    return lines


def _cell(value: Any) -> str:  # noqa: ANN401 - any JSON
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
