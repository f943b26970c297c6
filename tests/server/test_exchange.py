"""What the server does when hospitals answer well, badly, or not at all."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp

from server.attendance import Site, TooFewSites, introduce
from server.exchange import AttendedGrid, Exchange
from strategies import messages
from strategies.replies import error_reply, pack_reply
from tests.federation import Fault, InProcessGrid

WEIGHTS = {"layer": torch.tensor([1.0, 2.0])}
NAMES = ("alpha", "beta", "gamma")


def make_app(
    change: Callable[[dict], dict] = dict, name: str | None = None
) -> ClientApp:
    """Hospitals that add one to what they receive."""
    app = ClientApp()

    def site_of(context: Context) -> str:
        return name or NAMES[int(context.node_config["partition-id"])]

    @app.query()
    def query(message: Message, context: Context) -> Message:
        facts = {"num-sites": 3, "frames-train": 5}
        content = pack_reply(site_of(context), {}, facts=facts)
        return Message(content, reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        job = messages.unpack_job(message)
        state = change({name: tensor + 1 for name, tensor in job.weights.items()})
        content = pack_reply(
            site_of(context), {"num-examples": 1}, state=state, owner=job.owner
        )
        return Message(content, reply_to=message)

    return app


class Observed:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.phases: list[Exchange] = []
        self.events: list[str] = []

    def phase_began(self, exchange: Exchange) -> None:
        self.events.append("began")

    def reply_arrived(self, exchange: Exchange, site: str, reply: Message) -> None:
        self.events.append(site)

    def phase_ended(self, exchange: Exchange) -> None:
        self.events.append("ended")
        self.phases.append(exchange)


@dataclasses.dataclass
class Server:
    grid: AttendedGrid
    seen: list[Exchange]
    observer: Observed

    def ask_all(self) -> list[Message]:
        content = messages.pack_job(round_number=4, arrays=messages.from_state(WEIGHTS))
        # Backwards, because the order of asking must not matter.
        nodes = reversed(self.grid.get_node_ids())
        return self.grid.send_and_receive(
            [Message(content, node, messages.TRAIN) for node in nodes]
        )


def make_server(
    app: ClientApp,
    *,
    min_sites: int = 3,
    faults: dict[int, Fault] | None = None,
    wire: str = "float32",
) -> Server:
    inner = InProcessGrid(app, {}, 3)
    sites = introduce(inner, min_sites=0, timeout_s=1)
    inner.faults = dict(faults or {})
    observer = Observed()
    grid = AttendedGrid(
        inner,
        sites,
        min_sites=min_sites,
        timeout_s=0.3,
        expected=WEIGHTS,
        observer=observer,
        wire=wire,
    )
    return Server(grid, observer.phases, observer)


def test_hospitals_introduce_themselves_in_sorted_order() -> None:
    sites = introduce(InProcessGrid(make_app(), {}, 3), min_sites=0, timeout_s=1)
    assert [site.name for site in sites] == list(NAMES)
    assert sites[0] == Site("alpha", 1000, {"num-sites": 3, "frames-train": 5})


def test_a_missing_hospital_stops_the_run_before_it_starts() -> None:
    grid = InProcessGrid(make_app(), {}, 2)  # the sites file says three
    with pytest.raises(TooFewSites, match="2 of at least 3 hospitals"):
        introduce(grid, min_sites=0, timeout_s=0.3)


def test_a_run_may_start_with_fewer_when_the_user_said_so() -> None:
    grid = InProcessGrid(make_app(), {}, 2)
    assert len(introduce(grid, min_sites=2, timeout_s=0.3)) == 2


def test_nobody_at_all_is_an_error_after_a_bounded_wait() -> None:
    with pytest.raises(TooFewSites, match="0 of at least 1 hospitals"):
        introduce(InProcessGrid(make_app(), {}, 0), min_sites=0, timeout_s=0.2)


def test_the_reason_of_a_hospital_that_cannot_take_part_is_passed_on() -> None:
    def fault(message: Message) -> Message:
        return error_reply(message, "Hospital 'beta': the data is gone.")

    grid = InProcessGrid(make_app(), {}, 3, faults={1: fault})
    with pytest.raises(TooFewSites, match="Hospital 'beta': the data is gone"):
        introduce(grid, min_sites=0, timeout_s=0.3)


def test_two_hospitals_of_one_name_are_refused() -> None:
    grid = InProcessGrid(make_app(name="twin"), {}, 3)
    with pytest.raises(TooFewSites, match="call themselves 'twin'"):
        introduce(grid, min_sites=0, timeout_s=0.3)


def test_replies_come_in_sorted_order_and_are_counted() -> None:
    server = make_server(make_app())
    replies = server.ask_all()
    assert [server.grid.name_of(reply) for reply in replies] == list(NAMES)
    state = messages.to_state(replies[0].content.array_records[messages.ARRAYS])
    assert state["layer"].tolist() == [2, 3]
    (exchange,) = server.seen
    assert (exchange.phase, exchange.round_number) == ("local", 4)
    assert exchange.replied == list(NAMES)
    assert exchange.failed == {}
    assert exchange.bytes_up == exchange.bytes_down > 3 * 8  # two float32 and a header


def silent(message: Message) -> None:
    return None


def raising(message: Message) -> Message:
    return Message(
        Error(code=2, reason="cannot open /patients/DOE^JANE.dcm"), reply_to=message
    )


def impostor(message: Message) -> Message:
    reply = pack_reply("beta", {}, state=WEIGHTS, owner="somebody else")
    return Message(reply, reply_to=message)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (silent, "no answer within 0 s"),
        (raising, r"the site's app or node failed \(Flower error code 2\)"),
        (impostor, "the answer carries another silo's model"),
    ],
)
def test_a_hospital_that_fails_is_named_and_the_others_go_on(
    fault: Fault, reason: str
) -> None:
    server = make_server(make_app(), min_sites=2, faults={1: fault})
    replies = server.ask_all()
    assert [server.grid.name_of(reply) for reply in replies] == ["alpha", "gamma"]
    assert server.seen[0].replied == ["alpha", "gamma"]
    assert list(server.seen[0].failed) == ["beta"]
    with pytest.raises(TooFewSites, match=f"Only 2 of 3 .*at least 3 .*beta: {reason}"):
        make_server(make_app(), faults={1: fault}).ask_all()


def test_the_text_of_an_unknown_exception_never_gets_into_the_record(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = make_server(make_app(), min_sites=2, faults={1: raising})
    server.ask_all()
    assert "DOE" not in str(server.seen[0].failed) + caplog.text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: {"other": s["layer"]}, "other"),
        (lambda s: {"layer": torch.zeros(3)}, "layer"),
        (lambda s: {"layer": s["layer"].double()}, "layer"),
        (lambda s: {"layer": s["layer"] * float("nan")}, "layer"),
        (lambda s: {"layer": s["layer"] * 1e9}, "norm"),
    ],
    ids=["name", "shape", "dtype", "nan", "norm"],
)
def test_weights_that_cannot_be_right_are_refused(
    change: Callable[[dict], dict], words: str
) -> None:
    with pytest.raises(TooFewSites, match=f"Only 0 of 3 .*at least 3 .*{words}"):
        make_server(make_app(change)).ask_all()


def test_replies_are_handed_over_one_by_one_and_told_before() -> None:
    server = make_server(make_app(), faults={2: silent}, min_sites=2)
    content = messages.pack_job(round_number=4, arrays=messages.from_state(WEIGHTS))
    seen = []
    for reply in server.grid.stream(
        Message(content, node, messages.TRAIN) for node in server.grid.get_node_ids()
    ):
        seen.append((server.grid.name_of(reply), list(server.observer.events)))
    assert seen == [
        ("alpha", ["began", "alpha"]),
        ("beta", ["began", "alpha", "beta"]),
    ]
    assert server.observer.events[-1] == "ended"
    assert list(server.seen[0].failed) == ["gamma"]


@pytest.mark.parametrize("wire", ["bfloat16", "float16"])
def test_a_narrow_wire_carries_half_and_strategies_see_float32(wire: str) -> None:
    third = {"layer": torch.full((400,), 1 / 3)}
    sizes = {}
    for kind in ("float32", wire):
        server = make_server(make_app(), wire=kind)
        server.grid._expected = third
        content = messages.pack_job(round_number=4, arrays=messages.from_state(third))
        nodes = server.grid.get_node_ids()
        replies = server.grid.send_and_receive(
            [Message(content, node, messages.TRAIN) for node in nodes]
        )
        sizes[kind] = server.seen[0].bytes_down
        array = replies[0].content.array_records[messages.ARRAYS]["layer"]
        assert array.numpy().dtype == "float32"
    exact = torch.full((400,), 1 / 3).to(getattr(torch, wire)).float() + 1
    # The stand-in answers in float32, so only the way down is rounded here.
    assert torch.equal(torch.from_numpy(array.numpy().copy()), exact)
    assert sizes[wire] < 0.62 * sizes["float32"]
