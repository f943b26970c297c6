"""Provisioning a federation: authority, server certificate, keys and kits.

It is built in a folder beside its place and renamed at the end, so that nothing is ever
half there.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from experiments.deployment.certificates import (
    CLOCK_SKEW,
    Issued,
    certificate_facts,
    make_authority,
    make_server_certificate,
)
from experiments.deployment.federation_file import FederationPlan, SitePlan, read_plan
from experiments.deployment.kit import (
    PLAIN,
    PUBLIC_KEYS,
    SECRET,
    make_folder,
    pack_kit,
    write_file,
    write_kit,
    write_server_folder,
)
from experiments.deployment.node_keys import NodeKey, make_node_key, read_public_key
from experiments.deployment.provision_state import (
    ACTIVE,
    STATE_FILE,
    CertificateState,
    ProvisionState,
    SiteState,
    stamp,
    state_text,
)
from strategies.settings import SettingsError

PLAN_FILE = "federation.toml"
AUTHORITY_LIFETIMES = 5
"""How often a server's certificate can be renewed before all sites need new kits."""


def provision(text: str, output: Path, now: datetime) -> ProvisionState:
    """Make everything that a federation needs: authority, server, keys and kits.

    Args:
        text: Content of a federation file.
        output: Folder to make.
        now: Time of it, with time zone.

    Returns:
        What was made.

    Raises:
        SettingsError: With all mistakes of the file; if the folder exists and is not
            empty; or if it cannot be written. Then nothing is left behind.
    """
    plan = read_plan(text)
    output = Path(os.path.abspath(output))  # also without "..", for its name
    with telling_what_failed():
        if os.path.lexists(output) and not _is_empty_folder(output):
            raise SettingsError(
                f"'{output}' exists and is not written over, since it may hold the "
                "only copy of keys. Name another folder with --output, or change that "
                "provision with `endofed provision add`, `rotate` or `revoke`."
            )
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{output.name}.", dir=output.parent
        ) as temporary:
            folder = Path(temporary) / output.name
            state = _build(folder, plan, text, now)
            folder.rename(output)
    return state


@contextmanager
def telling_what_failed() -> Iterator[None]:
    """Turn a file that cannot be written or read into one clear message.

    Yields:
        Nothing.

    Raises:
        SettingsError: In place of an OSError.
    """
    try:
        yield
    except TimeoutError:
        raise  # of a lock
    except OSError as error:
        raise SettingsError(
            f"The provision cannot be written or read ({error.strerror}). Check that "
            "this program's user may write there and that the disk is not full."
        ) from None


def _build(
    folder: Path, plan: FederationPlan, text: str, now: datetime
) -> ProvisionState:
    for part in ("", "ca", "sites", "kits"):
        make_folder(folder / part)
    lifetime = timedelta(days=AUTHORITY_LIFETIMES * plan.valid_days)
    authority = make_authority(plan.name, now - CLOCK_SKEW, now + lifetime)
    write_file(folder / "ca" / "ca.key", authority.key, SECRET)
    write_file(folder / "ca" / "ca.crt", authority.certificate, PLAIN)
    write_file(folder / PLAN_FILE, text.encode(), PLAIN)
    server = certify_server(authority, plan, now)
    write_server_folder(folder / "server", plan, server, authority.certificate)
    certificates = [
        CertificateState.from_facts(certificate_facts(one.certificate), now)
        for one in (authority, server)
    ]
    state = ProvisionState(plan.name, certificates[0], certificates[1], sites={})
    for site in plan.sites:
        key = new_key(site.public_key, state)
        write_site(folder, plan, site, key, authority.certificate)
        made = site_state(key, now, state.authority.expires)
        state = state.with_site(site.name, made)
    for place in (folder, folder / "server"):
        write_file(place / STATE_FILE, state_text(state).encode(), PLAIN)
    return state


def write_site(
    folder: Path,
    plan: FederationPlan,
    site: SitePlan,
    key: NodeKey,
    certificate: bytes,
) -> None:
    """Write what belongs to one site: kit, archive, public key.

    Args:
        folder: Of the provision, or laid out as one.
        plan: Of the federation.
        site: Whose key it is.
        key: Of the site.
        certificate: Of the authority, in PEM.
    """
    kit = folder / "sites" / site.name
    write_kit(kit, plan, site, key, certificate)
    pack_kit(kit, folder / "kits" / f"{site.name}.tar.gz")
    public = f"{key.public} {site.name}\n".encode()
    write_file(folder / "server" / PUBLIC_KEYS / f"{site.name}.pub", public, PLAIN)


def certify_server(authority: Issued, plan: FederationPlan, now: datetime) -> Issued:
    """Make the server's key and certificate, for the names and days of a plan."""
    return make_server_certificate(
        authority,
        plan.name,
        (plan.address, *plan.also),
        now - CLOCK_SKEW,
        now + timedelta(days=plan.valid_days),
    )


def site_state(key: NodeKey, now: datetime, expires: str) -> SiteState:
    """Return the state of a site that has just got a key."""
    return SiteState(
        status=ACTIVE,
        fingerprint=key.fingerprint,
        public_key=key.public,
        own_key=not key.private,
        created=stamp(now),
        expires=expires,
    )


def new_key(public_key: str, state: ProvisionState) -> NodeKey:
    """Read the key that a site has sent, or make a pair.

    Args:
        public_key: As the site has sent it; "" = make a pair.
        state: What keys there are and were.

    Returns:
        The key.

    Raises:
        SettingsError: If it is none, or was ever used.
    """
    key = read_public_key(public_key) if public_key else make_node_key()
    owner = state.owner_of(key.fingerprint)
    if owner is not None:
        raise SettingsError(
            f"This public key is or was that of '{owner}'. A key is used once: ask the "
            "site for that of a new pair."
        )
    return key


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())
