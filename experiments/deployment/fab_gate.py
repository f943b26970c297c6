"""Lets no app run at a hospital that the hospital did not approve by its digest.

Flower's SuperNode fetches the app of a run (a FAB, a zip of code) from the centre,
keeps it in memory, and a program of its own installs and runs it for every message.
Here the SHA-256 of the *content* is compared with the digests in site.toml before the
SuperNode has looked into the zip: an app that is not among them is neither kept, nor
unpacked, nor installed, nor run. The centre gets an answer that names site and digest,
and the SuperNode lives on.

Flower has `--trusted-entities` for signed apps, but it refuses every app unless the
SuperLink sends a `valid_license` flag, which an open-source one cannot (flwr 1.41,
`flwr/supernode/start_client_internal.py`). So open federations need their own gate.

Two guards stand in Flower's way, both through private names, which this module alone
touches and `require_known_flower` checks before anything starts:

- the fetch (`_pull_and_store_message`): refuses with an answer;
- the store (`NodeState.store_fab`): nothing else can be run by the SuperNode, so if a
  version of Flower fetched apps on another way, they would still be refused.

An approval is asked once a run, at its first message, from the file as it is then.
"""

import contextlib
import hashlib
import importlib
import inspect
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flwr.app import Message
from flwr.supercore.fab import Fab
from flwr.supernode.nodestate import NodeState, NodeStateFactory
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState

from clients.data.errors import DataError
from clients.site_audit import SiteAudit
from clients.site_file import SiteFile
from strategies.audit import AuditEntry, AuditError
from strategies.messages import PHASE_NAMES
from strategies.replies import error_reply

log = logging.getLogger(__name__)

# By their names: Flower's packages show functions of the same names in their place.
node: Any = importlib.import_module("flwr.supernode.start_client_internal")
program: Any = importlib.import_module("flwr.supernode.cli.flower_supernode")

WANTED_PARTS = {"state", "object_store", "receive", "get_fab"}
"""Arguments of Flower's fetch that the gate replaces or uses."""


class GateError(RuntimeError):
    """Flower is not the one that this gate knows, so no SuperNode may start."""


class UnapprovedApp(Exception):
    """An app came that the site did not approve; the text is safe to show anyone."""


class AppGate:
    """Knows which apps a site approved.

    Args:
        site_file: Path of site.toml; read again for every run, so that an approval
            needs no restart.
    """

    def __init__(self, site_file: Path) -> None:
        """Guard a site."""
        self._site_file = site_file

    def check(self, content: bytes) -> None:
        """Refuse an app that was not approved.

        Args:
            content: All bytes of the FAB as they came.

        Raises:
            UnapprovedApp: Naming site and digest; also if site.toml cannot be read.
        """
        digest = hashlib.sha256(content).hexdigest()
        try:
            site = SiteFile.read(self._site_file)
        except DataError as error:
            raise UnapprovedApp(
                f"A site runs no app, also not {digest}: {error}"
            ) from None
        if not site.limits.approves(digest):
            raise UnapprovedApp(
                f"Site '{site.name}' refuses: apps allows "
                f"{len(site.limits.apps) or 'no'} approved app(s), not the one with "
                f"SHA-256 {digest}. A site approves an app by writing its digest into "
                "[limits] apps of site.toml."
            )

    def note(self, message: Message, reason: str) -> None:
        """Write a refusal into the site's audit log, as well as that goes."""
        group, kind = message.metadata.group_id, message.metadata.message_type
        try:
            site = SiteFile.read(self._site_file)
            audit = SiteAudit(site.machine.state)
            for direction in ("in", "out"):
                audit.record(
                    AuditEntry(
                        round=int(group) if group.isdecimal() else 0,
                        phase=PHASE_NAMES.get(kind, kind),
                        site=site.name,
                        direction="in" if direction == "in" else "out",
                        num_bytes=0,
                        num_tensors=0,
                        note=reason,
                        run=message.metadata.run_id,
                    )
                )
        except (DataError, AuditError) as error:  # refused all the same
            log.error("A refusal could not be written into the audit log: %s", error)


