"""Code that a hospital did not approve is not even unpacked there.

Flower's own fetch and state run here, with a connection that is played: a version of
Flower that does it in another way fails these tests before it reaches a hospital.
"""

import hashlib
import io
import json
import logging
import zipfile
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.nodestate import NodeStateFactory

from experiments.deployment import fab_gate
from experiments.deployment.fab_gate import (
    AppGate,
    GateError,
    UnapprovedApp,
    only_approved_apps,
    require_known_flower,
)
from strategies import messages
from strategies.audit import verify
from strategies.replies import failure_reason
from tests.clients.site_kit import write_site_file

RUN = 77
PROJECT = """
[project]
name = "app"
version = "1.0.0"
[tool.flwr.app]
publisher = "test"
[tool.flwr.app.components]
serverapp = "server:app"
clientapp = "client:app"
[tool.flwr.app.config]
steps = 3
"""


def make_fab(text: str = PROJECT) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo("pyproject.toml"), text)  # of 1980
    return stream.getvalue()


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Centre:
    """Plays the connection to a SuperLink that asks the same thing of one node."""

    def __init__(self, content: bytes, *, claims: str = "") -> None:
        self.fab = Fab(claims or digest_of(content), content, {})
        self.confirmed: list[str] = []
        self.fetched = 0
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN, 0, 1

    def receive(self) -> tuple[Message, Any]:
        message = Message(messages.pack_job(round_number=1), 5, messages.INTRODUCE)
        message.metadata.__dict__["_run_id"] = RUN
        message.metadata.__dict__["_message_id"] = message.object_id
        with no_object_id_recompute():
            self.objects = {
                key: one.deflate()
                for key, one in get_all_nested_objects(message).items()
            }
            return message, get_object_tree(message)

    def get_run(self, run_id: int) -> Run:
        run = Run.create_empty(run_id)
        run.fab_hash = self.fab.hash_str
        run.fab_id, run.fab_version = "test/app", "1.0.0"
        return run

    def get_fab(self, fab_hash: str, run_id: int) -> Fab:
        self.fetched += 1
        return self.fab

    def pull_object(self, run_id: int, object_id: str) -> bytes:
        return self.objects[object_id]

    def confirm(self, run_id: int, message_id: str) -> None:
        self.confirmed.append(message_id)


class Node:
    """A SuperNode's state and its way of fetching, with the guards in place."""

    def __init__(self, centre: Centre) -> None:
        stores = ObjectStoreFactory()
        factory: NodeStateFactory = fab_gate.program.NodeStateFactory(
            objectstore_factory=stores
        )
        self.centre, self.state, self.store = centre, factory.state(), stores.store()
        self.state.set_node_id(5)

    def fetch(self) -> int | None:
        centre = self.centre
        return fab_gate.node._pull_and_store_message(
            state=self.state,
            object_store=self.store,
            node_config={},
            receive=centre.receive,
            get_run=centre.get_run,
            get_fab=centre.get_fab,
            pull_object=centre.pull_object,
            confirm_message_received=centre.confirm,
            trusted_entities=None,
        )

    def answers(self) -> list[Message]:
        return list(self.state.get_messages_legacy(is_reply=True))


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    return write_site_file(tmp_path, limits={"apps": [digest_of(make_fab())]})


def test_an_approved_app_is_kept_and_its_message_waits_for_it(site_file: Path) -> None:
    with only_approved_apps(AppGate(site_file)):
        node = Node(centre := Centre(make_fab()))
        assert node.fetch() == RUN
        kept = node.state.get_fab(digest_of(make_fab()))
    assert kept is not None
    assert kept.content == make_fab()
    assert len(centre.confirmed) == 1
    assert len(node.state.get_tasks()) == 1
    assert not node.answers()


@pytest.mark.parametrize("content", [b"not even a zip", make_fab(PROJECT + "x = 1")])
def test_an_app_that_was_not_approved_is_not_opened_kept_or_run(
    site_file: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with only_approved_apps(AppGate(site_file)), caplog.at_level(logging.WARNING):
        node = Node(centre := Centre(content))
        assert node.fetch() == RUN  # there is an answer to send, and the loop goes on
        [answer] = node.answers()
    reason = failure_reason(answer)
    assert "Site 'hillside' refuses" in reason
    assert digest_of(content) in reason
    assert digest_of(content) in caplog.text
    assert node.state.get_fab(digest_of(content)) is None
    assert node.state.get_run(RUN) is None
    assert not node.state.get_tasks()
    assert not centre.confirmed


def test_every_message_of_a_refused_run_is_refused(site_file: Path) -> None:
    with only_approved_apps(AppGate(site_file)):
        node = Node(centre := Centre(b"other"))
        for _ in range(3):
            node.fetch()
        assert len(node.answers()) >= 1
    assert centre.fetched == 3
    assert not node.state.get_tasks()


def test_a_digest_that_is_only_claimed_opens_nothing(site_file: Path) -> None:
    with only_approved_apps(AppGate(site_file)):
        node = Node(Centre(b"other code", claims=digest_of(make_fab())))
        node.fetch()
        [answer] = node.answers()
    assert digest_of(b"other code") in failure_reason(answer)
    assert node.state.get_fab(digest_of(make_fab())) is None


def test_a_refusal_is_in_the_sites_own_log(site_file: Path) -> None:
    with only_approved_apps(AppGate(site_file)):
        Node(Centre(b"other")).fetch()
    path = site_file.parent / "state" / "audit.jsonl"
    assert verify(path) == 2
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["direction"] for line in lines] == ["in", "out"]
    assert all(digest_of(b"other") in line["note"] for line in lines)
    assert {(line["run"], line["phase"]) for line in lines} == {(RUN, "introduce")}


