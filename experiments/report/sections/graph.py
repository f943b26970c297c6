"""The federation as a picture: who exchanges what with whom."""

from collections.abc import Mapping
from statistics import fmean

from markupsafe import Markup

from experiments.report.markup import (
    Section,
    figure,
    folded,
    joined,
    side_by_side,
    tag,
)
from experiments.report.network_chart import (
    MAX_NAMED,
    MAX_WITH_NUMBER,
    network_chart,
    star_chart,
)
from experiments.report.plain_text import as_mapping, as_number
from experiments.report.run import Run

PARTS = {
    "train": "frames-train",
    "validation": "frames-validation",
    "test": "frames-test",
}


def graph_section(run: Run) -> Section | None:
    """Draw sites and who teaches whom; None before any site has joined."""
    sites = run.site_names
    if not sites:
        return None
    weights = _weights(run)
    if weights:
        numbers = "; numbers: mean weight" if len(weights) <= MAX_WITH_NUMBER else ""
        chart = network_chart(
            sites, weights, description=f"{len(weights)} edges, teacher to student"
        )
        caption = (
            "Who teaches whom, over all rounds. Arrow: teacher → student, thicker "
            f"where the mean weight is larger{numbers}."
        )
    else:
        chart = star_chart(sites, description=f"{len(sites)} sites around a server")
        caption = "No site taught another: each exchanges weights with the server only."
    listed = _listed(run, sites)
    if len(sites) > MAX_NAMED:
        listed = folded(f"The {len(sites)} sites by number, clockwise", listed)
    body = side_by_side([figure(chart, caption), listed])
    return Section("federation", "The federation", body)


def _weights(run: Run) -> dict[tuple[str, str], float | None]:
    """Return the mean weight of every edge that a round had."""
    found: dict[tuple[str, str], list[float]] = {}
    for edge in run.edges:
        if not edge.is_control:
            known = found.setdefault((edge.teacher, edge.student), [])
            known += [] if edge.weight is None else [edge.weight]
    names = set(run.site_names)
    return {
        pair: fmean(known) if known else None
        for pair, known in sorted(found.items())
        if set(pair) <= names
    }


def _listed(run: Run, sites: list[str]) -> Markup:
    """List the sites by their numbers in the picture."""
    return tag(
        "ol",
        joined(
            tag("li", Markup("<strong>{}</strong> {}").format(site, _facts(run, site)))
            for site in sites
        ),
        class_="sites",
    )


def _facts(run: Run, site: str) -> str:
    facts: Mapping[str, object] = as_mapping(run.sites.get(site))
    counts = {name: as_number(facts.get(key)) for name, key in PARTS.items()}
    frames = ", ".join(
        f"{value:.0f} {name}" for name, value in counts.items() if value is not None
    )
    classes = facts.get("classes")
    annotated = ""
    if isinstance(classes, list):
        annotated = ", ".join(map(str, classes)) or "nothing"
    texts = [
        str(facts.get("domain") or ""),
        f"frames: {frames}" if frames else "",
        f"annotates {annotated}" if annotated else "",
    ]
    return " · ".join(text for text in texts if text)
