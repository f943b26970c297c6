"""What is known of a provisioned federation: `state.json`.

It holds no secret. The same file lies beside the public keys in the server's folder, so
that folder alone tells the centre whom to register and whom to unregister.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from experiments.deployment.certificates import CertificateFacts
from strategies.settings import SettingsError

STATE_FILE = "state.json"
VERSION = 1
ACTIVE = "active"
REVOKED = "revoked"


@dataclass(frozen=True)
class SiteState:
    """One site.

    Attributes:
        status: "active" or "revoked".
        fingerprint: Of its key, as `ssh-keygen -l` prints it.
        public_key: In OpenSSH format, one line without comment.
        own_key: Whether the site made its key itself.
        created: When the key was provisioned, ISO 8601 in UTC.
        expires: When its kit ends to work, because the authority's certificate in it
            does, ISO 8601 in UTC. Node keys have no date of their own.
    """

    status: str
    fingerprint: str
    public_key: str
    own_key: bool
    created: str
    expires: str


@dataclass(frozen=True)
class RevokedKey:
    """A key that must not be registered any more.

    Attributes:
        site: Whose it was.
        fingerprint: As in `SiteState`.
        public_key: As in `SiteState`.
        reason: "rotated" or "revoked".
        revoked: When, ISO 8601 in UTC.
    """

    site: str
    fingerprint: str
    public_key: str
    reason: str
    revoked: str


@dataclass(frozen=True)
class CertificateState:
    """A certificate.

    Attributes:
        serial: In hexadecimal digits.
        fingerprint: SHA-256, hexadecimal.
        created: When it was provisioned, ISO 8601 in UTC.
        expires: ISO 8601 in UTC.
        names: DNS names and addresses in it; empty for the authority.
    """

    serial: str
    fingerprint: str
    created: str
    expires: str
    names: tuple[str, ...]

    @classmethod
    def from_facts(cls, facts: CertificateFacts, now: datetime) -> "CertificateState":
        """Take over what the certificate says of itself."""
        return cls(
            serial=facts.serial,
            fingerprint=facts.fingerprint,
            created=stamp(now),
            expires=stamp(facts.expires),
            names=facts.names,
        )


@dataclass(frozen=True)
class ProvisionState:
    """A provisioned federation.

    Attributes:
        name: Of the federation.
        authority: Its certificate authority.
        server: The certificate of its server.
        sites: By name, active and revoked ones.
        revoked_keys: Every key that was ever replaced or revoked, oldest first.
    """

    name: str
    authority: CertificateState
    server: CertificateState
    sites: Mapping[str, SiteState]
    revoked_keys: tuple[RevokedKey, ...] = ()

    def active_keys(self) -> dict[str, str]:
        """Return the public keys to register, by name of the site."""
        return {
            name: site.public_key
            for name, site in sorted(self.sites.items())
            if site.status == ACTIVE
        }

    def with_site(self, name: str, site: SiteState) -> "ProvisionState":
        """Return this state with a new or changed site."""
        sites = {**self.sites, name: site}
        return replace(self, sites=dict(sorted(sites.items())))

    def without_key_of(self, name: str, reason: str, now: datetime) -> "ProvisionState":
        """Return this state with the present key of a site in the list of revoked ones.

        Args:
            name: Of an active site, whose status becomes revoked.
            reason: "rotated" or "revoked".
            now: Time of it.

        Returns:
            The new state.
        """
        site = self.sites[name]
        key = RevokedKey(
            site=name,
            fingerprint=site.fingerprint,
            public_key=site.public_key,
            reason=reason,
            revoked=stamp(now),
        )
        changed = replace(self, revoked_keys=(*self.revoked_keys, key))
        return changed.with_site(name, replace(site, status=REVOKED))

    def owner_of(self, fingerprint: str) -> str | None:
        """Return the site that has or once had a key, or None."""
        used = [(one.fingerprint, name) for name, one in self.sites.items()]
        used += [(one.fingerprint, one.site) for one in self.revoked_keys]
        return next((name for found, name in used if found == fingerprint), None)


def stamp(moment: datetime) -> str:
    """Write a moment in UTC as ISO 8601 to the second, such as 2026-01-31T12:00:00Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def days_until(expires: str, now: datetime) -> int:
    """Return the whole days from now until a stamp; negative once it has passed."""
    return (datetime.fromisoformat(expires) - now).days


def state_text(state: ProvisionState) -> str:
    """Return the content of a state file, keys in kebab case."""
    content = _kebab({"version": VERSION, **asdict(state)})
    content["sites"] = {n: _kebab(asdict(site)) for n, site in state.sites.items()}
    return json.dumps(content, indent=2) + "\n"


def load_state(folder: Path) -> ProvisionState:
    """Read the state of a provision, or of the server's folder alone.

    Args:
        folder: That `endofed provision` has made, or `server` in it.

    Returns:
        The state.

    Raises:
        SettingsError: If the folder holds no state, or one that cannot be read.
    """
    path = folder / STATE_FILE
    if not os.path.isfile(path):  # also where it may not be looked at
        raise SettingsError(
            f"There is no provisioned federation in '{folder}': it holds no "
            f"{STATE_FILE}. Name a folder that `endofed provision` has made."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise ValueError
        return ProvisionState(
            name=content["name"],
            authority=_certificate(content["authority"]),
            server=_certificate(content["server"]),
            sites={n: SiteState(**_snake(s)) for n, s in content["sites"].items()},
            revoked_keys=tuple(
                RevokedKey(**_snake(one)) for one in content["revoked-keys"]
            ),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise SettingsError(
            f"The {STATE_FILE} of this provision is damaged or of another version of "
            "this program. Restore it from a backup."
        ) from None


def _certificate(content: dict[str, Any]) -> CertificateState:
    values = _snake(content)
    values["names"] = tuple(values["names"])
    return CertificateState(**values)


def _kebab(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {key.replace("_", "-"): _kebab(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_kebab(one) for one in value]
    return value


def _snake(content: dict[str, Any]) -> dict[str, Any]:
    return {key.replace("-", "_"): value for key, value in content.items()}
