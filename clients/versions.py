"""Which software a site runs: part of what it says of itself."""

from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("endofed", "flwr", "torch")
UNKNOWN = "unknown"


def software_versions() -> dict[str, str]:
    """Return the versions of the packages that decide a site's numbers.

    Returns:
        `version-NAME` -> version; "unknown" of a package that is not installed, as
        this project is where only its app was sent.
    """
    return {f"version-{name}": _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return UNKNOWN
