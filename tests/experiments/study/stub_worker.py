"""A worker that does as the name of its job says."""

import os
import time
from multiprocessing.connection import Connection
from pathlib import Path


def serve(study: Path, log_file: Path, connection: Connection) -> None:
    while True:
        try:
            name = connection.recv()
        except EOFError:
            return
        if name.startswith("dies"):
            os._exit(3)
        if name.startswith("hangs"):
            (study / "hanging").touch()
            time.sleep(600)
        (study / name).write_text(os.environ["OMP_NUM_THREADS"])
        connection.send("it fails" if name.startswith("fails") else "")
        if name.startswith("leaves"):
            os._exit(0)
