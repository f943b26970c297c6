"""Approving an app: its digest is added to `apps` in site.toml.

The file is a person's, with comments, so only the one list is rewritten, and the result
is read again before it replaces the file.
"""

import contextlib
import os
import re
import tempfile
import tomllib
from pathlib import Path

from clients.data.errors import DataError
from clients.site_file import ANY_APP, SiteFile

DIGEST = re.compile(r"[0-9a-fA-F]{64}")
TABLE = re.compile(r"^[ \t]*\[limits\][ \t]*(#.*)?$", re.MULTILINE)
NEXT_TABLE = re.compile(r"^[ \t]*\[", re.MULTILINE)
LIST = re.compile(r"^([ \t]*apps[ \t]*=[ \t]*)\[[^\[\]]*\]", re.MULTILINE)
BY_HAND = "Write the digest into apps in the table [limits] of site.toml by hand."


def approve(site_file: Path, digest: str) -> bool:
    """Let an app run at this site.

    Args:
        site_file: Path of site.toml.
        digest: SHA-256 of the app, as the centre names it.

    Returns:
        False if it was approved already.

    Raises:
        DataError: If the digest is none, every app may run anyway, or the file cannot
            be read, understood or written; then it is as it was.
    """
    if not DIGEST.fullmatch(digest):
        raise DataError(
            "A digest has 64 hexadecimal digits, got something else. Ask the centre "
            "for what `endofed federation digest` prints."
        )
    digest = digest.lower()
    apps = SiteFile.read(site_file).limits.apps
    if ANY_APP in apps:
        raise DataError(
            'apps = ["any"] lets every app run, so there is nothing to approve. Write '
            "apps = [] in site.toml first; then only approved apps run."
        )
    if digest in apps:
        return False
    text = site_file.read_bytes().decode("utf-8")
    changed = with_apps(text, [*apps, digest])
    _check(text, changed, [*apps, digest])
    _replace(site_file, changed)
    return True


def with_apps(text: str, apps: list[str]) -> str:
    """Write a list of approved apps into the text of a site file.

    Args:
        text: Of site.toml.
        apps: All that are to be approved.

    Returns:
        The text, with nothing else changed.
    """
    written = "[" + ", ".join(f'"{one}"' for one in apps) + "]"
    head = TABLE.search(text)
    if head is None:
        return f"{text.rstrip()}\n\n[limits]\napps = {written}\n"
    after = NEXT_TABLE.search(text, head.end())
    end = len(text) if after is None else after.start()
    limits, count = LIST.subn(rf"\g<1>{written}", text[head.end() : end], count=1)
    if count == 0:
        limits = f"\napps = {written}{limits}"
    return text[: head.end()] + limits + text[end:]


def _check(before: str, after: str, apps: list[str]) -> None:
    try:
        wanted, found = tomllib.loads(before), tomllib.loads(after)
    except tomllib.TOMLDecodeError:
        wanted, found = {}, None
    wanted.setdefault("limits", {})["apps"] = apps
    written = (found or {}).get("limits", {}).get("apps", [])
    if found is not None:
        found.setdefault("limits", {})["apps"] = [one.lower() for one in written]
    if wanted != found:
        raise DataError(f"This site.toml is written in an unusual way. {BY_HAND}")


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all, with the mode that it had."""
    try:
        mode = path.stat().st_mode & 0o777
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(text.encode("utf-8"))
                os.fchmod(handle, mode)
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
    except OSError:
        raise DataError(
            "site.toml cannot be written: call this where the kit is not mounted "
            f"read-only. {BY_HAND}"
        ) from None
