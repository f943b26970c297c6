"""`endofed topology`: who teaches whom over a network, and how long a round takes.

The cycle time is that of Marfoq et al. (NeurIPS 2020, arXiv 2010.12229); what it
counts is in `strategies.topologies.delays`. It compares designs and does not foretell
the time of a run, whose messages pass the server.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.commands.errors import user_errors
from strategies.settings import SettingsError
from strategies.topologies.comparison import DesignFacts, compare_designs
from strategies.topologies.delays import DelayModel
from strategies.topologies.underlay import Underlay, place_silos
from strategies.topology import DESIGNS, Topology, load_underlay


def topology_command(
    network: Annotated[
        str, typer.Option(help="gaia, amazon, or a GML or GraphML file.")
    ] = "gaia",
    design: Annotated[
        str, typer.Option(help=f"Design to show: {', '.join(DESIGNS)}.")
    ] = "ring",
    silos: Annotated[
        str, typer.Option(help="Names, as ward-1,ward-2. Default: all nodes.")
    ] = "",
    model_mbit: Annotated[
        float, typer.Option(help="Size of what is sent.")
    ] = DelayModel.model_mbit,
    compute_ms: Annotated[
        float, typer.Option(help="Computing time of a silo in a round.")
    ] = DelayModel.compute_ms,
    capacity_mbit_s: Annotated[
        float, typer.Option(help="Capacity of a link, shared over the links of a way.")
    ] = DelayModel.capacity_mbit_s,
    access_mbit_s: Annotated[
        float, typer.Option(help="Up and down of a silo, shared by its edges.")
    ] = math.inf,
    link_capacity: Annotated[
        bool, typer.Option("--link-capacity", help="Use the file's own capacities.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the rounds of matcha.")] = 0,
    figure: Annotated[Path | None, typer.Option(help="Map to write, PNG.")] = None,
) -> None:
    """Show a topology over a network, and the cycle time of all designs."""
    with user_errors():
        try:
            delays = DelayModel(
                model_mbit=model_mbit,
                compute_ms=compute_ms,
                capacity_mbit_s=capacity_mbit_s,
                upload_mbit_s=access_mbit_s,
                download_mbit_s=access_mbit_s,
                link_capacity=link_capacity,
            )
            shown = _check_options(design, figure)
            underlay = load_underlay(network)
            names = _silo_names(silos) or underlay.nodes
            places = place_silos(names, underlay)
            facts = compare_designs(names, underlay, delays, seed=seed)
        except ValueError as error:
            raise SettingsError(str(error)) from None
        chosen = facts[shown].topology
        if figure is not None:
            _draw(chosen, underlay, places, figure)
    console = Console()
    console.print(edges_table(chosen, places))
    console.print(designs_table(facts, network=underlay.name, delays=delays))
    if any(silo != node for silo, node in places.items()):
        console.print("Silos are no nodes: in sorted order they got the first ones.")
    if figure is not None:
        console.print(f"Written: {figure}", soft_wrap=True, markup=False)


def edges_table(topology: Topology, places: dict[str, str]) -> Table:
    """Make a table of who teaches whom.

    Args:
        topology: The design.
        places: Node of every silo.

    Returns:
        One row a silo with its teachers in any round.
    """
    table = Table(title=f"Who teaches whom: {topology.name}", box=box.SIMPLE_HEAD)
    table.add_column("Silo")
    is_named = all(silo == node for silo, node in places.items())
    if not is_named:
        table.add_column("Node")
    table.add_column(
        "Learns now and then from" if topology.matchings else "Learns from"
    )
    for silo, teachers in topology.union().items():
        node = () if is_named else (places[silo],)
        table.add_row(silo, *node, ", ".join(teachers) or "–")
    return table


def designs_table(
    facts: Sequence[DesignFacts], *, network: str, delays: DelayModel
) -> Table:
    """Make a table of what designs cost.

    Args:
        facts: From `compare_designs`.
        network: Its name.
        delays: What is sent.

    Returns:
        One row a design.
    """
    table = Table(
        title=f"{network}: {delays.model_mbit:g} Mbit, {delays.compute_ms:g} ms",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("Design")
    for head in ("Messages\na round", "Most\nteachers", "Cycle\ntime, ms", "× ring"):
        table.add_column(head, justify="right")
    ring_ms = facts[DESIGNS.index("ring")].cycle_time_ms
    for fact in facts:
        # A lone silo that computes nothing takes no time.
        ratio = f"{fact.cycle_time_ms / ring_ms:.2f}" if ring_ms else "–"
        table.add_row(
            fact.topology.name,
            f"{fact.messages:.4g}",
            str(fact.most_teachers),
            f"{fact.cycle_time_ms:.1f}",
            ratio,
        )
    return table


def _check_options(design: str, figure: Path | None) -> int:
    if design not in DESIGNS:
        raise SettingsError(f"--design must be one of {', '.join(DESIGNS)}.")
    if figure is not None and figure.suffix.lower() != ".png":
        raise SettingsError("The figure is a PNG: give it a name that ends in .png.")
    return DESIGNS.index(design)


def _silo_names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _draw(
    topology: Topology, underlay: Underlay, places: dict[str, str], path: Path
) -> None:
    # Draws with matplotlib, slow to import and not wanted without a figure.
    from server.topology_map import draw_topology_map

    positions = {
        silo: underlay.positions[node]
        for silo, node in places.items()
        if node in underlay.positions
    }
    title = f"{topology.name} over {underlay.name} (arrow: teacher → student)"
    try:
        draw_topology_map(topology.union(), positions, path, title=title)
    except OSError:
        raise SettingsError(
            "The figure cannot be written: name a PNG in a folder that exists and that "
            "this program's user may write to."
        ) from None
