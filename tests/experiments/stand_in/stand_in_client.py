"""A hospital without data: it answers, raises or never answers."""

import time

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.query()
def answer(message: Message, context: Context) -> Message:
    """Answer with the number of this site, as the run's behaviour wants it."""
    partition = int(context.node_config["partition-id"])
    behaviour = context.run_config["behaviour"]
    if behaviour == "client-hangs":
        time.sleep(3600)
    if behaviour == "client-raises" and partition == 1:
        raise RuntimeError("this site has no frames")
    return Message(
        RecordDict({"metrics": MetricRecord({"partition": partition})}),
        reply_to=message,
    )
