"""What a server holds while many silos send large models.

    endofed benchmark folding --silos 2,4,8 --parameters 90

Every case is a process of its own, in which real strategies talk to silos that exist
only as answers: a reply is made when it is read, as replies wait in Flower's SuperLink
and not in the server's app. What is measured is therefore the server's app alone.
"""

import json
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import torch
from flwr.app import Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from torch import Tensor

from experiments.benchmarks.peak_memory import peak_mib
from experiments.run_config import default_run_config
from server.attendance import Site
from server.exchange import AttendedGrid
from server.journal import Journal
from server.recorder import RoundRecorder
from server.tracking import open_tracker
from strategies import messages
from strategies.audit import AuditLog
from strategies.fedefm import FedEFM
from strategies.replies import error_reply, pack_reply
from strategies.settings import RunSettings
from strategies.wire import unbundle

METHODS = ("flower-fedavg", "fedefm-no-teachers", "fedefm-ring")
TENSORS = 90


@dataclass(frozen=True)
class Held:
    """What one case needed."""

    method: str
    silos: int
    model_mib: float
    peak_mib: float  # above what was held before the round

    @property
    def models(self) -> float:
        """The peak in models."""
        return self.peak_mib / self.model_mib


def measure(method: str, silos: int, parameters: int) -> Held:
    """Measure one case in a process of its own.

    Args:
        method: One of `METHODS`.
        silos: How many send their model.
        parameters: Of the model.

    Returns:
        What the server's app held.

    Raises:
        RuntimeError: If the process failed.
    """
    ended = subprocess.run(
        [sys.executable, "-m", __name__, method, str(silos), str(parameters)],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(
            f"{method} with {silos} silos failed, perhaps for want of memory "
            f"(exit code {ended.returncode}). Take fewer --parameters."
        )
    return Held(**json.loads(ended.stdout.splitlines()[-1]))


class ImaginarySilos(Grid):
    """Answers every request with a model made at the moment of reading."""

    def __init__(
        self, model: Mapping[str, Tensor], silos: int, *, is_plain: bool = False
    ) -> None:
        """Imagine silos with node ids from 1.

        Args:
            model: What an answer is made from.
            silos: How many.
            is_plain: Whether every tensor travels alone, as Flower's own average of
                unwatched answers needs it.
        """
        self._model, self._is_plain = dict(model), is_plain
        self._silos = silos
        self._asked: dict[str, tuple[int, str, str]] = {}

    def get_node_ids(self) -> list[int]:
        """Return the silos' nodes."""
        return list(range(1, self._silos + 1))

    def push_messages(self, requests: Iterable[Message]) -> list[str]:
        """Forget what was sent but for who has to answer."""
        found = []
        for message in requests:
            key = uuid.uuid4().hex
            self._asked[key] = (
                message.metadata.dst_node_id,
                message.metadata.message_type,
                messages.unpack_owner(message),
            )
            found.append(key)
        return found

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Make the answers."""
        return [self._answer(*self._asked.pop(key)) for key in message_ids]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Do what Flower's grid does: wait for all, return all."""
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, node: int, message_type: str, owner: str) -> Message:
        request = Message(messages.pack_job(round_number=0), node, message_type)
        if message_type == messages.EVALUATE:
            return error_reply(request, "imaginary silos measure nothing")
        state = {name: tensor + node for name, tensor in self._model.items()}
        content = pack_reply(
            f"silo-{node}",
            {messages.NUM_EXAMPLES: 1, messages.LOSS: 0.0},
            state=state,
            owner=owner,
        )
        if self._is_plain:
            content[messages.ARRAYS] = unbundle(content.array_records[messages.ARRAYS])
        return Message(content, reply_to=request)

    def set_run(self, run: Run) -> None:
        """Not needed."""

    @property
    def run(self) -> Run:
        """Not needed."""
        raise NotImplementedError

    def create_message(self, *_: object, **__: object) -> Message:
        """Not needed."""
        raise NotImplementedError


def _main(method: str, silos: int, parameters: int) -> Held:
    # What a SuperLink tells its app, of which there is none here.
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 1
    shape = (max(parameters // TENSORS, 1),)
    model = {f"layer-{i}": torch.full(shape, i / TENSORS) for i in range(TENSORS)}
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.values())
    initial = messages.from_state(model)
    grid = ImaginarySilos(model, silos, is_plain=method == "flower-fedavg")
    if method == "flower-fedavg":
        strategy = FedAvg(
            fraction_evaluate=0.0,
            min_train_nodes=silos,
            min_available_nodes=silos,
            weighted_by_key=messages.NUM_EXAMPLES,
        )

        def run() -> None:
            strategy.start(grid, initial, num_rounds=1)

    else:
        run = _fedefm_round(method, grid, model)
    peak = peak_mib(run, torch.device("cpu"), is_exact=False)
    return Held(method, silos, size / 2**20, peak)


def _fedefm_round(
    method: str, grid: ImaginarySilos, model: Mapping[str, Tensor]
) -> Callable[[], None]:
    teachers = "none" if method == "fedefm-no-teachers" else "overseas"
    config = {**default_run_config(), "fedefm.teachers": teachers, "mlflow": False}
    settings = RunSettings.from_run_config(config)
    folder = tempfile.TemporaryDirectory()
    journal = Journal.create(str(Path(folder.name) / "run"), config, datetime.now())
    sites = [Site(f"silo-{node}", node, {}) for node in grid.get_node_ids()]
    names = [site.name for site in sites]
    tracker = open_tracker(False, journal, config, names)
    attended = AttendedGrid(
        grid,
        sites,
        min_sites=0,
        timeout_s=1,
        expected=model,
        observer=RoundRecorder(journal, tracker, AuditLog(journal.folder / "audit")),
    )
    strategy = FedEFM(settings.fedefm, attended.roster)
    initial = messages.from_state(model)

    def run() -> None:
        with folder:
            strategy.start(attended, initial, num_rounds=1)

    return run


if __name__ == "__main__":
    sys.stdout.write(
        json.dumps(asdict(_main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
        + "\n"
    )
