"""Stands between Flower and every handler of a deployed hospital.

Whatever comes in and goes out is written to the site's audit log, and what is against
the site's limits is refused before a handler sees it. A hospital of a simulation has no
site file and is left alone.
"""

import logging
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable

from clients.containment import describe
from clients.site_audit import SiteAudit
from clients.site_file import SiteFile
from clients.site_rules import Request, SiteRefusal, check_request
from strategies import messages
from strategies.audit import AuditEntry
from strategies.contents import Contents
from strategies.settings import RunSettings, SettingsError

log = logging.getLogger(__name__)

SITE_FILE = "site-file"
"""Key of the node config: absolute path of a deployed hospital's site.toml."""
DRY_RUN = "dry-run"
"""Key of the node config: nothing leaves, so nothing is logged or counted."""


def keep_site_rules(
    message: Message, context: Context, call_next: ClientAppCallable
) -> Message:
    """Log a request and its answer, and refuse what the site does not allow.

    A Flower mod; stands inside `contain_failures`, which turns what it raises into an
    answer that the centre logs by the site's name.

    Args:
        message: The request.
        context: The node's context.
        call_next: The handler.

    Returns:
        The handler's reply.

    Raises:
        SiteRefusal: If the request is against the limits of the site.
        AuditError: If somebody changed the audit log; then nothing is answered.
        DataError: If the site file or the audit log cannot be used.
    """
    path = context.node_config.get(SITE_FILE)
    if not path or context.node_config.get(DRY_RUN):
        return call_next(message, context)
    site = SiteFile.read(Path(str(path)))
    visit = _Visit(message, context, site)
    refusal = visit.find_refusal()
    visit.record("in", message.content, "" if refusal is None else describe(refusal))
    try:
        if refusal is not None:
            raise refusal
        reply = call_next(message, context)
    except Exception as error:
        log.warning("Refused, or failed: %s", describe(error))
        visit.record("out", RecordDict(), describe(error))
        raise
    visit.record("out", reply.content)
    return reply


class _Visit:
    """One request at a site, from its arrival to the answer."""

    def __init__(self, message: Message, context: Context, site: SiteFile) -> None:
        self._site = site
        self._audit = SiteAudit(site.machine.state)
        self._context = context
        self._round = messages.unpack_round(message)
        kind = message.metadata.message_type
        self._phase = messages.PHASE_NAMES.get(kind, kind)

    def find_refusal(self) -> Exception | None:
        """Return what the request is to be refused for, if anything."""
        run_config, own = self._context.run_config, (self._context.run_id, self._round)
        before = self._audit.rounds_today(besides=own)
        try:
            settings = RunSettings.from_run_config(run_config)
            request = Request(self._phase, run_config, settings, before)
            check_request(self._site.name, self._site.limits, request)
        except (SettingsError, SiteRefusal) as refusal:
            return refusal
        return None

    def record(self, direction: str, content: RecordDict, note: str = "") -> None:
        """Log what came or is about to leave, before anything else happens."""
        contents = Contents.of(content)
        self._audit.record(
            AuditEntry(
                round=self._round,
                phase=self._phase,
                site=self._site.name,
                direction="in" if direction == "in" else "out",
                num_bytes=contents.num_bytes,
                num_tensors=contents.num_tensors,
                digest=contents.digest,
                note=note,
                run=self._context.run_id,
            )
        )
