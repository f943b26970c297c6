"""Changing a provisioned federation: add, rotate and revoke.

A change is built inside the provision, then `state.json` is replaced, then the files:
whoever is cut off in between calls the same command again.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from experiments.deployment.certificates import Issued, certificate_facts
from experiments.deployment.federation_checks import check_name
from experiments.deployment.federation_file import (
    FederationPlan,
    SitePlan,
    read_plan,
    read_text,
)
from experiments.deployment.kit import (
    PLAIN,
    PUBLIC_KEYS,
    SECRET,
    make_folder,
    write_file,
)
from experiments.deployment.node_keys import NodeKey
from experiments.deployment.provision import (
    PLAN_FILE,
    certify_server,
    new_key,
    site_state,
    telling_what_failed,
    write_site,
)
from experiments.deployment.provision_state import (
    ACTIVE,
    REVOKED,
    STATE_FILE,
    CertificateState,
    ProvisionState,
    SiteState,
    load_state,
    state_text,
)
from strategies.settings import SettingsError

LOCK_FILE = ".lock"
LOCK_TIMEOUT_S = 5.0


def add_site(folder: Path, name: str, public_key: str, now: datetime) -> ProvisionState:
    """Add a site, or take back one that was revoked, with a new key.

    Args:
        folder: Of the provision. Its federation.toml may already hold the site's table;
            otherwise one is appended.
        name: Of the site.
        public_key: That it has sent; "" = that of federation.toml, else a pair is made.
        now: Time of it, with time zone.

    Returns:
        The new state.

    Raises:
        SettingsError: If the site is active, the name cannot be used, or the key is
            none or was ever used.
    """
    with _changing(folder) as change:
        if wanted := check_name(name):
            raise SettingsError(f"The name of a site must be {wanted}.")
        known = change.state.sites.get(name)
        if known is not None and known.status == ACTIVE:
            raise SettingsError(
                f"'{name}' is an active site already. Give it a new key with `endofed "
                "provision rotate`."
            )
        alike = [one for one in change.state.sites if one.lower() == name.lower()]
        if known is None and alike:
            raise SettingsError(
                f"'{name}' differs from the site '{alike[0]}' in capitals only; names "
                "must differ in more."
            )
        site = change.plan.site(name) or change.append_site(name)
        key = new_key(public_key or site.public_key, change.state)
        change.issue(site, key, change.state, now)
    return change.state


def rotate_site(
    folder: Path, name: str, public_key: str, now: datetime
) -> ProvisionState:
    """Give a site a new key and a new kit; its old key is revoked.

    Args:
        folder: Of the provision.
        name: Of an active site.
        public_key: A new one that the site has sent; "" = a pair is made.
        now: Time of it, with time zone.

    Returns:
        The new state.

    Raises:
        SettingsError: If there is no such active site, the key is none or was ever
            used, or the site makes its keys itself and sent none.
    """
    with _changing(folder) as change:
        site = _active_site(change.state, name)
        if site.own_key and not public_key:
            raise SettingsError(
                f"'{name}' makes its keys itself. Ask it for the public half of a new "
                "pair and name that file with --public-key."
            )
        planned = change.plan.site(name) or change.append_site(name)
        key = new_key(public_key, change.state)
        revoked = change.state.without_key_of(name, "rotated", now)
        change.issue(planned, key, revoked, now)
    return change.state


def rotate_server(folder: Path, now: datetime) -> ProvisionState:
    """Give the server a new key and certificate of the same authority.

    Kits stay as they are. Names and days are those of the provision's federation.toml,
    so a name that is added there becomes part of the certificate.

    Args:
        folder: Of the provision.
        now: Time of it, with time zone.

    Returns:
        The new state.

    Raises:
        SettingsError: If the authority has expired or its key is missing.
    """
    with _changing(folder) as change:
        server = certify_server(change.authority, change.plan, now)
        facts = certificate_facts(server.certificate)
        state = replace(change.state, server=CertificateState.from_facts(facts, now))
        make_folder(change.new / "server")
        write_file(change.new / "server" / "server.key", server.key, SECRET)
        write_file(change.new / "server" / "server.pem", server.certificate, PLAIN)
        change.commit(state)
    return change.state


def revoke_site(folder: Path, name: str, now: datetime) -> ProvisionState:
    """Take a site out of the federation; its key, kit and archive go.

    Args:
        folder: Of the provision.
        name: Of an active site.
        now: Time of it, with time zone.

    Returns:
        The new state; the centre unregisters what it lists as revoked.

    Raises:
        SettingsError: If there is no such active site.
    """
    with _changing(folder) as change:
        _active_site(change.state, name)
        change.commit(change.state.without_key_of(name, "revoked", now))
        (folder / "server" / PUBLIC_KEYS / f"{name}.pub").unlink(missing_ok=True)
        for ending in (".tar.gz", ".tar.gz.sha256"):
            (folder / "kits" / f"{name}{ending}").unlink(missing_ok=True)
        shutil.rmtree(folder / "sites" / name, ignore_errors=True)
    return change.state


@dataclass
class _Change:
    """A change of a provision while it is made."""

    folder: Path
    new: Path  # on the same disk; laid out as the provision
    text: str  # of federation.toml
    plan: FederationPlan
    state: ProvisionState

    @property
    def authority(self) -> Issued:
        return Issued(
            certificate=(self.folder / "ca" / "ca.crt").read_bytes(),
            key=(self.folder / "ca" / "ca.key").read_bytes(),
        )

    def append_site(self, name: str) -> SitePlan:
        """Write a table for a site that federation.toml does not name."""
        text = f'{self.text.rstrip()}\n\n[[site]]\nname = "{name}"\n'
        site = read_plan(text).site(name)
        if site is None:
            raise SettingsError(
                f"Write a [[site]] table for '{name}' into the provision's {PLAN_FILE}."
            )
        write_file(self.new / PLAN_FILE, text.encode(), PLAIN)
        return site

    def issue(
        self, site: SitePlan, key: NodeKey, state: ProvisionState, now: datetime
    ) -> None:
        """Make the kit of a site and put it into its place."""
        certificate = (self.folder / "ca" / "ca.crt").read_bytes()
        for part in ("sites", "kits", "server", f"server/{PUBLIC_KEYS}"):
            make_folder(self.new / part)
        write_site(self.new, self.plan, site, key, certificate)
        expires = state.authority.expires
        self.commit(state.with_site(site.name, site_state(key, now, expires)))

    def commit(self, state: ProvisionState) -> None:
        """Replace the state, then every file and kit that was made."""
        text = state_text(state).encode()
        for place in (self.folder, self.folder / "server"):
            write_file(self.new / "state", text, PLAIN)
            (self.new / "state").replace(place / STATE_FILE)
        for path in sorted(self.new.glob("sites/*")):
            place = self.folder / "sites" / path.name
            if place.exists():
                place.rename(self.new / "old")  # goes with this temporary folder
            path.rename(place)
        for path in sorted(self.new.rglob("*")):
            inside = path.relative_to(self.new)
            if path.is_file() and inside.parts[0] != "old":
                path.replace(self.folder / inside)
        self.state = state


@contextmanager
def _changing(folder: Path) -> Iterator[_Change]:
    """Open a provision for one change at a time."""
    load_state(folder)
    needed = (PLAN_FILE, "ca/ca.crt", f"server/{STATE_FILE}", "sites", "kits")
    missing = [one for one in needed if not (folder / one).exists()]
    if missing:
        raise SettingsError(
            f"'{folder}' is not a whole provision: {', '.join(missing)} is missing. "
            "Change it where the federation was provisioned, then copy its folder "
            "server to the server."
        )
    try:
        with (
            telling_what_failed(),
            FileLock(folder / LOCK_FILE, timeout=LOCK_TIMEOUT_S),
            tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as temporary,
        ):
            text = read_text(folder / PLAN_FILE)
            yield _Change(
                folder, Path(temporary), text, read_plan(text), load_state(folder)
            )
    except Timeout:
        raise SettingsError(
            "Another command is changing this provision. Wait until it has ended."
        ) from None


def _active_site(state: ProvisionState, name: str) -> SiteState:
    site = state.sites.get(name)
    if site is None:
        known = ", ".join(state.sites)
        raise SettingsError(f"There is no site '{name}' here, only {known}.")
    if site.status == REVOKED:
        raise SettingsError(
            f"'{name}' is revoked. `endofed provision add` takes it back with a new "
            "key."
        )
    return site
