"""`endofed data partition`: a sites file in which silos hold chosen types of data.

The file lists simulated silos and opens with the command that made it; a table and a
figure show who holds what. The arithmetic is in `clients.partition`.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from clients.data.errors import DataError
from clients.data.simulator import is_domain
from clients.partition import (
    TOLERANCE,
    Partition,
    by_site_partition,
    dirichlet_partition,
    num_types_needed,
    unseen_partition,
)
from experiments.commands.errors import user_errors
from experiments.partition_figure import draw_partition
from experiments.partition_sites import reached_share, silo_names, write_sites

PAPER_TYPES = ("human", "animal", "phantom", "simulation")
"""The data types that FedEFM shows (arXiv 2501.16992)."""
AUTO = "auto"
NO_BREAK = "\N{NO-BREAK SPACE}"  # a type and its count stay on one line


class Scheme(StrEnum):
    """How types are given to silos; see `clients.partition`."""

    UNSEEN = "unseen"
    DIRICHLET = "dirichlet"
    BY_SITE = "by-site"


def partition_command(
    scheme: Annotated[
        Scheme, typer.Option(help="How types are given to silos.")
    ] = Scheme.UNSEEN,
    types: Annotated[
        str,
        typer.Option(
            help="Simulated domains, as human,animal,random-1. auto: the paper's four, "
            "and random ones where the unseen share needs more."
        ),
    ] = AUTO,
    silos: Annotated[int, typer.Option(min=1, help="Number of silos.")] = 4,
    unseen: Annotated[
        float,
        typer.Option(
            min=0, max=100, help="unseen: % of a silo's types that no other holds."
        ),
    ] = 100,
    alpha: Annotated[
        float, typer.Option(help="dirichlet: small = one type a silo, large = alike.")
    ] = 0.5,
    patients: Annotated[int, typer.Option(min=3, help="Patients of each silo.")] = 24,
    frames_per_patient: Annotated[int, typer.Option(min=1)] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of types.")] = 0,
    output: Annotated[Path, typer.Option(help="Sites file to write.")] = Path(
        "sites.toml"
    ),
    figure: Annotated[
        Path | None, typer.Option(help="PNG to write. Default: OUTPUT with .png.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files that exist.")
    ] = False,
) -> None:
    """Give simulated silos their types of data; write a sites file and a figure."""
    with user_errors(private=True):
        picture = figure or output.with_suffix(".png")
        _check_files(output, picture, force)
        names = choose_types(types, scheme, silos, unseen, patients)
        if scheme is Scheme.UNSEEN:
            partition = unseen_partition(
                names, silos, unseen, patients_per_silo=patients, seed=seed
            )
        elif scheme is Scheme.DIRICHLET:
            partition = dirichlet_partition(
                names, silos, alpha, patients_per_silo=patients, seed=seed
            )
        else:
            partition = by_site_partition(names, silos, patients_per_silo=patients)
        aim = {"unseen": f"--unseen {unseen:g} ", "dirichlet": f"--alpha {alpha:g} "}
        command = (
            f"endofed data partition --scheme {scheme} --types {','.join(names)} "
            f"--silos {silos} {aim.get(scheme, '')}--patients {patients} "
            f"--frames-per-patient {frames_per_patient} --seed {seed}"
        )
        write_sites(partition, output, frames_per_patient, command)
        _draw(partition, picture)
    console = Console()
    console.print(partition_table(partition))
    for line in _remarks(partition, patients):
        console.print(line, highlight=False)
    for path in (output, picture):
        console.print(f"Written: {path}", soft_wrap=True, highlight=False, markup=False)


def choose_types(
    text: str, scheme: Scheme, silos: int, unseen: float, patients: int
) -> tuple[str, ...]:
    """Read the option `--types`.

    Args:
        text: Names of simulated domains with commas between, or "auto".
        scheme: For "unseen", "auto" adds random domains as needed.
        silos: Number of silos.
        unseen: Wanted percentage.
        patients: Of each silo.

    Returns:
        Names of domains.

    Raises:
        DataError: If one is no domain.
    """
    if text != AUTO:
        names = tuple(name.strip() for name in text.split(","))
        unknown = [name for name in names if not is_domain(name)]
        if unknown:
            raise DataError(
                f"{len(unknown)} of {len(names)} types are no simulated domain. Give "
                f"domains such as {','.join(PAPER_TYPES)},random-1 or auto."
            )
        return names
    needed = len(PAPER_TYPES)
    if scheme is Scheme.UNSEEN:
        needed = num_types_needed(silos, unseen, patients_per_silo=patients)
    more = range(1, needed - len(PAPER_TYPES) + 1)
    return (*PAPER_TYPES, *(f"random-{number}" for number in more))


def partition_table(partition: Partition) -> Table:
    """Make a table of who holds what.

    Args:
        partition: Who holds what.

    Returns:
        One row a silo: its own and its shared types with their patients, and its
        unseen share.
    """
    table = Table(title="Who holds what (patients)", box=box.SIMPLE_HEAD)
    table.add_column("Silo")
    table.add_column("Types that it alone holds")
    table.add_column("Types that others hold as well")
    table.add_column("Unseen\nby type", justify="right")
    table.add_column("by frames", justify="right")
    own, held = partition.own(), partition.held()
    shares = (partition.unseen_by_type(), partition.unseen_by_frames())
    for row, name in enumerate(silo_names(len(held))):
        cells = [
            ", ".join(
                f"{partition.types[column]}{NO_BREAK}{partition.patients[row, column]}"
                for column in flags.nonzero()[0]
            )
            for flags in (own[row], held[row] & ~own[row])
        ]
        percent = [f"{share[row]:.0f} %" for share in shares]
        table.add_row(name, *(cell or "–" for cell in cells), *percent)
    return table


def _check_files(output: Path, figure: Path, force: bool) -> None:
    if output == figure:
        raise DataError("The sites file and the figure need different names.")
    if figure.suffix.lower() != ".png":
        raise DataError("The figure is a PNG: give it a name that ends in .png.")
    if not force and (output.exists() or figure.exists()):
        raise DataError(
            "The sites file or the figure exists already; name another with --output "
            "and --figure, or give --force to replace it."
        )


def _draw(partition: Partition, path: Path) -> None:
    try:
        draw_partition(partition, silo_names(len(partition.patients)), path)
    except OSError:
        raise DataError(
            "The figure cannot be written: name a PNG in a folder that exists and that "
            "this program's user may write to."
        ) from None


def _remarks(partition: Partition, patients: int) -> list[str]:
    lines = [f"Unseen data, mean over silos: {reached_share(partition)}."]
    left_over = partition.unheld()
    if left_over:
        lines.append(f"No silo holds: {', '.join(left_over)}.")
    wanted, num_silos = partition.wanted_unseen, len(partition.patients)
    if wanted is None:
        return lines
    if abs(float(partition.unseen_by_type()[0]) - wanted) > TOLERANCE:
        needed = num_types_needed(num_silos, wanted, patients_per_silo=patients)
        if needed > len(partition.types):
            lines.append(
                f"For {wanted:g} % these {num_silos} silos need {needed} types, here "
                f"are {len(partition.types)}; --types auto adds random ones."
            )
        else:
            lines.append(f"No number of types brings {num_silos} silo(s) nearer.")
    return lines