@contextlib.contextmanager
def only_approved_apps(gate: AppGate) -> Iterator[None]:
    """Put both guards in Flower's way for as long as a SuperNode runs.

    Args:
        gate: Of the site.

    Yields:
        Nothing.

    Raises:
        GateError: If Flower is not as the guards know it.
    """
    require_known_flower()
    fetch, factory = node._pull_and_store_message, program.NodeStateFactory

    def guarded_fetch(**parts: Any) -> int | None:  # noqa: ANN401 - Flower's
        return fetch_approved(gate, fetch, parts)

    def guarded_factory(**parts: Any) -> NodeStateFactory:  # noqa: ANN401
        return _GuardedStateFactory(gate, **parts)

    node._pull_and_store_message = guarded_fetch
    program.NodeStateFactory = guarded_factory
    try:
        yield
    finally:
        node._pull_and_store_message = fetch
        program.NodeStateFactory = factory


def fetch_approved(
    gate: AppGate, fetch: Callable[..., int | None], parts: dict[str, Any]
) -> int | None:
    """Do what Flower's fetch does, and answer in its place if the app is refused.

    Args:
        gate: Of the site.
        fetch: Flower's `_pull_and_store_message`.
        parts: Its arguments by name.

    Returns:
        What Flower's loop expects: the id of the run if there is an answer to send.
    """
    came: list[Message] = []

    def receive() -> Any:  # noqa: ANN401 - Flower's
        found = parts["receive"]()
        if found is not None:
            came.append(found[0])
        return found

    def get_fab(fab_hash: str, run_id: int) -> Fab:
        fab = parts["get_fab"](fab_hash, run_id)
        gate.check(fab.content)
        return fab

    try:
        return fetch(**{**parts, "receive": receive, "get_fab": get_fab})
    except UnapprovedApp as refusal:
        reason = str(refusal)
    message = came[-1]
    log.warning("Refused an app: %s", reason)
    gate.note(message, reason)
    node._insert_message(
        error_reply(message, reason), parts["state"], parts["object_store"]
    )
    return int(message.metadata.run_id)


class _GuardedState(InMemoryNodeState):
    """Keeps no app that was not approved."""

    gate: AppGate

    def store_fab(self, fab: Fab) -> str:
        """Keep an app, if it is approved."""
        self.gate.check(fab.content)
        return super().store_fab(fab)

    def store_app(self, fab: Fab, *args: Any, **kwargs: Any) -> str:  # noqa: ANN401
        """Keep an app, if it is approved."""
        self.gate.check(fab.content)
        return super().store_app(fab, *args, **kwargs)


class _GuardedStateFactory(NodeStateFactory):
    """Makes the one state of a SuperNode, guarded."""

    def __init__(self, gate: AppGate, **parts: Any) -> None:  # noqa: ANN401
        super().__init__(**parts)
        self._gate = gate

    def state(self) -> NodeState:
        """Return the state; make it the first time."""
        with self.lock:
            if self.state_instance is None:
                state = _GuardedState(self.objectstore_factory.store())
                state.gate = self._gate
                self.state_instance = state
            return self.state_instance


def require_known_flower() -> None:
    """Compare Flower with what the guards rely on.

    Raises:
        GateError: Naming what is different; the gate must be looked at before any
            SuperNode of this version starts.
    """
    wrong = []
    fetch = getattr(node, "_pull_and_store_message", None)
    if fetch is None or not WANTED_PARTS <= set(inspect.signature(fetch).parameters):
        wrong.append("_pull_and_store_message takes other arguments")
    elif "get_fab(run_info.fab_hash, run_id)" not in inspect.getsource(fetch):
        wrong.append("_pull_and_store_message fetches apps on another way")
    if "_pull_and_store_message(" not in inspect.getsource(node.start_client_internal):
        wrong.append("start_client_internal does not use _pull_and_store_message")
    if not hasattr(node, "_insert_message"):
        wrong.append("_insert_message is gone")
    if "NodeStateFactory(objectstore_factory=" not in inspect.getsource(
        program.flower_supernode
    ):
        wrong.append("flower_supernode makes its state on another way")
    stores = {name for name in dir(InMemoryNodeState) if name.startswith("store_")}
    if not {"store_fab", "store_app"} <= stores:
        wrong.append("apps are stored under another name")
    if wrong:
        raise GateError(
            "This version of Flower is not the one that the gate for approved apps "
            f"knows: {'; '.join(wrong)}. Install the version in constraints.txt."
        )
