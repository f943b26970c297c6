"""The coordinating centre's ServerApp: wiring only."""

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server.rounds import run_federation
from strategies.run_log import join_flowers_log

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train a foundation model with the hospitals that connect."""
    join_flowers_log()
    run_federation(grid, context.run_config)