def test_an_approval_needs_no_restart(site_file: Path) -> None:
    with only_approved_apps(AppGate(site_file)):
        node = Node(Centre(new := make_fab(PROJECT + "new = 1")))
        node.fetch()
        assert node.state.get_fab(digest_of(new)) is None
        write_site_file(site_file.parent, limits={"apps": [digest_of(new)]})
        node.fetch()
        assert node.state.get_fab(digest_of(new)) is not None


@pytest.mark.parametrize(
    ("limits", "is_kept"), [({"apps": []}, False), ({"apps": ["any"]}, True)]
)
def test_no_digest_means_no_app_and_any_means_every_app(
    tmp_path: Path, limits: dict[str, list[str]], is_kept: bool
) -> None:
    with only_approved_apps(AppGate(write_site_file(tmp_path, limits=limits))):
        node = Node(Centre(make_fab()))
        node.fetch()
    assert (node.state.get_fab(digest_of(make_fab())) is not None) == is_kept


def test_with_a_broken_site_file_no_app_runs(site_file: Path) -> None:
    site_file.write_text("[site")
    with only_approved_apps(AppGate(site_file)):
        node = Node(Centre(make_fab()))
        node.fetch()
        [answer] = node.answers()
    assert "runs no app" in failure_reason(answer)
    assert str(site_file.parent) not in failure_reason(answer)


def test_a_log_that_cannot_be_written_does_not_let_an_app_in(
    site_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (site_file.parent / "state").write_text("in the way")
    with only_approved_apps(AppGate(site_file)):
        node = Node(Centre(b"other"))
        node.fetch()
        assert node.answers()
    assert "could not be written into the audit log" in caplog.text
    assert not node.state.get_tasks()


def test_an_app_that_comes_on_another_way_is_not_kept_either(site_file: Path) -> None:
    with only_approved_apps(AppGate(site_file)):
        state = Node(Centre(b"")).state
        with pytest.raises(UnapprovedApp):
            state.store_fab(Fab("", b"other", {}))
        with pytest.raises(UnapprovedApp):
            state.store_app(Fab("", b"other", {}), "f", "test/app", "client", "x")
        assert state.store_fab(Fab("", make_fab(), {})) == digest_of(make_fab())


def test_flower_is_left_as_it_was(site_file: Path) -> None:
    before = fab_gate.node._pull_and_store_message, fab_gate.program.NodeStateFactory
    with pytest.raises(KeyError), only_approved_apps(AppGate(site_file)):
        assert fab_gate.program.NodeStateFactory is not before[1]
        raise KeyError
    after = fab_gate.node._pull_and_store_message, fab_gate.program.NodeStateFactory
    assert after == before


def test_the_installed_flower_is_the_one_that_the_gate_knows() -> None:
    require_known_flower()  # if not: read the gate's docstring before changing it


def _fetches_in_another_way(state: object, object_store: object) -> None:
    """Stand in for a later version of Flower."""


@pytest.mark.parametrize(
    ("owner", "name", "phrase"),
    [
        ("node", "_pull_and_store_message", "takes other arguments"),
        ("node", "start_client_internal", "does not use _pull_and_store_message"),
        ("program", "flower_supernode", "makes its state on another way"),
    ],
)
def test_nothing_starts_with_a_flower_that_the_gate_does_not_know(
    site_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: str,
    name: str,
    phrase: str,
) -> None:
    monkeypatch.setattr(getattr(fab_gate, owner), name, _fetches_in_another_way)
    with pytest.raises(GateError, match=phrase), only_approved_apps(AppGate(site_file)):
        pytest.fail("the guards do not fit")


def test_an_answer_without_content_is_all_that_a_refusal_sends(site_file: Path) -> None:
    with only_approved_apps(AppGate(site_file)):
        node = Node(Centre(b"other"))
        node.fetch()
        [answer] = node.answers()
    assert answer.has_error()
    assert not answer.has_content()
