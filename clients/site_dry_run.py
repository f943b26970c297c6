"""A dry run: what would leave this site in a round, found by doing it.

The handlers of the client app are called in this process, with the site's own file, its
own frames and a fresh model, for one step of everything; nothing is sent, logged or
counted. What they answer is what would leave: every tensor and every number by name.
Flower's private task identity is touched here because replies cannot be made without.
"""

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from clients.data.errors import DataError
from clients.hospital import Hospital
from clients.site_file import SiteFile
from clients.site_mods import DRY_RUN, SITE_FILE
from clients.site_rules import Request, check_request
from models.assembly import assemble_model
from models.classes import CLASS_NAMES
from strategies import messages
from strategies.replies import failure_reason
from strategies.settings import RunSettings, SettingValue
from strategies.wire import itemise

ONE_STEP = (
    "train.steps",
    "fedefm.warmup-steps",
    "fedefm.overseas-steps",
    "fedefm.proxy-steps",
    "rival.visit-steps",
)
"""Settings that say how long a phase trains; they change no shape of an answer."""
NEIGHBOUR = "neighbour"
"""Name of the stand-in for another site; its model is the fresh one."""
NODE = 1


class Leaving(NamedTuple):
    """One tensor or number that would leave."""

    message: str  # phase of the request that it answers
    record: str  # part of the answer, such as "arrays"
    key: str
    shape: tuple[int, ...]
    dtype: str
    num_bytes: int


def what_would_leave(
    site_file: Path, run_config: Mapping[str, SettingValue]
) -> list[Leaving]:
    """Find out what a round of a run would take from this site.

    Args:
        site_file: Path of site.toml.
        run_config: The complete, flat settings of the run.

    Returns:
        One row per tensor and number, in the order in which they would leave.

    Raises:
        SiteRefusal: If the site's own limits forbid the run.
        SettingsError: If the run's settings are wrong.
        DataError: If the site file or the frames cannot be used, or an answer fails.
    """
    site = SiteFile.read(site_file)
    settings = RunSettings.from_run_config(run_config)
    phase = messages.PHASE_NAMES[messages.TRAIN]
    check_request(site.name, site.limits, Request(phase, run_config, settings))
    short = {**run_config, **dict.fromkeys(ONE_STEP, 1)}
    node_config = {SITE_FILE: str(site_file.absolute()), DRY_RUN: True}
    context = Context(1, NODE, node_config, RecordDict(), short)
    rows: list[Leaving] = []
    for kind, content in _requests(context, RunSettings.from_run_config(short)):
        rows += _rows(messages.PHASE_NAMES[kind], _ask(context, kind, content))
    return rows


def _requests(
    context: Context, settings: RunSettings
) -> Iterator[tuple[str, RecordDict]]:
    """Yield what the centre would ask of this site, in a round of every kind."""
    yield messages.INTRODUCE, messages.pack_job(round_number=0)
    recipe = Hospital.from_node_config(context.node_config, settings).recipe
    fresh = assemble_model(recipe).trainable_state()
    arrays = messages.from_state(fresh, settings.wire)
    job = messages.pack_job(round_number=1, arrays=arrays)
    yield messages.TRAIN, job
    if settings.strategy == "fedefm":
        visitor = messages.pack_job(round_number=1, arrays=arrays, owner=NEIGHBOUR)
        yield messages.OVERSEAS, visitor
        tokens: dict[str, ArrayRecord] = {}
        if settings.fedefm.prototypes > 0:
            yield messages.PROTOTYPES, job
            tokens = {NEIGHBOUR: _stand_in_tokens(context, job)}
        lesson = messages.pack_job(
            round_number=1,
            arrays=arrays,
            teachers={NEIGHBOUR: arrays},
            prototypes=tokens,
            common=arrays if tokens else None,
            teaches={NEIGHBOUR: CLASS_NAMES},
        )
        is_proxy = settings.fedefm.teach_on == "proxy"
        yield messages.PROXY if is_proxy else messages.DISTIL, lesson
    for split in ("validation", "test"):
        yield (
            messages.EVALUATE,
            messages.pack_job(round_number=1, arrays=arrays, split=split),
        )


def _stand_in_tokens(context: Context, job: RecordDict) -> ArrayRecord:
    """Return this site's own tokens, in the place of a neighbour's."""
    reply = _ask(context, messages.PROTOTYPES, job)
    return reply.content.array_records[messages.ARRAYS]


def _ask(context: Context, kind: str, content: RecordDict) -> Message:
    from clients.app import app  # it imports all handlers

    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, NODE, 1
    request = Message(content, NODE, kind)
    request.metadata.__dict__["_message_id"] = uuid.uuid4().hex
    reply = app(request, context)
    if reply.has_error():
        reason = failure_reason(reply)
        raise DataError(f"The dry run failed ({messages.PHASE_NAMES[kind]}): {reason}")
    return reply


def _rows(phase: str, reply: Message) -> Iterator[Leaving]:
    content = reply.content
    for record, arrays in content.array_records.items():
        for item in itemise(arrays):
            yield Leaving(phase, record, *item)
    for record, values in (
        *content.metric_records.items(),
        *content.config_records.items(),
    ):
        for key, value in values.items():
            yield _number_row(phase, record, key, value)


def _number_row(phase: str, record: str, key: str, value: object) -> Leaving:
    many = value if isinstance(value, list) else [value]
    shape = (len(many),) if isinstance(value, list) else ()
    kind = type(many[0]).__name__ if many else "empty"
    size = sum(8 if isinstance(one, int | float) else len(str(one)) for one in many)
    return Leaving(phase, record, key, shape, kind, size)
