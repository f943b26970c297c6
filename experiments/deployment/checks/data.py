"""Are the site's frames and labels as a training needs them?

Reads every frame, as `endofed data check` does, with what site.toml declares. Only
counts go into the finding: the problems themselves are for the eyes of the site.
"""

from clients.data.check import check_catalogue
from clients.data.errors import DataError
from clients.data.findings import CheckReport
from clients.data.identity import SiteKey
from clients.data.scan import scan_folder
from clients.hospital import KEY_FILE
from clients.site_file import SiteFile
from clients.sources import FolderSource
from experiments.deployment.checks.finding import Finding

NAME = "data"
LOOK = "`endofed data check` on the folder names each, for the eyes of the site."


def check_data(site: SiteFile) -> Finding:
    """Read all frames of a site.

    Args:
        site: Its site file.

    Returns:
        The finding.
    """
    folders = [one for one in site.spec.sources if isinstance(one, FolderSource)]
    if not folders:
        return Finding(NAME, "ok", "Simulated frames; there is nothing to check.")
    try:
        site.machine.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = SiteKey.load_or_create(site.machine.state / KEY_FILE)
    except (OSError, DataError):
        return Finding(
            NAME,
            "failed",
            "The key of the pseudonyms can be neither read nor made.",
            "Let this program's user write the folder `state` of site.toml.",
        )
    least = site.spec.min_patients if len(site.spec.sources) == 1 else 1
    reports = []
    for source in folders:
        try:
            catalogue = scan_folder(source.folder_spec(least), key)
        except (OSError, DataError):
            return Finding(
                NAME,
                "failed",
                "A folder of frames is missing, or nothing in it can be used.",
                "See that `data` of site.toml is the folder as the container sees it. "
                + LOOK,
            )
        reports.append(check_catalogue(catalogue))
    return judge_reports(reports)


def judge_reports(reports: list[CheckReport]) -> Finding:
    """Sum the reports of all folders up.

    Args:
        reports: One or more.

    Returns:
        The finding.
    """
    numbers = {
        "patients": sum(one.num_patients for one in reports),
        "sequences": sum(len(one.sequences) for one in reports),
        "frames": sum(one.count("frames") for one in reports),
        "labelled": sum(one.count("labelled") for one in reports),
        "damaged": sum(one.count("damaged") for one in reports),
        "errors": sum(len(one.errors) for one in reports),
        "warnings": sum(len(one.warnings) for one in reports),
    }
    says = (
        "{patients} patient(s), {sequences} sequence(s), {frames} frame(s), {labelled} "
        "labelled; {errors} error(s), {warnings} warning(s)."
    ).format(**numbers)
    if numbers["errors"]:
        return Finding(NAME, "failed", says, LOOK, numbers)
    if numbers["warnings"]:
        return Finding(NAME, "warning", says, LOOK, numbers)
    return Finding(NAME, "ok", says, numbers=numbers)
