"""What travels between server and hospital: every key, type and packing is here.

A message holds at most: the weights of one model, the weights of teachers, a small
config and numbers. Nothing else can be packed, so nothing else can leave a hospital.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Message,
    RecordDict,
)
from torch import Tensor

from strategies.accumulation import State
from strategies.wire import decode, encode

# Message types. `train` alone is what Flower's own strategies send.
TRAIN = "train"
OVERSEAS = "train.overseas"
DISTIL = "train.distil"
PROXY = "train.proxy"
PROTOTYPES = "query.prototypes"
EVALUATE = "evaluate"
INTRODUCE = "query"

PHASE_NAMES: dict[str, str] = {
    TRAIN: "local",
    OVERSEAS: "overseas",
    DISTIL: "distil",
    PROXY: "proxy",
    PROTOTYPES: "prototypes",
    EVALUATE: "evaluate",
    INTRODUCE: "introduce",
}
"""What a person reads for each message type."""

# Record names. The first two are the defaults of Flower's strategies.
ARRAYS = "arrays"
CONFIG = "config"
METRICS = "metrics"
TEACHER = "teacher:"  # followed by the teacher's name
PROTOTYPE = "prototypes:"  # followed by the name of the site they stand for
AID = "aid:"  # followed by what it is: what a rival's local steps need, or report
COMMON = "common"  # the accumulated model, where it is not what is trained
TOKENS = "tokens"  # the one array of prototypes, (count, dim)

# Keys of the config.
SERVER_ROUND = "server-round"  # written by Flower's strategies, too
OWNER = "owner"  # whose model it is, when not the receiver's own
SPLIT = "split"  # which frames to evaluate on
SITE = "site"
TEACHES = "teaches:"  # followed by the teacher's name: classes that its silo annotates

# Keys of the metrics.
NUM_EXAMPLES = "num-examples"  # Flower weighs its averages by this
LOSS = "loss"
SCORE = "score:"  # followed by the teacher's name
WEIGHT = "weight:"  # followed by the teacher's name
GAP = "gap:"  # followed by the teacher's name
TEACHER_LOSS = "teacher-loss:"  # followed by the teacher's name

WIRE_ERROR = "wire-error"  # relative L2 norm of the rounding of sent weights


@dataclass(frozen=True)
class Job:
    """What a hospital is asked to do."""

    round_number: int
    owner: str  # "" = the receiver's own model or the global one
    split: str  # "train", "validation" or "test"
    weights: State | None
    teachers: dict[str, State]  # by the host's name, sorted
    prototypes: dict[str, Tensor] = field(default_factory=dict)  # tokens by site
    common: State | None = None  # the accumulated model
    aids: dict[str, State] = field(default_factory=dict)  # of a rival, by what it is
    teaches: dict[str, tuple[str, ...]] = field(default_factory=dict)  # see `pack_job`


def pack_job(
    *,
    round_number: int,
    arrays: ArrayRecord | None = None,
    owner: str = "",
    split: str = "train",
    teachers: Mapping[str, ArrayRecord] | None = None,
    prototypes: Mapping[str, ArrayRecord] | None = None,
    common: ArrayRecord | None = None,
    aids: Mapping[str, ArrayRecord] | None = None,
    teaches: Mapping[str, Sequence[str]] | None = None,
) -> RecordDict:
    """Pack a job for one hospital; the reverse of `unpack_job`.

    Args:
        round_number: 0 is the local warm-up.
        arrays: The weights to start from, if any.
        owner: Whose model it is, if it is a visitor's.
        split: Which of the hospital's frames to use.
        teachers: Weights that came back from overseas, by the host's name.
        prototypes: Tokens that stand for sites, by their names.
        common: The accumulated model, where scores are computed through it.
        aids: What the local steps of a rival need beside the weights.
        teaches: Classes that a teacher is asked about, by its name; where they matter.

    Returns:
        The content of the message.
    """
    content = RecordDict()
    if arrays is not None:
        content[ARRAYS] = arrays
    content[CONFIG] = ConfigRecord(
        {
            SERVER_ROUND: round_number,
            OWNER: owner,
            SPLIT: split,
            **{TEACHES + name: list(one) for name, one in (teaches or {}).items()},
        }
    )
    for name, record in sorted((teachers or {}).items()):
        content[TEACHER + name] = record
    for name, record in sorted((prototypes or {}).items()):
        content[PROTOTYPE + name] = record
    if common is not None:
        content[COMMON] = common
    for name, record in sorted((aids or {}).items()):
        content[AID + name] = record
    return content


def unpack_job(message: Message) -> Job:
    """Read what the server asks for, also when one of Flower's strategies asks.

    Args:
        message: A request of any of the types above.

    Returns:
        The job. Weights are not checked here; the receiver knows its model.
    """
    content = message.content
    arrays = content.array_records.get(ARRAYS)
    return Job(
        round_number=unpack_round(message),
        owner=unpack_owner(message),
        split=unpack_split(message),
        weights=None if arrays is None else to_state(arrays),
        teachers=_named_states(content, TEACHER),
        prototypes={
            site: state[TOKENS]
            for site, state in _named_states(content, PROTOTYPE).items()
        },
        common=(
            to_state(content.array_records[COMMON])
            if COMMON in content.array_records
            else None
        ),
        aids=_named_states(content, AID),
        teaches={
            name.removeprefix(TEACHES): tuple(map(str, cast("list[str]", classes)))
            for name, classes in sorted(_config(message).items())
            if name.startswith(TEACHES)
        },
    )


def unpack_round(message: Message) -> int:
    """Return the round a request belongs to."""
    return int(str(_config(message).get(SERVER_ROUND, 0)))


def unpack_owner(message: Message) -> str:
    """Return whose model a request carries, "" for the receiver's own."""
    return str(_config(message).get(OWNER, ""))


def unpack_split(message: Message) -> str:
    """Return which frames a request wants to be measured."""
    return str(_config(message).get(SPLIT, "validation"))


def from_state(state: Mapping[str, Tensor], wire: str = "float32") -> ArrayRecord:
    """Turn named tensors into a record, see `strategies.wire.encode`."""
    return encode(state, wire)


def to_state(record: ArrayRecord) -> State:
    """Turn a record into named tensors, see `strategies.wire.decode`."""
    return decode(record)


def _named_states(content: RecordDict, prefix: str) -> dict[str, State]:
    return {
        name.removeprefix(prefix): to_state(record)
        for name, record in sorted(content.array_records.items())
        if name.startswith(prefix)
    }


def _config(message: Message) -> ConfigRecord:
    return message.content.config_records.get(CONFIG, ConfigRecord())
