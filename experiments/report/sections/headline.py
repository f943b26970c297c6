"""The numbers that one looks at first, and what exactly they are."""

from collections import Counter
from collections.abc import Mapping

from markupsafe import Markup

from experiments.report.formats import (
    counted,
    data_size,
    duration,
    moment,
    number,
)
from experiments.report.markup import Section, bullets, joined, paragraph, tag
from experiments.report.plain_text import as_mapping, as_number
from experiments.report.run import Run

CAUTION = (
    "One run with one seed: there is no interval around these numbers, and small "
    "differences to another run mean nothing."
)


def headline_section(run: Run) -> Section:
    """Tell the state of a run and its main numbers."""
    tested = run.test_overall.get("test/dice") is not None
    parts = [_state(run)]
    if tested:
        parts += [_tiles(_test_numbers(run)), paragraph(_what_was_measured(run))]
    elif run.rounds:
        parts += [
            _tiles(_validation_numbers(run)),
            paragraph(
                "No test was made. The numbers are of the validation frames in the "
                f"last finished round ({run.rounds[-1].number}); models are chosen by "
                "them, so they are kinder than a test."
            ),
        ]
    else:
        parts.append(paragraph("Nothing has been measured yet."))
    if tested or run.rounds:
        parts.append(paragraph(CAUTION, "note"))
    parts.append(paragraph(_whose_frames(run), "note"))
    if run.notes:
        parts.append(tag("div", bullets(run.notes), class_="warning"))
    return Section("result", "Result", joined(parts))


def _state(run: Run) -> Markup:
    start, last = run.times
    finished = len([one for one in run.rounds if one.number > 0])
    planned = as_number(run.settings.get("num-rounds"))
    of = "" if planned is None else f" of {planned:.0f}"
    rounds = f"{finished}{of} rounds after the local warm-up"
    if run.status == "completed":
        text = f"Completed: {rounds}, {moment(start)}, {duration(_wall(run))}."
        return paragraph(text, "state good")
    if run.status == "failed":
        reason = run.reason or "No reason was written down."
        text = Markup("<strong>This run failed</strong> after {}. {}").format(
            rounds, reason
        )
        return paragraph(text, "state bad")
    text = Markup(
        "<strong>This run has no end yet</strong>: it still goes on, or was stopped "
        "from outside. Finished: {}; last sign of life {}."
    ).format(rounds, moment(last))
    return paragraph(text, "state open")


def _wall(run: Run) -> float | None:
    start, last = run.times
    return None if start is None or last is None else last - start


def _test_numbers(run: Run) -> dict[str, str]:
    overall = run.test_overall
    return {
        "test Dice": number(overall.get("test/dice")),
        "test clDice": number(overall.get("test/cldice")),
        "worst site, Dice": number(overall.get("test/fair/worst_site_dice")),
        "sd over sites": number(overall.get("test/fair/std")),
        **_amounts(run),
    }


def _validation_numbers(run: Run) -> dict[str, str]:
    overall = run.rounds[-1].overall
    return {
        "validation Dice": number(overall.get("val/dice")),
        "validation clDice": number(overall.get("val/cldice")),
        "worst site, Dice": number(overall.get("fair/worst_site_dice")),
        "sd over sites": number(overall.get("fair/std")),
        **_amounts(run),
    }


def _amounts(run: Run) -> dict[str, str]:
    total = sum(one.bytes_up + one.bytes_down for one in run.phases)
    return {"sites": str(len(run.site_names)), "traffic": data_size(total)}


def _tiles(numbers: Mapping[str, str]) -> Markup:
    return tag(
        "dl",
        joined(
            tag("div", joined([tag("dt", name), tag("dd", value)]))
            for name, value in numbers.items()
        ),
        class_="tiles",
    )


def _what_was_measured(run: Run) -> str:
    sites = run.test_by_site
    frames = sum(_frames(run, site) for site in sites)
    shown = counted(frames, "test frame") if frames else "test frames"
    settings, card = run.settings, run.card
    model = card.get("model-name") or settings.get("model.name") or "the model"
    size = card.get("image-size") or settings.get("model.image-size")
    at = "" if size is None else f" at {size} px"
    seed = settings.get("seed")
    return (
        f"Measured once, at the end, by the accumulated model ({model}{at}, strategy "
        f"{settings.get('strategy', 'unknown')}, seed {seed}) on the {shown} of "
        f"{counted(len(sites), 'site')}, which nobody trained on or chose by. Dice and "
        "clDice are pooled: pixels of all frames and classes are summed first."
    )


def _frames(run: Run, site: str) -> int:
    return int(as_number(run.sites.get(site, {}).get("frames-test")) or 0)


def _whose_frames(run: Run) -> str:
    kinds = Counter(
        str(as_mapping(run.sites.get(site)).get("domain") or "unknown")
        for site in run.site_names
    )
    if not kinds:
        return "No site has joined yet."
    listed = ", ".join(
        f"{kind} ({counted(count, 'site')})" for kind, count in sorted(kinds.items())
    )
    if run.settings.get("sites") == "default":
        return (
            f"All frames come from this platform's simulator: {listed}. They say "
            "nothing about patients."
        )
    return (
        f"Data types, as the sites declare them: {listed}. The run folder does not "
        "know whether frames are simulated or real."
    )
