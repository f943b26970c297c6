import pytest
import torch
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from clients.containment import contain_failures
from clients.data.errors import DataError
from strategies import messages
from strategies.replies import failure_reason


def ask(error: Exception) -> Message:
    """Send a request to a hospital whose handler raises."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 7, 1
    request = Message(messages.pack_job(round_number=1), 7, messages.TRAIN)
    context = Context(1, 7, {}, RecordDict(), {})

    def handler(message: Message, context: Context) -> Message:
        raise error

    return contain_failures(request, context, handler)


def test_an_error_of_our_own_passes_word_for_word() -> None:
    reply = ask(DataError("Hospital 'x' has 2 sequences, need 3."))
    assert failure_reason(reply) == "Hospital 'x' has 2 sequences, need 3."


def test_the_text_of_any_other_error_stays_at_the_site(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reply = ask(OSError("cannot open /archive/DOE^JANE/001.dcm"))
    reason = failure_reason(reply)
    assert reason.startswith("Unexpected OSError in test_containment.py:")
    assert "DOE" not in reason + caplog.text
    assert "archive" not in reason + caplog.text


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError()])
def test_too_little_memory_comes_with_advice(error: Exception) -> None:
    assert "Lower train.batch-size" in failure_reason(ask(error))


def test_a_stopped_process_is_not_kept_alive() -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(KeyboardInterrupt())  # type: ignore[arg-type]
