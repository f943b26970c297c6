"""What travelled: by phase, by round, by site and by edge."""

from statistics import fmean

from markupsafe import Markup

from experiments.report.bar_chart import fill_legend, round_bars
from experiments.report.formats import data_size, duration
from experiments.report.markup import (
    EMPTY,
    Section,
    figure,
    joined,
    paragraph,
    side_by_side,
    table,
    tag,
)
from experiments.report.run import Run

DIRECTIONS = ("sites to server", "server to sites")
MEGABYTE = 1e6


def communication_section(run: Run) -> Section | None:
    """Show the traffic; None before the first phase has ended."""
    if not run.phases:
        return None
    body = joined(
        [
            paragraph(_in_words(run)),
            side_by_side([_by_round(run), tag("div", _by_phase(run) + _by_site(run))]),
        ]
    )
    return Section("communication", "Communication", body)


def _in_words(run: Run) -> str:
    up = sum(one.bytes_up for one in run.phases)
    down = sum(one.bytes_down for one in run.phases)
    text = (
        f"{data_size(up + down)} in all: {data_size(up)} from the sites to the server, "
        f"{data_size(down)} back."
    )
    costs = [e.num_bytes for e in run.edges if e.num_bytes and not e.is_control]
    if costs:
        text += f" An edge cost {data_size(fmean(costs))} a round (mean)."
    return text


def _by_round(run: Run) -> Markup:
    rounds = sorted({one.round for one in run.phases})
    up, down = dict.fromkeys(rounds, 0.0), dict.fromkeys(rounds, 0.0)
    for one in run.phases:
        up[one.round] += one.bytes_up / MEGABYTE
        down[one.round] += one.bytes_down / MEGABYTE
    chart = round_bars(
        rounds,
        {
            DIRECTIONS[0]: list(up.values()),
            DIRECTIONS[1]: list(down.values()),
        },
        description=f"Megabytes in {len(rounds)} rounds",
    )
    return figure(joined([chart, fill_legend(DIRECTIONS)]), "Megabytes a round")


def _by_phase(run: Run) -> Markup:
    names = list(dict.fromkeys(one.name for one in run.phases))
    rows = []
    for name in names:
        mine = [one for one in run.phases if one.name == name]
        seconds = [one.seconds for one in mine if one.seconds is not None]
        rows.append(
            [
                name,
                str(len(mine)),
                data_size(sum(one.bytes_up for one in mine)),
                data_size(sum(one.bytes_down for one in mine)),
                duration(fmean(seconds) if seconds else None),
            ]
        )
    return table(
        ["phase", "times", "sites to server", "server to sites", "mean time"],
        rows,
        caption="By phase, all rounds",
    )


def _by_site(run: Run) -> Markup:
    if not run.traffic:
        return EMPTY
    rows = [
        [site, data_size(both["in"]), data_size(both["out"])]
        for site, both in sorted(run.traffic.items())
    ]
    return table(
        ["site", "reached it", "left it"], rows, caption="By site, from the audit log"
    )
