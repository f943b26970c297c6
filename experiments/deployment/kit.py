"""The folders that are handed out: a kit for each site, and the server's folder."""

import gzip
import hashlib
import io
import os
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from experiments.deployment.certificates import Issued
from experiments.deployment.federation_file import FederationPlan, SitePlan
from experiments.deployment.node_keys import NodeKey
from experiments.run_config import PROJECT_FOLDER
from strategies.settings import SettingsError

COMPOSE_FOLDER = PROJECT_FOLDER / "docker"
SITE_COMPOSE = "compose.site.yaml"
SERVER_COMPOSE = "compose.server.yaml"
CHECKSUMS = "SHA256SUMS"
PRIVATE_KEY = "supernode.key"
PUBLIC_KEYS = "public-keys"
FIXED_TIME = 946684800
"""Of every file in an archive: 2000-01-01, so that equal files give equal archives."""
SECRET, PLAIN, SCRIPT, FOLDER = 0o600, 0o644, 0o755, 0o700
LIMIT_EXAMPLES = {
    "strategies": ["fedefm", "fedavg"],
    "models": ["sam-tiny", "fga-net-small"],
    "max-rounds-per-day": 200,
    "max-seconds-per-phase": 900,
}
"""What a site.toml shows, as comments, of limits that are not set."""
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
SITE_FILES = (
    ("site.toml", "site.toml", PLAIN),
    ("kit.env", "kit.env", PLAIN),
    ("start.sh", "start_site.sh", SCRIPT),
    ("check.sh", "check_site.sh", SCRIPT),
    ("READ_ME.txt", "READ_ME.txt", PLAIN),
)
"""Name in a kit, template and mode."""
SERVER_FILES = (
    ("federation.env", "federation.env", PLAIN),
    ("start.sh", "start_server.sh", SCRIPT),
)
"""The same of the server's folder."""


def write_kit(
    folder: Path,
    plan: FederationPlan,
    site: SitePlan,
    key: NodeKey,
    authority_certificate: bytes,
) -> None:
    """Write the folder of one site.

    Args:
        folder: To make; its parent exists.
        plan: The federation.
        site: Whose kit it is.
        key: Of the site; without its private half if the site keeps that.
        authority_certificate: By which the site knows the server, in PEM.

    Raises:
        SettingsError: If the compose file of sites is missing.
    """
    values = {
        "plan": plan,
        "site": site,
        "key": key,
        "examples": LIMIT_EXAMPLES,
        "service": "supernode-cuda" if site.wants_gpu else "supernode",
        "cpus": f"{site.machine['cpus']:g}",
        "memory": f"{round(site.machine['memory-gib'] * 1024)}m",
    }
    make_folder(folder)
    write_file(folder / "ca.crt", authority_certificate, PLAIN)
    write_file(folder / "supernode.pub", f"{key.public} {site.name}\n".encode(), PLAIN)
    if key.private:
        write_file(folder / PRIVATE_KEY, key.private, SECRET)
    write_file(folder / SITE_COMPOSE, _compose_file(SITE_COMPOSE), PLAIN)
    for name, template, mode in SITE_FILES:
        write_file(folder / name, _render(template, values), mode)
    write_file(folder / CHECKSUMS, checksums(folder), PLAIN)


def write_server_folder(
    folder: Path, plan: FederationPlan, server: Issued, authority_certificate: bytes
) -> None:
    """Write the folder of the server, still without public keys.

    Args:
        folder: To make; its parent exists.
        plan: The federation.
        server: Key and certificate of the server.
        authority_certificate: In PEM.

    Raises:
        SettingsError: If the compose file of the server is missing.
    """
    make_folder(folder)
    make_folder(folder / PUBLIC_KEYS)
    write_file(folder / "ca.crt", authority_certificate, PLAIN)
    write_file(folder / "server.pem", server.certificate, PLAIN)
    write_file(folder / "server.key", server.key, SECRET)
    write_file(folder / SERVER_COMPOSE, _compose_file(SERVER_COMPOSE), PLAIN)
    for name, template, mode in SERVER_FILES:
        write_file(folder / name, _render(template, {"plan": plan}), mode)


def pack_kit(folder: Path, archive: Path) -> None:
    """Pack a kit, and write its checksum beside it.

    Equal kits give equal archives: files are sorted, and their owner and time are left
    out. The modes are kept, so that a key stays private when it is unpacked.

    Args:
        folder: A kit; the archive holds it under its own name.
        archive: A .tar.gz file to write.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in (folder, *sorted(folder.iterdir())):
            name = path.relative_to(folder.parent).as_posix()
            tar.add(path, name, recursive=False, filter=_nameless)
    content = gzip.compress(packed.getvalue(), mtime=0)
    digest = hashlib.sha256(content).hexdigest()
    write_file(archive, content, SECRET)
    line = f"{digest}  {archive.name}\n"
    write_file(archive.with_name(f"{archive.name}.sha256"), line.encode(), PLAIN)


def checksums(folder: Path) -> bytes:
    """Return the SHA-256 of every file of a folder, as `sha256sum -c` reads it."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != CHECKSUMS
    ]
    return "".join(lines).encode()


def make_folder(path: Path) -> None:
    """Make a folder that only its owner may enter, whatever the umask."""
    path.mkdir(mode=FOLDER)
    path.chmod(FOLDER)


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Write a new file that has its mode from its first byte on.

    Args:
        path: That does not exist yet.
        content: Of the file.
        mode: Of the file, whatever the umask.

    Raises:
        FileExistsError: If the file exists.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode & SECRET)
    with os.fdopen(handle, "wb") as stream:
        os.fchmod(handle, mode)
        stream.write(content)


def toml_value(value: object) -> str:
    """Write one value as TOML on one line.

    Args:
        value: A text, number, truth value, or list or table of such.

    Returns:
        What stands behind the equals sign.
    """
    if isinstance(value, Mapping):
        pairs = [f"{toml_key(k)} = {toml_value(v)}" for k, v in value.items()]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(one) for one in value)}]"
    return tomli_w.dumps({"v": value}).removeprefix("v = ").rstrip("\n")


def toml_key(key: str) -> str:
    """Write a key as TOML: bare where it may be, else in quotes."""
    return key if BARE_KEY.fullmatch(key) else toml_value(key)


def _render(name: str, values: Mapping[str, Any]) -> bytes:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # slow to import

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # no HTML; what goes into scripts is checked when it is read
    )
    environment.filters.update(toml=toml_value, key=toml_key)
    return environment.get_template(f"{name}.jinja").render(values).encode()


def _compose_file(name: str) -> bytes:
    try:
        return (COMPOSE_FOLDER / name).read_bytes()
    except OSError:
        raise SettingsError(
            f"docker/{name} is missing: run this command from a complete checkout "
            "that was installed with `pip install -e .`."
        ) from None


def _nameless(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = FIXED_TIME
    return entry
