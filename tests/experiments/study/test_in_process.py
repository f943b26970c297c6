"""A grid without Flower's processes."""

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from experiments.in_process import APP_FAILED, InProcessGrid


@pytest.fixture
def grid() -> InProcessGrid:
    app = ClientApp()

    @app.query()
    def answer(message: Message, context: Context) -> Message:
        if context.node_config["partition-id"] == 1:
            raise ValueError("the second hospital fails")
        return Message(RecordDict(), reply_to=message)

    return InProcessGrid(app, {"seed": 7}, 2)


def test_every_node_knows_its_place_and_the_settings(grid: InProcessGrid) -> None:
    configs = [grid.contexts[node].node_config for node in grid.get_node_ids()]
    assert [one["partition-id"] for one in configs] == [0, 1]
    assert {one["num-partitions"] for one in configs} == {2}
    assert all(one.run_config == {"seed": 7} for one in grid.contexts.values())


def test_a_hospital_that_raises_answers_with_an_error(grid: InProcessGrid) -> None:
    asked = [Message(RecordDict(), node, "query") for node in grid.get_node_ids()]
    good, bad = grid.send_and_receive(asked)
    assert not good.has_error()
    assert bad.error.code == APP_FAILED
    assert bad.metadata.src_node_id == grid.get_node_ids()[1]


def test_a_reply_is_handed_over_once(grid: InProcessGrid) -> None:
    ids = grid.push_messages([Message(RecordDict(), grid.get_node_ids()[0], "query")])
    assert grid.pull_messages(["another"]) == []
    assert len(grid.pull_messages(ids)) == 1
    assert grid.pull_messages(ids) == []
