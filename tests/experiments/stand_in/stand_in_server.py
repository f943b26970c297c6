"""A coordinating centre without a model: it asks everyone once a round."""

import json
import time
from pathlib import Path
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Write the files of a run folder as the platform's own server does."""
    config = context.run_config
    folder = Path(str(config["output"]))
    if config["behaviour"] == "server-raises":
        raise RuntimeError("the stand-in was told to raise")
    num_sites = _wait_for_nodes(grid)
    names = [f"site-{number}" for number in range(num_sites)]
    num_rounds = int(config["num-rounds"])
    _event(folder, event="start", strategy="fedefm", num_rounds=num_rounds, sites=names)
    present: list[str] = []
    for round_number in range(num_rounds + 1):
        started = time.time()
        present = _ask(grid)
        sites = {name: {"train/loss": 0.5, "val/dice": 0.5} for name in present}
        failed = {name: "local: no frames" for name in names if name not in present}
        _event(
            folder,
            event="round",
            round=round_number,
            seconds=time.time() - started,
            sites=sites,
            failed=failed,
            edges=[],
            **{"global": {"train/loss": 0.5, "val/dice": config["fedefm.beta"]}},
        )
    missing = sorted(set(names) - set(present))
    result = {"status": "completed", "sites": present, "missing": missing, "reason": ""}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    _event(folder, event="end", status="completed", reason="")


def _wait_for_nodes(grid: Grid) -> int:
    while not list(grid.get_node_ids()):
        time.sleep(0.1)
    return len(list(grid.get_node_ids()))


def _ask(grid: Grid) -> list[str]:
    questions = [Message(RecordDict(), node, "query") for node in grid.get_node_ids()]
    replies = grid.send_and_receive(questions)
    return sorted(
        f"site-{reply.content.metric_records['metrics']['partition']}"
        for reply in replies
        if reply.has_content()
    )


def _event(folder: Path, **event: Any) -> None:  # noqa: ANN401
    line = json.dumps({"time": time.time(), **event})
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")
